"""What every table of a store shares: a connection, and how to run a named query on it.

Neighbours: the table modules (`journal`, `rows`, `progress`, `documents`) derive from `Table`; a store makes each of them twice, once
on the reader and once on the writer connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from millrace.engines.sqlite.database import Database
from millrace.engines.sqlite.queries import STORE as Q

encode = msgspec.json.Encoder().encode


class Table:
    """Named queries on one connection of a database."""

    def __init__(self, database: Database, *, writing: bool) -> None:
        self._database = database
        self._connection = database.writer if writing else database.reader

    def _all(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._database.translated():
            return self._connection.execute(Q[query], values).fetchall()

    def _many(self, query: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            with self._database.translated():
                self._connection.executemany(Q[query], rows)

    def _changes(self) -> int:
        return self._connection.changes()


def json_text(value: object) -> str:
    """Return JSON as text, for `json_each`."""
    return encode(value).decode()
