"""From a store's journal into the log without passing through Python: one statement copies thousands of rows, in a thread.

Each row that is relayed one by one costs the event loop three microseconds. Where many wait, a connection of its own, on the log with the
store attached (for reading only, so that its writer is not held up), does the same work in SQL while the loop goes on with the next
batch. Only the log is written, so the commit is as atomic as any other: records, ends of partitions and the relay's position together.

Nothing is copied, and the caller publishes row by row, when the range holds something that asks for a decision: a row that is too large, a
topic or a partition that is not there, a hole of positions.

Neighbours: `log` calls it under its write lock; `relay` decides when many rows wait.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw

from millrace.engines.sqlite.queries import LOG as Q
from millrace.serialization import RECORD_BYTES_MAX

BYTES_MAX = 32 << 20
Row = tuple[Any, ...]


class Copier:
    """Copies one store's journal into the log.

    Args:
        connection: on the log, for this alone.
        store: the store's file.
    """

    def __init__(self, connection: apsw.Connection, store: Path) -> None:
        self._connection = connection
        connection.execute("attach ? as store", (f"file:{quote(str(store.absolute()))}?mode=ro",))

    def copy(self, source: str, epoch: int, *, after: int, limit: int) -> int | None:
        """Copy at most `limit` rows above `after`; return the source's position then, or None where rows must be looked at."""
        self._connection.execute("begin immediate")
        try:
            position = self._copy(source, epoch, after, limit)
            self._connection.execute("rollback" if position is None else "commit")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("rollback")
            raise
        return position

    def _copy(self, source: str, epoch: int, after: int, limit: int) -> int | None:
        found = self._run("published", (source, epoch))
        position, count = found[0] if found else (0, 0)
        if position != after:
            return position
        upto, rows, size, largest, there = self._run("copy_range", (after, limit))[0]
        while size is not None and size > BYTES_MAX and limit > 1:
            limit //= 2
            upto, rows, size, largest, there = self._run("copy_range", (after, limit))[0]
        if not rows or largest > RECORD_BYTES_MAX or there != upto - after:
            return None
        self._run("copy", (after, upto, time.time_ns() // 1000))
        if self._connection.changes() != rows:
            return None
        self._run("copy_ends", (after, upto))
        self._run("move_relay", (source, epoch, upto, count + rows))
        return upto

    def _run(self, query: str, values: Row) -> list[Row]:
        return self._connection.execute(Q[query], values).fetchall()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
