"""Retries: how long, how often, and when it is over."""

from __future__ import annotations

from datetime import timedelta

import pytest

from millrace import NotYet, RetryPolicy
from millrace.delivery import Delivery
from millrace.retry import describe, not_yet
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
