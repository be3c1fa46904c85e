"""Retries: how long, how often, and when it is over."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from millrace import Breaker, ConfigurationError, NotYet, Rejected, RetryPolicy
from millrace.breaker import Tally
from millrace.delivery import Delivery
from millrace.errors import Fatal, Poison, Transient
from millrace.retry import FailureLimit, describe, not_yet
from millrace.serialization import Envelope

NOW = 1_000_000_000_000_000


def delivery(*, attempt: int = 1) -> Delivery:
    """A message on its way."""
    found = Delivery()
    found.envelope = Envelope("id-1", "/x", "t")
    found.topic, found.partition, found.offset, found.key, found.value = "orders", 2, 7, "k", b"bytes"
    found.attempt = attempt
    return found


def test_pauses_grow_up_to_a_limit() -> None:
    """The pause is multiplied each time, and bounded however many attempts there were."""
    policy = RetryPolicy(attempts=10_000, first_s=0.1, factor=3.0, most_s=60.0)
    assert [round(policy.pause_s(n), 3) for n in (1, 2, 3, 6, 7)] == [0.1, 0.3, 0.9, 24.3, 60.0]
    assert policy.pause_s(9_999) == 60.0


@pytest.mark.parametrize("attempt, state, due", [(1, "retry", NOW + 100_000), (2, "retry", NOW + 300_000), (3, "dead", 0)])
def test_failures_are_counted(attempt: int, state: str, due: int) -> None:
    """A failure waits for its pause; the last one is a dead letter with reason, attempts and bytes."""
    policy = RetryPolicy(attempts=3, jitter=lambda: 1.0)
    row = policy.after_failure(delivery(attempt=attempt), ValueError("x"), processor="p", now_micros=NOW)
    assert (row.state, row.due, row.attempts, row.reason) == (state, due, attempt, "ValueError")
    assert (row.processor, row.topic, row.partition, row.offset, row.key, row.value) == ("p", "orders", 2, 7, "k", b"bytes")
    assert "ValueError: x" in row.detail


def test_pauses_have_full_jitter() -> None:
    """Pauses spread over all of their bound, so that messages that failed together do not come back together; a seed repeats them."""
    seed = random.randrange(1 << 32)  # printed below
    policies = [RetryPolicy(first_s=10.0, jitter=random.Random(seed).random) for _ in range(2)]  # pauses
    found = [
        [policy.after_failure(delivery(), ValueError(), processor="p", now_micros=NOW).due - NOW for _ in range(1000)]
        for policy in policies
    ]
    assert found[0] == found[1], f"seed {seed}"
    tenths = [sum(n <= pause / 1_000_000 < n + 1 for pause in found[0]) for n in range(10)]
    assert sum(tenths) == 1000, f"seed {seed}"
    assert min(tenths) > 50, f"seed {seed}: {tenths}"


def test_poison_is_dead_at_once_and_an_outage_uses_nothing_up() -> None:
    """What can never be handled is not tried again; what failed with what it needs keeps its attempts."""
    policy = RetryPolicy(attempts=3)
    dead = policy.after_failure(delivery(), Poison("never"), processor="p", now_micros=NOW)
    assert (dead.state, dead.attempts, dead.due) == ("dead", 1, 0)
    waiting = policy.uncounted(delivery(attempt=3), ConnectionError(), processor="p", now_micros=NOW)
    assert (waiting.state, waiting.attempts) == ("retry", 2)


@pytest.mark.parametrize(
    "error, classify, kind",
    [
        (ConnectionResetError(), None, "transient"),
        (TimeoutError(), None, "transient"),
        (Transient("later"), None, "transient"),
        (ValueError(), None, "transient"),
        (TypeError(), None, "poison"),
        (UnboundLocalError(), None, "poison"),
        (Poison("never"), None, "poison"),
        (Rejected("no"), None, "refused"),
        (Fatal("stop"), None, "fatal"),
        (UnicodeDecodeError("utf-8", b"", 0, 1, ""), {ValueError: "poison", UnicodeError: "fatal"}, "fatal"),
        (TypeError(), lambda _: None, "poison"),
        (TypeError(), lambda _: "transient", "transient"),
    ],
)
def test_failures_have_kinds(error: Exception, classify: Any, kind: str) -> None:
    """The nearest class decides, the user's word first."""
    assert RetryPolicy(classify=classify).kind_of(error) == kind


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: RetryPolicy(attempts=0), "attempts=0"),
        (lambda: RetryPolicy(classify={ValueError: "bad"}), "'bad' is no kind of failure; choose from transient, refused, poison, fatal"),
        (lambda: RetryPolicy(classify=lambda _: "bad").kind_of(ValueError()), "'bad' is no kind"),
        (lambda: FailureLimit(share=1.5), "share=1.5"),
        (lambda: Breaker(""), "it needs a name"),
        (lambda: Breaker("x", first_s=2.0, most_s=1.0), "most_s=1.0"),
    ],
)
def test_settings_that_cannot_work_are_named(make: Any, says: str) -> None:
    """A mistake is found where it is made."""
    with pytest.raises(ConfigurationError, match=says):
        make()


def test_a_share_is_one_of_the_last() -> None:
    """What happened long ago fades, so a share says something of now."""
    tally = Tally()
    tally.note_good(10_000, of=100)
    said = 0
    while not tally.exceeds("calls", run=1000, share=0.5, of=100):
        tally.note_bad(of=100)
        said += 1
    assert 50 <= said <= 100
    for _ in range(100 - said):
        tally.note_bad(of=100)
    assert tally.exceeds("calls", run=100, share=1.0, of=1000) == "100 calls in a row"
    tally.note_good(1, of=100)
    assert tally.exceeds("calls", run=1, share=1.0, of=100) == ""


def test_waiting_has_one_deadline() -> None:
    """The first NotYet sets the deadline; later ones keep it; after it the message is a dead letter."""
    answer = NotYet("the order", deadline=timedelta(seconds=10))
    first = not_yet(delivery(), answer, processor="p", before=None, now_micros=NOW)
    assert (first.state, first.deadline, first.detail) == ("not_yet", NOW + 10_000_000, "the order")
    second = not_yet(delivery(attempt=2), answer, processor="p", before=first, now_micros=NOW + 9_000_000)
    assert (second.state, second.deadline) == ("not_yet", first.deadline)
    last = not_yet(delivery(attempt=3), answer, processor="p", before=second, now_micros=NOW + 10_000_001)
    assert (last.state, last.reason, last.detail) == ("dead", "deadline", "the order")


def test_waiting_is_no_attempt() -> None:
    """What waits keeps the failed attempts it had before, and adds none."""
    answer, failed = NotYet("the order"), RetryPolicy().after_failure(delivery(attempt=2), ValueError(), processor="p", now_micros=NOW)
    assert not_yet(delivery(), answer, processor="p", before=None, now_micros=NOW).attempts == 0
    assert not_yet(delivery(attempt=3), answer, processor="p", before=failed, now_micros=NOW).attempts == 2


def test_descriptions_are_bounded() -> None:
    """An error of any size is described within bounds, its end kept."""
    text = describe(ValueError("x" * 100_000 + "END"))
    assert len(text) <= 4000
    assert text.rstrip().endswith("END")
