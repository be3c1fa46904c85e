"""When the timers of a processor are due next, per partition: what a loop sleeps by.

Kept in memory, so that an idle loop asks nobody: the earliest due time of each partition, whatever number of timers waits behind it. It is
read from the store when partitions are taken over, after timers have fired, and when another process has committed; a timer that this
process sets is heard of from its commit. What is set while the store is being read is not lost: the earlier of both counts, and an alarm
for nothing costs one look.

How many timers wait is counted for metrics alone, seldom and only where something has changed, because counting looks at all of them.

Neighbours: `runtime` has alarms per loop, `hosting` a count per store; `ports.Timers.next` finds the earliest of each partition without
looking at the others.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from millrace.ports import Timers

COUNT_EVERY_S = 5.0
COUNT_SHARE = 0.001
"""Of the time, at most this much is spent on counting."""


class Alarms:
    """The earliest due time per partition, in microseconds."""

    def __init__(self) -> None:
        self._next: dict[int, int] = {}
        self._meanwhile: dict[int, int] = {}

    async def load(self, timers: Timers, processor: str) -> None:
        """Read them from the store."""
        self._meanwhile = {}
        found = await timers.next(processor)
        for partition, due in self._meanwhile.items():
            found[partition] = min(due, found.get(partition, due))
        self._next = found

    def set(self, partition: int, due: int) -> bool:
        """Note that a timer was set; return whether it is the earliest of its partition."""
        if due >= self._next.get(partition, due + 1):
            return False
        self._next[partition] = self._meanwhile[partition] = due
        return True

    def due(self, partitions: Collection[int], *, until: int) -> list[int]:
        """Return which of these partitions have a timer that is due."""
        return [partition for partition, due in self._next.items() if due <= until and partition in partitions]

    def earliest(self, partitions: Collection[int]) -> int | None:
        """Return when the first timer of these partitions is due."""
        return min((due for partition, due in self._next.items() if partition in partitions), default=None)


class TimerCount:
    """How many timers wait in a store, as counted last."""

    def __init__(self) -> None:
        self.waiting = 0
        self._seen: object = None
        self._again = 0.0

    async def look(self, timers: Timers, *, changes: object) -> None:
        """Count again, if `changes` is another than last time and counting has not been done too often."""
        begin = time.monotonic()
        if changes == self._seen or begin < self._again:
            return
        self.waiting, self._seen = await timers.count(), changes
        end = time.monotonic()
        self._again = end + max(COUNT_EVERY_S, (end - begin) / COUNT_SHARE)


__all__ = ["Alarms", "TimerCount"]
