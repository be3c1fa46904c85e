"""How many sagas are under way, by status, and which are stuck: what figures and health say of them.

Counted are rows of the index by status (see `saga_instance`), of the statuses in which somebody still waits for something. What has ended
stands elsewhere in the index, so a million of them cost nothing; pages begin small and grow, so that little of what stands behind a short
list is read. Of a stuck one its row says since when, so no instance is read either, but for rows that an earlier release has written.

Counting is done only where something has changed, and seldom: a thousandth of the time, however many are under way.

Neighbours: `hosting` has one per service and looks about once a second; `metrics` and `health` show it, `doctor` counts with it.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Iterable, Sequence

import msgspec

from millrace.clock import from_micros
from millrace.due_times import COUNT_EVERY_S, COUNT_SHARE
from millrace.keyed import decoder_of
from millrace.ports import States
from millrace.saga_instance import INDEX_KIND, STUCK, UNDER_WAY, SagaInstance, index_key, index_since
from millrace.saga_pattern import SagaPattern

IDS_MAX = 10
"""So many stuck instances are named."""
PAGE_FIRST, PAGE_MAX = 20, 1000
Since = tuple[int, str]
"""Since when (microseconds of business time), and which instance."""


class StuckSagas(msgspec.Struct, frozen=True):
    """The stuck instances of a saga: how many, since when the oldest is (microseconds of business time), and the ids of the oldest ones."""

    saga: str
    count: int
    since: int
    ids: tuple[str, ...]

    @property
    def text(self) -> str:
        """Return it in words."""
        since = from_micros(self.since).isoformat(timespec="seconds").replace("+00:00", "Z")
        more = ", ..." if self.count > len(self.ids) else ""
        return f"{self.count:,} stuck, the oldest since {since}: {', '.join(self.ids)}{more}"


class SagaWatch:
    """The sagas of a service that are under way, as counted last.

    Args:
        sagas: what the service declares.

    Attributes:
        counts: how many there are, by (saga, status); empty before the first look.
        stuck: of each saga that has any.
    """

    def __init__(self, sagas: Iterable[SagaPattern]) -> None:
        self.counts: dict[tuple[str, str], int] = {}
        self.stuck: tuple[StuckSagas, ...] = ()
        self._sagas = tuple(sagas)
        self._seen: object = None
        self._again = 0.0

    async def look(self, states: States, *, changes: object) -> None:
        """Count again, if `changes` is another than last time and counting has not been done too often."""
        begin = time.monotonic()
        if not self._sagas or changes == self._seen or begin < self._again:
            return
        await self.count(states)
        self._seen, end = changes, time.monotonic()
        self._again = end + max(COUNT_EVERY_S, (end - begin) / COUNT_SHARE)

    async def count(self, states: States) -> None:
        """Count now."""
        counts: dict[tuple[str, str], int] = {}
        stuck: list[StuckSagas] = []
        for pattern in self._sagas:
            for status in UNDER_WAY:
                oldest: list[Since] = []
                count = 0
                async for rows in _pages(states, index_key(pattern.name, status, "")):
                    count += len(rows)
                    if status == STUCK:
                        oldest = heapq.nsmallest(IDS_MAX, [*oldest, *await _dated(states, pattern, rows)])
                counts[pattern.name, status] = count
                if oldest:
                    stuck.append(StuckSagas(pattern.name, count, oldest[0][0], tuple(id for _, id in oldest)))
        self.counts, self.stuck = counts, tuple(stuck)


async def _pages(states: States, prefix: str) -> AsyncIterator[Sequence[tuple[str, bytes]]]:
    """Yield (id, value) of the index rows below a prefix, in pages."""
    after, limit = prefix, PAGE_FIRST
    while True:
        page = await states.page(INDEX_KIND, after=after, limit=limit)
        rows = [(key.removeprefix(prefix), value) for key, value in page if key.startswith(prefix)]
        yield rows
        if len(rows) < limit:
            return
        after, limit = page[-1][0], min(2 * limit, PAGE_MAX)
        await asyncio.sleep(0)  # the embedded engine answers without ever waiting


async def _dated(states: States, pattern: SagaPattern, rows: Sequence[tuple[str, bytes]]) -> list[Since]:
    """Return since when stuck instances are; of rows that do not say it, by when the instance has changed last."""
    found = [(index_since(value), id) for id, value in rows]
    if unknown := [id for since, id in found if not since]:
        stored = await states.load(pattern.row.__kind__.name, unknown)
        instances: list[SagaInstance] = [decoder_of(pattern.row)(value) for value in stored.values()]
        changed = {instance.id: instance.changed_at for instance in instances}
        found = [(since or changed.get(id, 0), id) for since, id in found]
    return found


__all__ = ["SagaWatch", "StuckSagas"]
