"""Records of topics as they come, from a cursor on; what a server-sent event stream is made of.

The cursor names an offset per partition, so a stream that broke resumes exactly. Neighbours: `application.tail` makes one; reading here
moves no position and belongs to no group.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import accumulate

import msgspec

from millrace.broadcast import Broadcast
from millrace.errors import Recovery, UnknownMessage
from millrace.foreign import Original, as_structured
from millrace.ports import LogParts, Record

BATCH = 200
_FOREVER = 1 << 63
_PLACE = re.compile(r"([A-Za-z0-9._-]+)/(\d{1,6})=(\d{1,19})")


class Tailed(msgspec.Struct, frozen=True):
    """A record with the cursor behind it."""

    topic: str
    partition: int
    offset: int
    value: bytes
    cursor: str


class Tail:
    """An endless reader of topics.

    Args:
        parts: the log.
        topics: which; must exist.
        after: a cursor; None starts at the end, "start" at the beginning.
    """

    def __init__(self, parts: LogParts, topics: Sequence[str], *, after: str | None) -> None:
        self._parts = parts
        self._wake = Broadcast()
        ends = parts.feed.ends()
        known = {topic for topic, _ in ends}
        unknown = sorted(set(topics) - known)
        if unknown:
            public = sorted(topic for topic in known if not topic.startswith("internal."))
            raise UnknownMessage(f"topics {unknown} do not exist; these do: {public}")
        self.offsets: dict[tuple[str, int], int] = {place: end for place, end in sorted(ends.items()) if place[0] in topics}
        if after == "start":
            self.offsets = dict.fromkeys(self.offsets, 0)
        elif after:
            self.offsets.update({place: offset for place, offset in parse_cursor(after).items() if place in self.offsets})

    @property
    def cursor(self) -> str:
        """Return where it stands."""
        return cursor_at(self.offsets)

    async def batches(self, *, idle_s: float = 15.0) -> AsyncIterator[list[Tailed]]:
        """Yield what is new; an empty list when nothing came for `idle_s`."""
        forget = self._parts.feed.on_change(self._wake.call)
        try:
            while True:
                seen = self._wake.calls
                batch = await self._read()
                if batch or not await self._wake.wait(seen, idle_s):
                    yield batch
        finally:
            forget()

    async def _read(self) -> list[Tailed]:
        """Read a consistent cut in the order of appending: what caused a record is never told after it."""
        ends = dict(self._parts.feed.ends())
        found: list[tuple[int, int, str, int, Record]] = []
        horizon = _FOREVER
        for (topic, partition), offset in self.offsets.items():
            end = ends.get((topic, partition), 0)
            if end <= offset:
                continue
            records = [record for record in await self._records(topic, partition, offset) if record.offset < end]
            if records and records[-1].offset + 1 < end:
                horizon = min(horizon, max(record.at for record in records))
            at = accumulate((record.at for record in records), max)  # a clock that was set back must not turn a partition around
            found += [(moment, record.position, topic, partition, record) for moment, record in zip(at, records, strict=True)]
        found.sort(key=lambda row: row[:2])
        told = [(self._tell(topic, partition, record), record) for at, _, topic, partition, record in found if at <= horizon]
        return [tailed for tailed, record in told if record.position >= 0]

    def _tell(self, topic: str, partition: int, record: Record) -> Tailed:
        self.offsets[topic, partition] = record.offset + 1
        value = record.value if record.headers is None else as_structured(Original(record.value, record.headers))
        return Tailed(topic, partition, record.offset, value, self.cursor)

    async def _records(self, topic: str, partition: int, offset: int) -> list[Record]:
        """Read on from an offset; where retention has removed it, from the first that is there."""
        try:
            return await self._parts.log.read(topic, partition, offset=offset, limit=BATCH)
        except Recovery:
            infos = {info.name: info for info in await self._parts.log.topics()}
            first = infos[topic].ranges[partition][0]
            return await self._parts.log.read(topic, partition, offset=first, limit=BATCH)


def cursor_at(offsets: Mapping[tuple[str, int], int]) -> str:
    """Return the cursor of the next offset of each (topic, partition)."""
    return ",".join(f"{topic}/{partition}={offset}" for (topic, partition), offset in offsets.items())


def parse_cursor(text: str) -> dict[tuple[str, int], int]:
    """Return the offsets that a cursor names.

    Raises:
        ValueError: it is malformed.
    """
    offsets: dict[tuple[str, int], int] = {}
    for part in text.split(","):
        found = _PLACE.fullmatch(part)
        if found is None:
            raise ValueError(f"not a cursor: {part!r}; expected <topic>/<partition>=<offset>,...")
        offsets[found[1], int(found[2])] = int(found[3])
    return offsets
