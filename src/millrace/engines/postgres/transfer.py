"""A store's schema as rows that travel: read out by key, or filled with those of another store.

Neighbours: has the abilities of the toolkit's `transfer`; `store` derives from it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import msgspec

from millrace.engines.postgres.arrays import Value, blobs, integers, optional_integers, optional_texts, restored, scalar, texts
from millrace.engines.postgres.queries import Statements
from millrace.engines.postgres.session import Rows, Session, Step
from millrace.errors import StoreUnavailable
from millrace.transfer import TABLES, Arrival, Figures, Row

OURS = {*TABLES, "meta", "journal_head"}
_NULLABLE = {"journal": {1: optional_texts, 4: optional_texts, 5: optional_integers}}


class PostgresTransfer:
    """See `RowSource` and `RowTarget`."""

    name: str

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self._transfer = Statements("transfer.sql", schema)

    @abstractmethod
    async def ask(self, *steps: Step) -> Rows:
        """Run statements outside of any transaction; return the rows of the last one."""

    @abstractmethod
    async def connected(self) -> Session:
        """Return the session for writing."""

    @abstractmethod
    async def before_commit(self) -> None:
        """Have a say before a commit is sent."""

    @abstractmethod
    async def prepare(self) -> None:
        """Connect, make or migrate the schema."""

    async def extract(self, table: str, *, after: Row, limit: int) -> list[Row]:
        """Return rows with keys above `after`."""
        found = await self._found(f"extract_{table}", *(scalar(key) for key in after), scalar(limit))
        return [tuple(restored(value) if isinstance(value, str) else value for value in row) for row in found]

    async def figures(self) -> Figures:
        """Return epoch, head, removed rows and builds."""
        return Figures(*(await self._found("figures"))[0])

    async def own_tables(self) -> list[str]:
        """Return the application's own tables."""
        return [name for (name,) in await self._found("tables", scalar(self._transfer.place)) if name not in OURS]

    async def arrival(self) -> Arrival | None:
        """Return how far it was filled."""
        found = await self._found("arrival")
        return msgspec.json.decode(restored(found[0][0]), type=Arrival) if found else None

    async def receive(self, origin: str) -> None:
        """Open the schema to be filled."""
        await self.prepare()
        if await self.arrival() is None:
            await self._write(self._note(Arrival(origin)))

    async def take(self, table: str, rows: Sequence[Row], *, arrival: Arrival) -> None:
        """Add rows and note how far that is."""
        nullable = _NULLABLE.get(table, {})
        values = [nullable.get(number, _array)(column) for number, column in enumerate(zip(*rows, strict=True))]
        steps = [Step(self._transfer[f"take_{table}"], tuple(values))] if rows else []
        await self._write(*steps, self._note(arrival))

    async def complete(self, figures: Figures, *, origin: str) -> None:
        """Set what is known beside the tables; the schema may be worked with."""
        await self._write(
            Step(self._transfer["set_epoch"], (scalar(str(figures.epoch)),)),
            Step(self._transfer["set_head"], (scalar(figures.head), scalar(figures.removed))),
            Step(self._transfer["set_builds"], (scalar(figures.builds),)),
            self._note(Arrival(origin, finished=True)),
        )

    async def refuse_unfinished(self) -> None:
        """See that all is here.

        Raises:
            StoreUnavailable: the store is still being filled.
        """
        arrival = await self.arrival()
        if arrival is not None and not arrival.finished:
            detail = "it is being filled from another installation and that has not finished; run the same command again, it goes on"
            raise StoreUnavailable(self.name, reason="unfinished", detail=detail)

    def _note(self, arrival: Arrival) -> Step:
        return Step(self._transfer["note_arrival"], (scalar(msgspec.json.encode(arrival).decode()),))

    async def _found(self, query: str, *values: Value) -> Rows:
        return await self.ask(Step(self._transfer[query], values))

    async def _write(self, *steps: Step) -> None:
        """Run statements in a transaction of their own: those of one pipeline are one."""
        await self.before_commit()
        session = await self.connected()
        await session.run(list(steps))


def _array(column: Sequence[Any]) -> Value:
    first = column[0]
    if isinstance(first, str):
        return texts(column)
    return blobs(column) if isinstance(first, bytes) else integers(column)
