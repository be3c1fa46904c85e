"""The simulated provider and carrier: tokens choose what happens, and a key is charged once."""

from __future__ import annotations

import pytest

from parcomolo.contracts.lines import ShipTo
from parcomolo.contracts.money import Money
from parcomolo.payments.provider import ChargeResult, SimulatedProvider
from parcomolo.shipping.carrier import SimulatedCarrier

AMOUNT = Money(amount=699)


@pytest.fixture
def ledger(tmp_path):
    """Return the path of a ledger."""
    return tmp_path / "provider.sqlite"


@pytest.fixture
def provider(ledger):
    """Return a provider with an empty ledger."""
    provider = SimulatedProvider(ledger)
    yield provider
    provider.close()


@pytest.mark.parametrize(
    "token, outcomes, state",
    [
        ("tok_ok", ["ok", "ok"], "charged"),
        ("tok_declined", ["declined_hard", "declined_hard"], "declined"),
        ("tok_insufficient_funds", ["declined_soft", "declined_soft", "ok", "ok"], "charged"),
        ("tok_timeout_then_ok", ["unknown", "ok", "ok"], "charged"),
        ("tok_timeout", ["unknown", "unknown", "unknown"], "charged"),
        ("tok_of_nobody", ["declined_hard"], "declined"),
    ],
)
async def test_tokens_choose_the_outcome_and_a_key_is_charged_once(provider, token, outcomes, state):
    """However often it is asked with one key, there is one charge."""
    got = [(await provider.charge("k", amount=AMOUNT, token=token)).outcome for _ in outcomes]
    assert got == outcomes
    [charge] = provider.charges()
    assert (charge.state, charge.asked, charge.amount) == (state, len(outcomes), AMOUNT)


async def test_an_unknown_token_is_named_as_the_reason(provider):
    """The buyer's mistake is told apart from the bank's no."""
    assert await provider.charge("k", amount=AMOUNT, token="?") == ChargeResult("declined_hard", "unknown_token")


async def test_the_third_refund_succeeds_and_later_ones_change_nothing(provider):
    """`tok_refund_fails_twice`; what was not charged cannot be refunded."""
    await provider.charge("k", amount=AMOUNT, token="tok_refund_fails_twice")
    assert [(await provider.refund("k", amount=AMOUNT)).refunded for _ in range(4)] == [False, False, True, True]
    assert provider.charges()[0].state == "refunded"
    assert not (await provider.refund("other", amount=AMOUNT)).refunded


async def test_a_voided_key_keeps_no_money_and_takes_none_later(provider):
    """Voiding leaves a tombstone, so a charge that arrives behind it takes nothing."""
    await provider.charge("k", amount=AMOUNT, token="tok_timeout")
    await provider.void("k")
    await provider.void("early")
    assert (await provider.charge("early", amount=AMOUNT, token="tok_ok")).outcome == "declined_hard"
    assert {charge.key: charge.state for charge in provider.charges()} == {"k": "voided", "early": "voided"}


async def test_the_ledger_outlives_the_process(provider, ledger):
    """Another process sees the charge: that is how `charged once` is shown after a kill -9."""
    await provider.charge("k", amount=AMOUNT, token="tok_ok")
    other = SimulatedProvider(ledger)
    assert (await other.find("k")) == provider.charges()[0]
    assert await other.find("none") is None
    other.close()


async def test_the_carrier_refuses_one_addressee():
    """`FAIL_SHIPPING` cannot be booked; anybody else can, and unbooked again."""
    carrier = SimulatedCarrier()
    assert (await carrier.book("s", ship_to=ShipTo(name="FAIL_SHIPPING"))).refusal == "address_unknown"
    assert (await carrier.book("s", ship_to=None)).refusal is None
    await carrier.unbook("s")
