"""The journal table: event store and outbox.

Positions are taken from the table's AUTOINCREMENT sequence, which SQLite keeps even when every row is gone, so a position is never
given twice. `reserve` and `append` run in one write transaction, and SQLite has one writer, so rows become visible in order.

Neighbours: implements `Journal` of `ports`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from millrace.engines.sqlite.table import Table, json_text
from millrace.ports import JournalEntry, JournalRow, StreamRow, rows_of
from millrace.serialization import cut_by_bytes

_FOREVER = (1 << 63) - 1
TAIL_BYTES_MAX = 8 << 20


class SqliteJournal(Table):
    """See `ports.Journal`."""

    async def streams(self, after: Mapping[str, int], *, until: int | None = None) -> list[StreamRow]:
        """Return the events of streams above a version each."""
        return rows_of(StreamRow, self._all("streams", (json_text(after), _FOREVER if until is None else until)))

    async def snapshots(self, streams: Sequence[str]) -> dict[str, bytes]:
        """Return the snapshots that exist."""
        return dict(self._all("load_snapshots", (json_text(streams),)))

    async def reserve(self, count: int) -> int:
        """Return the first of `count` positions."""
        del count  # nothing to write down: this transaction holds the only write lock until its rows are there
        return await self.head() + 1

    async def append(self, rows: Sequence[JournalEntry], *, snapshots: Sequence[tuple[str, bytes]] = ()) -> None:
        """Append rows at reserved positions; replace snapshots of streams."""
        self._many("append_journal", rows)
        self._many("save_snapshots", snapshots)

    async def tail(self, after: int, *, limit: int) -> tuple[list[JournalRow], int]:
        """Return the next rows to publish, and the position up to which was looked."""
        found = rows_of(JournalRow, self._all("tail_journal", (after, limit)))
        cut_by_bytes(found, TAIL_BYTES_MAX)
        upto = found[-1][0] if found else after
        return [row for row in found if row[1]], upto

    async def head(self) -> int:
        """Return the last position given."""
        return self._all("last_position")[0][0]

    async def counts(self, until: int) -> tuple[int, int, int, int]:
        """Return (rows ever appended, rows there, rows removed by retention, rows up to a position that are or were for the log)."""
        there, removed = self._all("count_journal")[0]
        return await self.head(), there, int(removed), int(removed) + self._all("count_published", (until,))[0][0]

    async def rows_between(self, after: int, *, until: int) -> tuple[int, int]:
        """Return (last position given, rows there in (after, until]); see `millrace.sight`."""
        return self._all("journal_rows", (after, until))[0]

    async def trim(self, *, after: int, until: int, limit: int) -> tuple[int, int]:
        """Remove published rows of no stream; return how many, and up to where it looked."""
        upto = self._all("trim_reach", (after, until, limit))[0][0] or until
        self._all("trim_journal", (after, upto))
        removed = self._changes()
        self._all("count_removed", (removed,))
        return removed, upto

    async def noted(self) -> bytes:
        """Return what retention has noted."""
        found = self._all("noted")
        return found[0][0].encode() if found else b""

    async def note(self, value: bytes) -> None:
        """Keep a note of retention."""
        self._all("note", (value.decode(),))
