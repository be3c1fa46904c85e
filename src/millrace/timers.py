"""Durable timers: a message that a handler sends to itself later.

A timer is stored with its due time in the transaction that set it and fired by the owner of its key's partition as a message
of that key, in a transaction that also removes it: it fires once, and a kill -9 in between changes nothing.

Neighbours: handlers return `Timer` and `Cancel`; the runtime stores them and fires what is due.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from millrace.message import Command


class Timer(msgspec.Struct, frozen=True):
    """Fire `message` later, to the same processor, as a message of the key of the message being handled.

    Identity is (processor, key, name): a new timer replaces one of the same name.

    Args:
        name: what is timed.
        message: the command to fire.
        after: from now; or
        at: the moment, aware.
        event_time: fire when the partition's input has passed `at`, or is idle and the clock has; so an answer that waits
            in the log while the service was down is seen before the deadline is judged. While the log is away, and for as long
            again, at most half a minute, nothing counts as idle.
    """

    name: str
    message: Command
    after: timedelta | None = None
    at: datetime | None = None
    event_time: bool = False

    def __post_init__(self) -> None:
        """Check that exactly one of the two ways to say when is used."""
        if (self.after is None) == (self.at is None):
            raise ValueError(f"timer {self.name!r}: give either after= or at=")

    def due(self, now: datetime) -> datetime:
        """Return the moment it is due."""
        return self.at if self.at is not None else now + (self.after or timedelta())


class Cancel(msgspec.Struct, frozen=True):
    """Forget the timer of this name (same processor, same key), if there is one."""

    name: str
