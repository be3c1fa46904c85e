"""What happens to a message that could not be handled: it waits, is tried again, and in the end lies in the dead letters.

States of a held message, per (topic, key), in the order of the log:

    retry    its function raised; tried again when `due`
    not_yet  its function said NotYet; tried again when another message of its key was handled, or after a second; until `deadline`
    behind   a message of its key before it waits or is dead
    dead     given up, or never readable; later messages of its key stay behind it until an operator decides

Every change of state is part of the transaction that also moves the position, so nothing is dropped and nothing is tried twice after
success. Attempts and due times are in the row, so they outlive every process. Other keys flow on.

A message without a key (its key is empty) waits like any other, but nothing stays behind it when it is dead: an empty key is also what a
record that cannot be read has.

Pauses grow exponentially with **full jitter**: each is a random part of its bound, from nothing to all of it, so that messages that
failed together do not come back together. (Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.) Where the
randomness comes from is a value of the policy.

Neighbours: `outcomes` asks `RetryPolicy` what becomes of a failure; `classification` says what kind it is.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable

import msgspec

from millrace.classification import Classify, Kind, checked, kind_of
from millrace.delivery import Delivery
from millrace.errors import ConfigurationError, NotYet
from millrace.held import HeldRow

RELAY = "relay"
"""The processor under which rows that the log cannot take are held."""
RETRY, NOT_YET, BEHIND, DEAD = "retry", "not_yet", "behind", "dead"
NOT_YET_AGAIN_S = 1.0


class FailureLimit(msgspec.Struct, frozen=True):
    """So many dead letters are no bad messages any more but a bad handler, or bad input: then the consumer stops itself.

    It is stopped as an operator would stop it, with the reason, and goes on after `consumers start`. Records that cannot be read count too.
    Each instance counts for itself, over restarts.

    Args:
        run: so many dead letters in a row, with nothing handled in between.
        share: or this share of about the last `of` messages that were handled or died.
        of: see `share`.

    Raises:
        ConfigurationError: a value cannot work.
    """

    run: int = 1000
    share: float = 0.5
    of: int = 10_000

    def __post_init__(self) -> None:
        """Check the values."""
        if self.run < 1 or not 0 < self.share <= 1 or self.of < 1:
            raise ConfigurationError(f"a failure limit needs run and of from 1, a share above 0 up to 1; found {self}")


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often and how soon a failed message is tried again, and which failures are worth it.

    Args:
        attempts: tries in all before it becomes a dead letter.
        first_s: longest pause before the second try; every pause is a random part of its longest.
        factor: growth of the pause.
        most_s: longest pause ever.
        classify: kinds of failures by exception class (`{ValueError: "poison"}`), or a function of the exception that may return None; what
            it does not know is judged by default, see `millrace.classification`.
        limit: when a consumer stops itself; None for never. That of the application counts for all handlers of a processor.
        jitter: returns the part of the longest pause that is waited, from 0 to 1; `random.Random(seed).random` repeats itself.

    Raises:
        ConfigurationError: a value cannot work.
    """

    attempts: int = 5
    first_s: float = 0.1
    factor: float = 3.0
    most_s: float = 60.0
    classify: Classify | None = None
    limit: FailureLimit | None = FailureLimit()
    jitter: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        """Check the values."""
        if self.attempts < 1 or self.first_s < 0 or self.factor < 1 or self.most_s < 0:
            raise ConfigurationError(f"a retry policy needs attempts and factor from 1, pauses from 0; found {self}")
        if self.classify is not None and not callable(self.classify):
            for kind in self.classify.values():
                checked(kind)

    def kind_of(self, error: BaseException) -> Kind:
        """Return what a failure says about its message."""
        return kind_of(error, self.classify)

    def pause_s(self, attempts: int) -> float:
        """Return the longest pause after that many failed attempts, in seconds."""
        grown = self.factor ** min(attempts - 1, 64)  # beyond that every sensible policy has reached its longest pause
        return min(self.first_s * grown, self.most_s)

    def after_failure(self, delivery: Delivery, error: Exception, *, processor: str, now_micros: int) -> HeldRow:
        """Return the row for a message whose function raised: it waits, or is dead."""
        row = failed_row(delivery, error, processor=processor, now_micros=now_micros)
        row.attempts = delivery.attempt
        if delivery.attempt >= self.attempts or self.kind_of(error) is Kind.POISON:
            row.state, row.due = DEAD, 0
        else:
            row.due = now_micros + self._pause_micros(delivery.attempt)
        return row

    def uncounted(self, delivery: Delivery, error: Exception, *, processor: str, now_micros: int) -> HeldRow:
        """Return the row for a message whose failure was none of its own, because what it needs is down: it waits, no attempt is used."""
        row = failed_row(delivery, error, processor=processor, now_micros=now_micros)
        row.attempts = delivery.attempt - 1
        row.due = now_micros + self._pause_micros(delivery.attempt)
        return row

    def _pause_micros(self, attempts: int) -> int:
        return int(self.pause_s(attempts) * self.jitter() * 1_000_000)


def failed_row(delivery: Delivery, error: BaseException, *, processor: str, now_micros: int) -> HeldRow:
    """Return a row that says why a message failed; it is due at once and has used no attempt."""
    row = held_row(delivery, RETRY, processor=processor, now_micros=now_micros)
    row.attempts, row.due = delivery.attempt - 1, now_micros
    row.reason, row.detail = type(error).__name__, describe(error)
    return row


def not_yet(
    delivery: Delivery, answer: NotYet, *, processor: str, before: HeldRow | None, now_micros: int, unmoved_micros: int | None = None
) -> HeldRow:
    """Return the row for a message that waits for another of its key; dead when its deadline has passed.

    The deadline is in time that nobody can move: that the clock was moved does not mean that the other message will not come.
    """
    unmoved = now_micros if unmoved_micros is None else unmoved_micros
    row = held_row(delivery, NOT_YET, processor=processor, now_micros=now_micros)
    row.reason, row.detail = "not_yet", answer.reason
    row.attempts = before.attempts if before is not None else 0  # waiting is no failed attempt
    row.deadline = before.deadline if before is not None and before.deadline else unmoved + to_micros_span(answer)
    row.due = now_micros + int(NOT_YET_AGAIN_S * 1_000_000)
    if unmoved > row.deadline:
        row.state, row.reason = DEAD, "deadline"
    return row


def to_micros_span(answer: NotYet) -> int:
    """Return how long a message may wait, in microseconds."""
    return int(answer.deadline.total_seconds() * 1_000_000)


def held_row(delivery: Delivery, state: str, *, processor: str, now_micros: int, key: str | None = None) -> HeldRow:
    """Return a row that keeps a message with its original bytes."""
    return HeldRow(
        processor=processor,
        topic=delivery.topic,
        partition=delivery.partition,
        offset=delivery.offset,
        key=delivery.key if key is None else key,
        state=state,
        value=delivery.value,
        first_at=now_micros,
    )


def describe(error: BaseException) -> str:
    """Return an error with the last frames of its traceback, as operators want to see it."""
    return "".join(traceback.format_exception(error, limit=-4))[-4000:]


__all__ = ["BEHIND", "DEAD", "NOT_YET", "RELAY", "RETRY", "FailureLimit", "RetryPolicy", "describe", "failed_row", "held_row", "not_yet"]
