"""Following a topic of the toolkit's own, of one partition: what is said from a place on, as it comes.

Such a topic carries no CloudEvents and belongs to no service; every process reads it by itself, without positions that are kept. Reading
costs one look-up where the log grows elsewhere.

Neighbours: `control` follows the calls of operators, `timekeeping` the moves of the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from millrace.broadcast import Broadcast
from millrace.errors import Recovery
from millrace.ports import LogParts

T = TypeVar("T")
TOGETHER = 1000


class Follower(Generic[T]):
    """Reads a topic on from a place.

    Args:
        parts: the log.
        topic: its name.
        read: makes something of a record's value, None of what is not understood.
        offset: where to begin; None: at the end.
    """

    def __init__(self, parts: LogParts, topic: str, *, read: Callable[[bytes], T | None], offset: int | None = None) -> None:
        self._log, self._feed = parts.log, parts.feed
        self._topic = topic
        self._read = read
        self.offset = self.end() if offset is None else offset
        """The next one to read."""
        self._wake = Broadcast()
        self.close = parts.feed.on_change(self._changed)

    def end(self) -> int:
        """Return the newest known end of the topic."""
        return self._feed.ends().get((self._topic, 0), 0)

    def _changed(self) -> None:
        if self.end() > self.offset:
            self._wake.call()

    async def next(self, timeout_s: float | None = None) -> list[T]:
        """Return what was said since; nothing after `timeout_s` seconds.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        seen = self._wake.calls
        if self.end() <= self.offset and not await self._wake.wait(seen, timeout_s):
            return []
        try:
            records = await self._log.read(self._topic, 0, offset=self.offset, limit=TOGETHER)
        except Recovery:  # who was stopped for long missed what is not kept any more
            self.offset = self.end()
            return []
        if records:
            self.offset = records[-1].offset + 1
        return [said for record in records if record.position >= 0 and (said := self._read(record.value)) is not None]


__all__ = ["Follower"]
