"""A store's file as rows that travel: read out by key, or filled with those of another store.

Neighbours: has the abilities of the toolkit's `transfer`; `store` derives from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from millrace.engines.sqlite.database import Database
from millrace.engines.sqlite.queries import TRANSFER as Q
from millrace.errors import StoreUnavailable
from millrace.transfer import TABLES, Arrival, Figures, Row

OURS = {*TABLES, "meta"}


class SqliteTransfer:
    """See `RowSource` and `RowTarget`."""

    name: str
    _database: Database

    async def extract(self, table: str, *, after: Row, limit: int) -> list[Row]:
        """Return rows with keys above `after`."""
        return self._found(f"extract_{table}", (*after, limit))

    async def figures(self) -> Figures:
        """Return epoch, head, removed rows and builds."""
        return Figures(*(int(value) for value in self._found("figures")[0]))

    async def own_tables(self) -> list[str]:
        """Return the application's own tables."""
        return [name for (name,) in self._found("tables") if name not in OURS]

    async def arrival(self) -> Arrival | None:
        """Return how far it was filled."""
        found = self._found("arrival")
        return msgspec.json.decode(found[0][0], type=Arrival) if found else None

    async def receive(self, origin: str) -> None:
        """Open the file to be filled."""
        await self._database.open()
        if await self.arrival() is None:
            await self._write([("note_arrival", [_mark(Arrival(origin))])])

    async def take(self, table: str, rows: Sequence[Row], *, arrival: Arrival) -> None:
        """Add rows and note how far that is."""
        await self._write([(f"take_{table}", rows), ("note_arrival", [_mark(arrival)])])

    async def complete(self, figures: Figures, *, origin: str) -> None:
        """Set what is known beside the tables; the file may be worked with."""
        meta = [(str(figures.epoch), "epoch"), (str(figures.removed), "journal_removed")]
        sequences = [("journal", figures.head), ("view", figures.builds)]
        await self._write(
            [
                ("set_meta", meta),
                ("forget_sequence", [(name,) for name, _ in sequences]),
                ("set_sequence", sequences),
                ("note_arrival", [_mark(Arrival(origin, finished=True))]),
            ]
        )

    async def refuse_unfinished(self) -> None:
        """See that all is here.

        Raises:
            StoreUnavailable: the store is still being filled.
        """
        arrival = await self.arrival()
        if arrival is not None and not arrival.finished:
            detail = "it is being filled from another installation and that has not finished; run the same command again, it goes on"
            raise StoreUnavailable(str(self._database.path), reason="unfinished", detail=detail)

    def _found(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._database.translated():
            return self._database.reader.execute(Q[query], values).fetchall()

    async def _write(self, changes: Sequence[tuple[str, Sequence[Row]]]) -> None:
        await self._database.begin()
        try:
            with self._database.translated():
                for query, rows in changes:
                    self._database.writer.executemany(Q[query], rows)
        except BaseException:
            self._database.rollback()
            raise
        await self._database.commit()


def _mark(arrival: Arrival) -> Row:
    return (msgspec.json.encode(arrival).decode(),)
