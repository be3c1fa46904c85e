"""What an engine needs so that an installation can be moved to it or away from it: abilities beside the ports.

Everything stored of a service is twelve tables, the same on every engine. They travel as tuples in the order of `TABLES`, sorted by key,
so that a copy can be cut off anywhere and be compared row by row. A position's row travels as the JSON of `PositionRow` beside its token.

A store that is being filled is marked with where its rows come from and how far they have come, in the same transactions as the rows;
until the mark says that all is there, the store cannot be opened for work.

Neighbours: `moving` copies and compares; engines have the abilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import msgspec

from millrace.ports import Record, TopicSpec

Row = tuple[Any, ...]


class Table(NamedTuple):
    """A table as it travels: the first of its columns are its key; `least` sorts before every key."""

    least: Row
    columns: int

    @property
    def keys(self) -> int:
        """Return how many columns are the key."""
        return len(self.least)


TABLES = {
    "journal": Table((0,), 7),
    "snapshot": Table(("",), 2),
    "state": Table(("", ""), 3),
    "position": Table(("", "", -1), 5),
    "held": Table(("", "", -1, -1 << 62), 17),
    "closed": Table(("", "", -1, -1 << 62, -1), 20),
    "timer": Table(("", "", ""), 10),
    "view": Table((0,), 4),
    "document": Table((0, ""), 3),
    "lookup": Table((0, "", "", "", ""), 5),
    "answer": Table(("", ""), 5),
    "seen": Table(("", "", ""), 4),
}
"""Every table of a store, in the order in which they are copied."""


class Figures(msgspec.Struct, frozen=True):
    """What a store knows beside its tables.

    Attributes:
        epoch: of the journal.
        head: the last position ever given.
        removed: rows of the journal that retention has removed.
        builds: the last number ever given to a build of a view.
    """

    epoch: int
    head: int
    removed: int
    builds: int


class Arrival(msgspec.Struct, frozen=True):
    """How far a store has been filled: `table` and the key `after` which rows are missing; "" before the first row."""

    origin: str
    finished: bool = False
    table: str = ""
    after: tuple[Any, ...] = ()


@runtime_checkable
class RowSource(Protocol):
    """A store, open or opened to be looked at, that hands out everything it keeps."""

    async def extract(self, table: str, *, after: Row, limit: int) -> list[Row]:
        """Return at most `limit` rows of a table with keys above `after`, by key."""
        ...

    async def figures(self) -> Figures:
        """Return what it knows beside its tables."""
        ...

    async def own_tables(self) -> list[str]:
        """Return the tables that the application has made here itself; they do not travel."""
        ...

    async def arrival(self) -> Arrival | None:
        """Return how far it was filled from elsewhere; None for a store that never was."""
        ...


@runtime_checkable
class RowTarget(Protocol):
    """A store, not open, that can be filled with what another one keeps."""

    async def receive(self, origin: str) -> None:
        """Open it to be filled and nothing else; made where it is absent, marked where it was not.

        Raises:
            StoreUnavailable: it cannot be used.
        """
        ...

    async def take(self, table: str, rows: Sequence[Row], *, arrival: Arrival) -> None:
        """Add rows and note how far that is, in one transaction."""
        ...

    async def complete(self, figures: Figures, *, origin: str) -> None:
        """Set what it knows beside its tables, and let it be opened for work from now on, in one transaction."""
        ...


@runtime_checkable
class RecordTarget(Protocol):
    """A log (its administration), open, that can be filled with the records of another one."""

    async def receive(self, topics: Sequence[TopicSpec]) -> None:
        """Make topics whose records keep the time at which they were appended elsewhere."""
        ...

    async def take(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        """Append records as they are, but for their offsets, in order; after a failure the first of them may be there."""
        ...

    async def complete(self, topics: Sequence[str]) -> None:
        """Let topics be what they would be if they had been made here."""
        ...


__all__ = ["TABLES", "Arrival", "Figures", "RecordTarget", "Row", "RowSource", "RowTarget", "Table"]
