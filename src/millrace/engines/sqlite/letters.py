"""Dead letters as operators deal with them, and those they have closed.

Neighbours: implements `Letters` of `ports`; the table `held` is written by `progress`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from millrace.engines.sqlite.table import Table, json_text
from millrace.held import ClosedRow, HeldPlace, HeldRow, LetterFilter, LetterGroup, Mark


class SqliteLetters(Table):
    """See `ports.Letters`."""

    async def page(self, wanted: LetterFilter, *, after: Mark, limit: int) -> list[HeldRow]:
        """Return dead letters behind a mark, oldest first."""
        return [HeldRow(*row) for row in self._all("page_letters", (*_filtered(wanted), *after[:5], limit))]

    async def take(self, places: Sequence[HeldPlace]) -> list[HeldRow]:
        """Return what is held at places."""
        return [HeldRow(*row) for row in self._all("take_letters", (json_text(places),))]

    async def groups(self, wanted: LetterFilter) -> list[LetterGroup]:
        """Return dead letters by fingerprint, processor and reason."""
        last = {tuple(row[:3]): row[3] for row in self._all("last_of_groups", _filtered(wanted))}
        found = self._all("group_letters", _filtered(wanted))
        return [
            LetterGroup(fingerprint, processor, reason, count, size, first, last[fingerprint, processor, reason], *example)
            for fingerprint, processor, reason, count, size, first, *example in found
        ]

    async def behind(self, rows: Sequence[HeldRow]) -> list[int]:
        """Return how many messages wait behind each."""
        return [self._all("count_behind", (r.processor, r.topic, r.partition, r.key, r.offset))[0][0] for r in rows]

    async def close(self, rows: Sequence[ClosedRow]) -> None:
        """Keep letters as closed."""
        self._many("close_letter", [_numberless(row) for row in rows])

    async def closed(self, wanted: LetterFilter, *, after: Mark, limit: int) -> list[ClosedRow]:
        """Return closed letters behind a mark, in the order of closing."""
        return [ClosedRow(*row) for row in self._all("closed_letters", (*_filtered(wanted), *after, limit))]

    async def expire(self, *, before: int) -> int:
        """Forget letters closed before a time."""
        self._all("forget_closed", (before,))
        gone = self._changes()
        self._all("empty_closed", (before,))
        return gone


def _filtered(wanted: LetterFilter) -> tuple[Any, ...]:
    return msgspec.structs.astuple(wanted)


def _numberless(row: ClosedRow) -> tuple[Any, ...]:
    values = msgspec.structs.astuple(row)
    return (*values[:4], *values[5:])
