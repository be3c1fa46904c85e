"""The journal table: event store and outbox.

Theory. One row, `journal_head`, holds the last position given. `reserve` adds to it, and so takes its row lock, which lasts until the
commit has become visible; the append and the commit follow in the next round trip. Whoever else appends waits for that lock, therefore

- positions become visible in their order: the transaction with the higher ones cannot have committed before the lower ones were there;
- they have no gaps: a transaction that is undone gives its positions back with the row, and nobody has seen them;
- they are never reused: the row does not depend on the journal's rows, so emptying the table changes nothing.

    server dies before the commit record is durable     head row and journal rows are both as before
    server dies after it                                both are there

Rejected: a sequence (undone transactions leave gaps that nobody can tell from rows that are still to come) and ordering by transaction
id (a reader must then wait for the oldest transaction of the whole server). The head row does what an advisory lock would, and is the
counter at the same time. The lock is held for one round trip and one flush of the server's log, shared by everything in the batch.

Streams: (stream, version) is unique. Two transactions that have read one version of a stream and append to it meet there; the second one
is a conflict, which the writer repeats from the beginning.

Neighbours: implements `Journal` of `ports`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from millrace.engines.postgres.arrays import blobs, integers, optional_integers, optional_texts, restored, restored_keys, scalar, texts
from millrace.engines.postgres.table import Table
from millrace.ports import JournalEntry, JournalRow, StreamRow, rows_of

_FOREVER = (1 << 31) - 1
TAIL_BYTES_MAX = 8 << 20


class PostgresJournal(Table):
    """See `ports.Journal`."""

    async def streams(self, after: Mapping[str, int], *, until: int | None = None) -> list[StreamRow]:
        """Return the events of streams above a version each."""
        rows = await self._all("streams", texts(list(after)), integers(list(after.values())), scalar(_FOREVER if until is None else until))
        if any("\x01" in name for name in after):
            rows = [(restored(stream), version, value) for stream, version, value in rows]
        return rows_of(StreamRow, rows)

    async def snapshots(self, streams: Sequence[str]) -> dict[str, bytes]:
        """Return the snapshots that exist."""
        return restored_keys(await self._all("load_snapshots", texts(streams)))

    async def reserve(self, count: int) -> int:
        """Return the first of `count` positions; who else appends waits from here on until this transaction has ended."""
        return (await self._all("reserve", scalar(count)))[0][0]

    async def append(self, rows: Sequence[JournalEntry], *, snapshots: Sequence[tuple[str, bytes]] = ()) -> None:
        """Append rows at reserved positions; replace snapshots of streams."""
        if rows:
            positions, topics, partitions, keys, streams, versions, values = zip(*rows, strict=True)
            self._put(
                "append_journal",
                integers(positions),
                optional_texts(topics),
                integers(partitions),
                texts(keys),
                optional_texts(streams),
                optional_integers(versions),
                blobs(values),
            )
        if snapshots:
            last = sorted(dict(snapshots).items())
            self._put("save_snapshots", texts([name for name, _ in last]), blobs([value for _, value in last]))

    async def tail(self, after: int, *, limit: int) -> tuple[list[JournalRow], int]:
        """Return the next rows to publish, and the position up to which was looked."""
        found = await self._all("tail_journal", scalar(after), scalar(limit), scalar(TAIL_BYTES_MAX))
        upto = found[-1][0] if found else after
        return rows_of(JournalRow, [(p, t, n, restored(key), value) for p, t, n, key, value in found if t]), upto

    async def head(self) -> int:
        """Return the last position given."""
        return (await self._all("last_position"))[0][0]

    async def counts(self, until: int) -> tuple[int, int, int, int]:
        """Return (rows ever appended, rows there, rows removed by retention, rows up to a position that are or were for the log)."""
        return (await self._all("count_journal", scalar(until)))[0]

    async def rows_between(self, after: int, *, until: int) -> tuple[int, int]:
        """Return (last position given, rows there in (after, until]); see `millrace.sight`."""
        return (await self._all("journal_rows", scalar(after), scalar(until)))[0]

    async def trim(self, *, after: int, until: int, limit: int) -> tuple[int, int]:
        """Remove published rows of no stream; return how many, and up to where it looked."""
        return (await self._all("trim_journal", scalar(after), scalar(until), scalar(limit)))[0]

    async def noted(self) -> bytes:
        """Return what retention has noted."""
        found = await self._all("noted")
        return found[0][0].encode() if found else b""

    async def note(self, value: bytes) -> None:
        """Keep a note of retention."""
        self._put("note", scalar(value.decode()))
