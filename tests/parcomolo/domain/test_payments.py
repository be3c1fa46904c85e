"""Charging once, asking again with the same key, and giving back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from millrace import Cancel, NotYet, Timer
from parcomolo.contracts.inventory import ReservationExpired, StockReserved
from parcomolo.contracts.money import Money
from parcomolo.contracts.orders import OrderCancelled, OrderLineAdded, OrderLineRemoved, OrderRejected
from parcomolo.contracts.payments import (
    PaymentFailed,
    PaymentRefunded,
    PaymentSucceeded,
    ProcessPayment,
    RefundFailed,
    RefundPayment,
)
from parcomolo.contracts.shipping import ShippingCancelled, ShippingFailed
from parcomolo.payments import domain
from parcomolo.payments.answers import ChargeAnswered, RefundAnswered
from parcomolo.payments.domain import PaymentCase
from parcomolo.payments.messages import (
    ChargeAgain,
    ChargeCard,
    RefundAgain,
    RefundCard,
    VoidCard,
)
from parcomolo.payments.views import Payment, payment
from tests.parcomolo.domain.examples import NOON, at, line, pieces, placed

AMOUNT = Money(amount=699)
CHARGE = ChargeCard(order_id="o1", payment_id="pay-o1", amount=AMOUNT, token="tok_ok", attempt=1)
VOID = VoidCard(order_id="o1", payment_id="pay-o1")
STOP = ShippingCancelled(order_id="o1", reason="order_cancelled")
EXPIRED = ReservationExpired(order_id="o1", lines=(pieces(),))


def case(status="charging", attempt=1, **more) -> PaymentCase:
    """Return what payments knows of an order for one cheese burger."""
    amount = None if status == "waiting" else AMOUNT
    return PaymentCase(order_id="o1", status=status, lines=(line(),), token="tok_ok", amount=amount, attempt=attempt, **more)


def answered(outcome, attempt=1, reason="why") -> ChargeAnswered:
    """Return an answer of the provider."""
    return ChargeAnswered(order_id="o1", attempt=attempt, outcome=outcome, reason=reason)


def failed(reason="why", *, retryable=False, amount=AMOUNT) -> PaymentFailed:
    """Return the fact that no money is kept."""
    return PaymentFailed(order_id="o1", payment_id="pay-o1", reason=reason, retryable=retryable, amount=amount)


def test_what_was_reserved_is_charged_at_the_orders_prices():
    """The amount is the total of the content; the payment's id is the provider's key."""
    [known] = domain.remember(placed(), None)
    assert domain.charge_reserved(StockReserved(order_id="o1", lines=(pieces(),)), known) == [case(), CHARGE]


def test_a_reservation_that_overtook_the_order_waits():
    """Not known yet, or known with other content: the fact is put back, nothing is guessed."""
    reserved = StockReserved(order_id="o1", lines=(pieces("cheese", 1), pieces("bland", 2)))
    with pytest.raises(NotYet):
        domain.charge_reserved(reserved, None)
    [known] = domain.remember(placed(), None)
    with pytest.raises(NotYet):
        domain.charge_reserved(reserved, known)
    bland = line("bland")
    added = OrderLineAdded(order_id="o1", sku="bland", name="B", quantity=3, unit_price=bland.unit_price, total=AMOUNT)
    [known] = domain.change_content(added, known)
    [known] = domain.change_content(OrderLineRemoved(order_id="o1", sku="bland", quantity=1, total=AMOUNT), known)
    charging, _ = domain.charge_reserved(reserved, known)
    assert charging.amount == Money(amount=699 + 2 * 599)


def test_an_order_is_charged_once():
    """A second reservation, a late or repeated answer: nothing."""
    for status in ("charging", "retrying", "succeeded", "failed", "refunding", "refunded"):
        assert domain.charge_reserved(StockReserved(order_id="o1", lines=(pieces(),)), case(status)) == []
    assert domain.charge_answered(answered("ok"), case("succeeded")) == []
    assert domain.charge_answered(answered("ok", attempt=1), case(attempt=2)) == []


def test_a_repeated_command_is_answered_again():
    """Whoever has missed the first answer gets it; while the provider is asked, its answer is on its way."""
    pay, refund = ProcessPayment(order_id="o1", amount=AMOUNT, token="tok_ok"), RefundPayment(order_id="o1", reason="by_hand")
    paid = PaymentSucceeded(order_id="o1", payment_id="pay-o1", amount=AMOUNT)
    refunded = PaymentRefunded(order_id="o1", payment_id="pay-o1", amount=AMOUNT, reason="order_cancelled")
    declined = PaymentFailed(order_id="o1", payment_id="pay-o1", reason="card_declined", amount=AMOUNT)
    assert domain.charge_on_command(pay, case("succeeded")) == [paid]
    for known, said in ((case("refunded", stopped="order_cancelled"), refunded), (case("failed", failure="card_declined"), declined)):
        assert domain.charge_on_command(pay, known) == domain.stop_on_command(refund, known) == [said]
    for status in ("charging", "retrying", "refunding"):
        assert domain.charge_on_command(pay, case(status)) == []
    assert domain.stop_on_command(refund, case("refunding")) == []


def test_a_hard_decline_is_final():
    """Never tried again; the buyer may not either."""
    after, said = domain.charge_answered(answered("declined_hard", reason="card_declined"), case())
    assert (after.status, said) == ("failed", failed("card_declined"))


def test_a_soft_decline_is_tried_again_after_one_and_two_seconds():
    """Intermediate declines are not published; the third is final and the buyer may try again."""
    for attempt, seconds in ((1, 1), (2, 2)):
        waiting, timer = domain.charge_answered(answered("declined_soft", attempt), case(attempt=attempt))
        assert timer == Timer("charge", ChargeAgain(order_id="o1"), after=timedelta(seconds=seconds))
        assert domain.charge_again(timer.message, waiting) == [
            case(attempt=attempt + 1),
            replace(CHARGE, attempt=attempt + 1),
        ]
    assert domain.charge_answered(answered("declined_soft", 3), case(attempt=3))[1:] == [failed(retryable=True)]


def test_an_unknown_outcome_is_asked_again_with_the_same_key_and_voided_in_the_end():
    """C6: every 5 s with the same key; given up within 45 s, and voided in case it was charged after all."""
    waited = timedelta()
    for attempt in range(1, 20):
        items = domain.charge_answered(answered("unknown", attempt), case(attempt=attempt))
        if not isinstance(items[-1], Timer):
            break
        waited += items[-1].after
    assert items[1:] == [failed(retryable=True), VOID]
    assert timedelta(seconds=5) <= waited < timedelta(seconds=45)


def test_cancelling_before_the_charge_voids_it_even_before_the_order_is_known():
    """C9: the provider was never asked, so the fact has no amount; a later reservation charges nothing."""
    for known in (None, case("waiting", 0)):
        stopped, said = domain.stop(STOP, known)
        assert said == failed("order_cancelled", amount=None)
        assert domain.charge_reserved(StockReserved(order_id="o1", lines=(pieces(),)), stopped) == []
        assert domain.remember(placed(), stopped) == []


def test_cancelling_while_the_charge_is_out_refunds_it_when_it_succeeds():
    """C10: both facts are published, first the success; a decline ends it as cancelled."""
    [stopped] = domain.stop(STOP, case())
    paid, *rest = domain.charge_answered(answered("ok"), stopped)
    assert paid == PaymentSucceeded(order_id="o1", payment_id="pay-o1", amount=AMOUNT)
    assert rest[-1] == RefundCard(order_id="o1", payment_id="pay-o1", amount=AMOUNT, attempt=1)
    assert domain.charge_answered(answered("declined_soft"), stopped)[1:] == [failed("order_cancelled")]
    assert domain.charge_answered(answered("unknown"), stopped)[1:] == [failed("order_cancelled"), VOID]


def test_cancelling_between_two_attempts_asks_no_more():
    """The timer goes, and the key is voided: the last attempt may have charged."""
    items = domain.stop(STOP, case("retrying"))
    assert items == [Cancel("charge"), case("failed", failure="order_cancelled"), failed("order_cancelled"), VOID]


def test_cancelling_after_the_payment_refunds_it():
    """C11: once; after a failure there is nothing to give back."""
    refunding, request = domain.stop(STOP, case("succeeded"))
    assert request == RefundCard(order_id="o1", payment_id="pay-o1", amount=AMOUNT, attempt=1)
    assert domain.stop(STOP, refunding) == []
    for status in ("failed", "refunded"):
        assert domain.stop(ShippingFailed(order_id="o1", shipment_id="s", reason="x"), case(status)) == []


def test_an_expired_reservation_is_never_paid_later():
    """C3: a charge that is out is voided behind it and its answer ignored; a success that was said stands."""
    _, after, *said = domain.void_expired(EXPIRED, case())
    assert said == [failed("reservation_expired"), VOID]
    assert domain.charge_answered(answered("ok"), after) == []
    assert domain.void_expired(EXPIRED, case("waiting", 0))[-1] == failed("reservation_expired", amount=None)
    assert domain.void_expired(EXPIRED, case("succeeded")) == []


def test_a_payment_that_succeeds_after_the_order_ended_is_refunded():
    """Whatever is still open when an order ends is not charged, or given back."""
    ended = OrderCancelled(order_id="o1", reason="x")
    [stopped] = domain.close(ended, case())
    assert isinstance(domain.charge_answered(answered("ok"), stopped)[-1], RefundCard)
    assert isinstance(domain.close(ended, case("succeeded"))[-1], RefundCard)
    [quiet] = domain.close(OrderRejected(order_id="o1", reason="out_of_stock"), case("waiting", 0))
    assert quiet.status == "failed"
    assert domain.close(ended, None) == domain.close(ended, case("refunded")) == []


def test_a_refund_that_fails_is_tried_again_and_said_only_when_it_is_done():
    """C18: after 1, 2, 4, 8, 16 s; then a person is told, and may try once more."""
    current, waits = case("refunding", stopped="order_cancelled"), []
    while True:
        no = RefundAnswered(order_id="o1", attempt=current.attempt, refunded=False, reason="provider_error")
        items = domain.refund_answered(no, current)
        if not isinstance(items[0], Timer):
            break
        waits.append(items[0].after.total_seconds())
        current, _ = domain.refund_again(RefundAgain(order_id="o1"), current)
    assert waits == [1, 2, 4, 8, 16]
    stuck, said = items
    assert said == RefundFailed(order_id="o1", payment_id="pay-o1", reason="provider_error")
    refunding, _ = domain.stop_on_command(RefundPayment(order_id="o1", reason="by_hand"), stuck)
    yes = RefundAnswered(order_id="o1", attempt=1, refunded=True)
    done, refunded = domain.refund_answered(yes, refunding)
    assert refunded == PaymentRefunded(order_id="o1", payment_id="pay-o1", amount=AMOUNT, reason="by_hand")
    assert domain.refund_answered(yes, done) == []


def test_the_list_shows_what_became_of_each_payment():
    """One row per payment with its latest status; what the provider was never asked for is not listed."""
    row = payment(None, PaymentSucceeded(order_id="o1", payment_id="pay-o1", amount=AMOUNT), at())
    assert row == Payment(payment_id="pay-o1", order_id="o1", amount=AMOUNT, status="succeeded", at=NOON)
    refunded = payment(row, PaymentRefunded(order_id="o1", payment_id="pay-o1", amount=AMOUNT, reason="x"), at())
    assert refunded is not None
    assert refunded.status == "refunded"
    assert payment(None, failed(), at()).status == "failed"
    assert payment(None, failed(amount=None), at()) is None
