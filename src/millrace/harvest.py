"""Reads records for a turn: a bounded number over all partitions, in turn, opened and decoded.

Neighbours: `runtime` has one per processor that has no workers; `turn` handles what it returns.
"""

from __future__ import annotations

from collections.abc import Mapping

from millrace.intake import Intake
from millrace.ports import LogParts
from millrace.read_position import Replay
from millrace.replay import part
from millrace.turn import Chunk, Place


class Harvest:
    """See the module.

    Args:
        intake: opens records.
        parts: the log.
    """

    def __init__(self, intake: Intake, parts: LogParts) -> None:
        self._intake = intake
        self._log = parts.log
        self._feed = parts.feed
        self._rotation = 0

    async def read(self, offsets: Mapping[Place, int], *, replays: Mapping[Place, Replay], limit: int) -> list[Chunk]:
        """Return what comes at these offsets, `limit` records at most; another partition comes first each time."""
        ends, chunks = self._feed.ends(), list[Chunk]()
        places = sorted(place for place, offset in offsets.items() if ends.get(place, 0) > offset)
        if not places:
            return chunks
        self._rotation += 1
        for i in range(len(places)):
            place = places[(i + self._rotation) % len(places)]
            chunk = await self._read_place(place, offsets[place], limit=limit, replay=replays.get(place))
            if chunk is None:
                continue
            chunks.append(chunk)
            limit -= chunk.next - chunk.first
            if limit <= 0:
                break
        return chunks

    async def _read_place(self, place: Place, offset: int, *, limit: int, replay: Replay | None) -> Chunk | None:
        records = await self._log.read(place[0], place[1], offset=offset, limit=limit)
        if not records:
            return None
        opened = self._intake.open(place[0], place[1], records)
        chunk = Chunk(
            place[0],
            place[1],
            offset,
            records[-1][0] + 1,
            opened.deliveries,
            opened.ignored,
            opened.sources,
            opened.latest,
            opened.urgent,
        )
        if replay is not None and offset < replay.known:
            parted = part(chunk.deliveries, replay)
            chunk.deliveries, chunk.again, chunk.repeats = parted.fresh, parted.again, parted.repeats
        return chunk


__all__ = ["Harvest"]
