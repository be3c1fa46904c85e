"""What happens to a message that could not be handled: it waits, is tried again, and in the end lies in the dead letters.

States of a held message, per (topic, key), in the order of the log:

    retry    its function raised; tried again when `due`
    not_yet  its function said NotYet; tried again when another message of its key was handled, or after a second; until `deadline`
    behind   a message of its key before it waits or is dead
    dead     given up, or never readable; later messages of its key stay behind it until an operator decides

Every change of state is part of the transaction that also moves the position, so nothing is dropped and nothing is tried twice after
success. Other keys flow on.

Neighbours: `turn` asks `RetryPolicy` what becomes of a failure and stores the rows made here.
"""

from __future__ import annotations

import traceback

import msgspec

from millrace.delivery import Delivery
from millrace.errors import NotYet
from millrace.ports import HeldRow

RELAY = "relay"
"""The processor under which rows that the log cannot take are held."""
RETRY, NOT_YET, BEHIND, DEAD = "retry", "not_yet", "behind", "dead"
NOT_YET_AGAIN_S = 1.0


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often and how soon a failed message is tried again.

    Args:
        attempts: tries in all before it becomes a dead letter.
        first_s: pause before the second try.
        factor: growth of the pause.
        most_s: longest pause.
    """

    attempts: int = 5
    first_s: float = 0.1
    factor: float = 3.0
    most_s: float = 60.0

    def pause_s(self, attempts: int) -> float:
        """Return the pause after that many failed attempts, in seconds."""
        grown = self.factor ** min(attempts - 1, 64)  # beyond that every sensible policy has reached its longest pause
        return min(self.first_s * grown, self.most_s)

    def after_failure(self, delivery: Delivery, error: Exception, *, processor: str, now_micros: int) -> HeldRow:
        """Return the row for a message whose function raised."""
        row = held_row(delivery, RETRY, processor=processor, now_micros=now_micros)
        row.attempts = delivery.attempt
        row.reason, row.detail = type(error).__name__, describe(error)
        if delivery.attempt >= self.attempts:
            row.state = DEAD
        else:
            row.due = now_micros + int(self.pause_s(delivery.attempt) * 1_000_000)
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


__all__ = ["BEHIND", "DEAD", "NOT_YET", "RELAY", "RETRY", "RetryPolicy", "describe", "held_row", "not_yet"]
