"""Dead letters as operators deal with them, and those they have closed.

What is taken is locked as it is read, so two operators that want the same letter come one after the other.

Neighbours: implements `Letters` of `ports`; the table `held` is written by `progress`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from millrace.engines.postgres.arrays import Value, scalar
from millrace.engines.postgres.progress import packed, restored_row
from millrace.engines.postgres.table import Table
from millrace.held import ClosedRow, HeldPlace, HeldRow, LetterFilter, LetterGroup, Mark


class PostgresLetters(Table):
    """See `ports.Letters`."""

    async def page(self, wanted: LetterFilter, *, after: Mark, limit: int) -> list[HeldRow]:
        """Return dead letters behind a mark, oldest first."""
        rows = await self._all("page_letters", *_filtered(wanted), *map(scalar, after[:5]), scalar(limit))
        return [HeldRow(*restored_row(row)) for row in rows]

    async def take(self, places: Sequence[HeldPlace]) -> list[HeldRow]:
        """Return what is held at places, locked in a write transaction."""
        if not places:
            return []
        rows = await self._locked("take_letters", *packed(zip(*sorted(set(places)), strict=True)))
        return [HeldRow(*restored_row(row)) for row in rows]

    async def groups(self, wanted: LetterFilter) -> list[LetterGroup]:
        """Return dead letters by fingerprint, processor and reason."""
        return [LetterGroup(*restored_row(row)) for row in await self._all("group_letters", *_filtered(wanted))]

    async def behind(self, rows: Sequence[HeldRow]) -> list[int]:
        """Return how many messages wait behind each."""
        if not rows:
            return []
        columns = zip(*((r.processor, r.topic, r.partition, r.offset, r.key) for r in rows), strict=True)
        return [count for (count,) in await self._all("count_behind", *packed(columns))]

    async def close(self, rows: Sequence[ClosedRow]) -> None:
        """Keep letters as closed."""
        if rows:
            values = [msgspec.structs.astuple(row) for row in rows]
            self._put("close_letters", *packed(zip(*((*each[:4], *each[5:]) for each in values), strict=True)))

    async def closed(self, wanted: LetterFilter, *, after: Mark, limit: int) -> list[ClosedRow]:
        """Return closed letters behind a mark, in the order of closing."""
        rows = await self._all("closed_letters", *_filtered(wanted), *map(scalar, after), scalar(limit))
        return [ClosedRow(*restored_row(row)) for row in rows]

    async def expire(self, *, before: int) -> int:
        """Forget letters closed before a time."""
        self._put("empty_closed", scalar(before))
        return (await self._all("forget_closed", scalar(before)))[0][0]


def _filtered(wanted: LetterFilter) -> list[Value]:
    return [scalar(value) for value in msgspec.structs.astuple(wanted)]
