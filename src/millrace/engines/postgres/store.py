"""A service's store: one schema, its tables, one write transaction at a time, and the snapshot that operators look at.

A process has one writer per store, so one session for writing is enough; reads of single statements share the sessions of the process.

Neighbours: implements `Store` of `ports`; `transaction` writes, `sessions` read, `hints` tell other processes, `checkup` judges.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from millrace.engines.postgres.checkup import examine
from millrace.engines.postgres.hints import Hints
from millrace.engines.postgres.queries import Statements
from millrace.engines.postgres.schema import Schema
from millrace.engines.postgres.session import Rows, Session, Step
from millrace.engines.postgres.sessions import Sessions
from millrace.engines.postgres.table import Check
from millrace.engines.postgres.transaction import PostgresTables, PostgresTransaction
from millrace.engines.postgres.transfer import PostgresTransfer
from millrace.errors import StoreUnavailable
from millrace.ports import StoreReader, StoreTransaction


class _Reads:
    """The place of single reads; nothing that is put here is ever sent, because nothing is put here."""

    writing = False

    def __init__(self, store: PostgresStore, sql: Statements) -> None:
        self.schema = store.schema
        self.sql = sql
        self._store = store

    async def ask(self, *steps: Step) -> Rows:
        """Run statements; return the rows of the last one."""
        return await self._store.ask(*steps)

    def put(self, step: Step) -> None:
        """Refuse.

        Raises:
            StoreUnavailable: always.
        """
        raise StoreUnavailable(self._store.name, reason="read_only", detail="a reader changes nothing; begin a transaction")

    def add_check(self, check: Check) -> None:
        """Nothing is checked where nothing is written."""


class PostgresStore(PostgresTransfer):
    """See `ports.Store`.

    Args:
        name: the service.
        schema: its schema, unquoted.
        sessions: the process's way to the server.
        hints: where commits are told.
    """

    _idle_s: float | None = None

    def __init__(self, name: str, schema: str, *, sessions: Sessions, hints: Hints) -> None:
        super().__init__(schema)
        self.name = name
        self.reader: StoreReader
        self._sessions = sessions
        self._hints = hints
        self._sql = Statements("store.sql", schema)
        self._schema = Schema(schema, place=name)
        self._turn = asyncio.Lock()
        self._writer: Session | None = None

    async def open(self) -> None:
        """Connect, make or migrate the schema.

        Raises:
            StoreUnavailable: with the reason, for a server or schema that cannot be used.
        """
        await self.prepare()
        try:
            await self._check_arrival()
        except BaseException:
            await self.close()
            raise
        self.reader = PostgresTables(_Reads(self, self._sql))

    async def prepare(self) -> None:
        """Connect, make or migrate the schema."""
        self._writer = await self._sessions.connect(self.name, idle_s=self._idle_s)
        try:
            await self._prepare(self._writer)
        except BaseException:
            await self.close()
            raise

    async def _check_arrival(self) -> None:
        await self.refuse_unfinished()

    async def _prepare(self, session: Session) -> None:
        await self._schema.open(session)

    async def epoch(self) -> int:
        """Return the epoch of the journal."""
        return int((await self.ask(Step(self._sql["epoch"])))[0][0])

    async def ask(self, *steps: Step) -> Rows:
        """Run statements outside of any transaction; return the rows of the last one."""
        return (await self._sessions.read(steps, self.name))[-1]

    async def begin(self) -> StoreTransaction:
        """Begin a write transaction; the server hears of it with its first statement."""
        await self._turn.acquire()
        return PostgresTransaction(self, sql=self._sql, schema=self.schema)

    async def connected(self) -> Session:
        """Return the session for writing, a new one where the old one has ended."""
        if self._writer is None or not self._writer.usable:
            self._writer = await self._sessions.connect(self.name)
        return self._writer

    async def before_commit(self) -> None:
        """Nothing stands in the way of a commit."""

    def ended(self, *, wrote: bool) -> None:
        """Let the next transaction begin, and tell other processes what there is."""
        self._turn.release()
        if wrote:
            self._hints.tell(self.schema)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back when another process has committed."""
        self._hints.on_change(self.schema, callback)

    async def check(self) -> Iterable[tuple[str, bool, str]]:
        """Return findings about the server's settings and the schema."""
        return await examine(self.ask, self.schema, pooled=self._writer is not None and self._writer.pooled)

    async def close(self) -> None:
        """Close the session for writing."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class PostgresSnapshot(PostgresStore):
    """A store as it was at one moment, for looking at it beside whoever works with it.

    Nothing is created, migrated or changed: one read-only transaction lasts from `open` to `close`, so figures of several tables agree
    however busy the store is. It holds back the server's clean-up meanwhile, so it is for commands that end, not for servers.
    """

    _idle_s = 0.0

    async def _prepare(self, session: Session) -> None:
        """Begin the transaction in a schema as it is now.

        Raises:
            StoreUnavailable: `absent` for a schema that is not there or empty, `older_version` for one that the application has not
                yet migrated, otherwise the reason why it cannot be read.
        """
        await session.run([Step(Statements("server.sql")["begin_snapshot"])])
        version = await self._schema.version(session)
        if not version:
            detail = f"the database has no schema {self.schema!r} with tables; the application makes it at its first start"
            raise StoreUnavailable(self.name, reason="absent", detail=detail)
        if version < self._schema.newest:
            detail = f"schema {version}, this release writes {self._schema.newest}; the application's next start migrates it"
            raise StoreUnavailable(self.name, reason="older_version", detail=detail)

    async def _check_arrival(self) -> None:
        """Who only looks may look at what is still being filled."""

    async def ask(self, *steps: Step) -> Rows:
        """Run statements in the snapshot; return the rows of the last one."""
        async with self._turn:
            if self._writer is None or not self._writer.usable:
                raise StoreUnavailable(self.name, reason="unreachable", detail="the connection of the snapshot has ended")
            return (await self._writer.run(steps))[-1]

    async def begin(self) -> StoreTransaction:
        """Refuse.

        Raises:
            StoreUnavailable: always.
        """
        raise StoreUnavailable(self.name, reason="read_only", detail="it was opened to be looked at")
