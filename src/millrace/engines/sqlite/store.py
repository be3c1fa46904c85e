"""A service's store: one file, its tables, and the write transaction over them.

Neighbours: implements `Store` and `StoreTransaction` of `ports`; `database` does the transactions, the table modules the rows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import apsw

from millrace.engines.sqlite.database import Database
from millrace.engines.sqlite.documents import SqliteDocuments, SqliteViews
from millrace.engines.sqlite.journal import SqliteJournal
from millrace.engines.sqlite.letters import SqliteLetters
from millrace.engines.sqlite.progress import SqliteHeld, SqlitePositions, SqliteTimers
from millrace.engines.sqlite.queries import STORE as Q
from millrace.engines.sqlite.rows import SqliteAnswers, SqliteStates
from millrace.engines.sqlite.snapshot import Snapshot
from millrace.engines.sqlite.transfer import SqliteTransfer
from millrace.errors import ConfigurationError, StoreUnavailable
from millrace.held import Held, Letters
from millrace.ports import Answers, Documents, Journal, Positions, States, StoreReader, StoreTransaction, Timers, Views


def _deny_transactions(operation: int, *_: str | None) -> int:
    ends = operation in {apsw.SQLITE_TRANSACTION, apsw.SQLITE_SAVEPOINT}
    return apsw.SQLITE_DENY if ends else apsw.SQLITE_OK


class SqliteTables:
    """All tables on one connection."""

    def __init__(self, database: Database, *, writing: bool) -> None:
        self.database = database
        self.states: States = SqliteStates(database, writing=writing)
        self.journal: Journal = SqliteJournal(database, writing=writing)
        self.positions: Positions = SqlitePositions(database, writing=writing)
        self.held: Held = SqliteHeld(database, writing=writing)
        self.letters: Letters = SqliteLetters(database, writing=writing)
        self.timers: Timers = SqliteTimers(database, writing=writing)
        self.documents: Documents = SqliteDocuments(database, writing=writing)
        self.views: Views = SqliteViews(database, writing=writing)
        self.answers: Answers = SqliteAnswers(database, writing=writing)


class SqliteTransaction(SqliteTables):
    """The write transaction; one object serves all, because a store has one at a time."""

    async def execute(self, sql: str, /, *values: Any) -> list[tuple[Any, ...]]:
        """Run the application's own SQL; placeholders are `?`.

        Raises:
            ConfigurationError: a statement would begin or end a transaction, which is the runtime's to do.
        """
        connection = self.database.writer
        connection.authorizer = _deny_transactions
        try:
            with self.database.translated():
                return connection.execute(sql, values).fetchall()
        except StoreUnavailable as error:
            if isinstance(error.__cause__, apsw.AuthError):
                raise ConfigurationError(f"{sql!r}: the transaction is the runtime's to begin and end") from error
            raise
        finally:
            connection.authorizer = None

    async def savepoint(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work`; undo what it did when it raises."""
        connection = self.database.writer
        with self.database.translated():
            connection.execute("savepoint work")
        try:
            await work()
        except BaseException:
            with self.database.translated():
                connection.execute("rollback to work")
                connection.execute("release work")
            raise
        with self.database.translated():
            connection.execute("release work")

    async def open_epoch(self, epoch: int) -> None:
        """Give the journal a new epoch."""
        with self.database.translated():
            self.database.writer.execute(Q["open_epoch"], (str(epoch),))

    async def commit(self) -> None:
        """Make everything durable."""
        await self.database.commit()

    async def rollback(self) -> None:
        """Undo everything."""
        self.database.rollback()


class SqliteStore(SqliteTransfer):
    """See `ports.Store`."""

    def __init__(self, name: str, database: Database) -> None:
        self.name = name
        self._database = database
        self.reader: StoreReader
        self._transaction: SqliteTransaction

    @property
    def path(self) -> Path:
        """Return the file."""
        return self._database.path

    async def open(self) -> None:
        """Open the file."""
        await self._database.open()
        await self._check_arrival()
        self.reader = SqliteTables(self._database, writing=False)
        self._transaction = SqliteTransaction(self._database, writing=True)

    async def _check_arrival(self) -> None:
        """Refuse a file that is still being filled; who only looks may."""
        if not isinstance(self._database, Snapshot):
            try:
                await self.refuse_unfinished()
            except BaseException:
                self._database.close()
                raise

    async def epoch(self) -> int:
        """Return the epoch of the journal."""
        with self._database.translated():
            return int(next(self._database.reader.execute(Q["epoch"]))[0])

    async def begin(self) -> StoreTransaction:
        """Begin a write transaction."""
        await self._database.begin()
        return self._transaction

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back when somebody has committed."""
        self._database.on_change(callback)

    async def check(self) -> Iterable[tuple[str, bool, str]]:
        """Return findings about the file's settings and health."""
        return self._database.check()

    async def close(self) -> None:
        """Close the file."""
        await self._database.finish()
