"""The write transaction of a store: what it promises, and how its statements travel.

Theory. READ COMMITTED with explicit locks; taken together they make every transaction behave as if it ran alone:

    positions, held messages, timers    locked as they are read (`for update`); a new owner's claim waits for the turn in hand
    states, documents                   locked as they are read, in key order; absence is checked again (see `rows`)
    streams                             not locked; two appends at one version meet in a unique index
    first answers, foreign ids          not locked; two additions of one key meet in a unique index
    builds of views                     an advisory lock
    journal                             the row of its head, taken last and held for one round trip (see `journal`)

Whoever loses at one of these, or is chosen by the server to break a deadlock, gets a `Conflict`; nothing of it has happened, and the
writer does the same work again. Locks are taken in one order as far as it is known beforehand (kinds by name, keys in order, the head
last), so deadlocks are rare, not impossible.

Rejected: REPEATABLE READ (a batch of a thousand keys would fail as a whole for each of them that moved) and SERIALIZABLE (see `rows`).

Travel. Statements that return nothing wait for the next one that somebody asks for; `begin` waits for the first, `commit` takes the
append with it. A turn is four round trips: positions, keyed rows, everything changed with the positions of the journal, append and commit.

Crash points. Before the commit is sent, a connection that ends undoes the transaction. While it is under way, the server alone knows: the
journal is asked on a new connection whether exactly the rows of this transaction are at their positions, after a wait for the lock of its
head, which the transaction keeps until it has ended; so a caller hears what really happened. Only where that cannot be done in time does
the error say that it is not known. Rejected: `pg_xact_status`, because a server that crashed may give the number of a transaction that
it lost to another one, which then answers for it.

Neighbours: implements `StoreTransaction` of `ports`; `store` begins it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import psycopg

from millrace.engines.postgres.arrays import Value, scalar
from millrace.engines.postgres.documents import PostgresDocuments, PostgresViews
from millrace.engines.postgres.journal import PostgresJournal
from millrace.engines.postgres.letters import PostgresLetters
from millrace.engines.postgres.progress import PostgresHeld, PostgresPositions, PostgresTimers
from millrace.engines.postgres.queries import Statements, quoted
from millrace.engines.postgres.rows import PostgresAnswers, PostgresStates
from millrace.engines.postgres.session import OwnSql, Rows, Session, Step
from millrace.engines.postgres.table import Check, Place
from millrace.errors import ConfigurationError, StoreUnavailable
from millrace.held import Held, Letters
from millrace.ports import Answers, Documents, Journal, Positions, States, Timers, Views

OUTCOME_S = 10.0
"""How long a commit whose answer was lost is asked after."""

_ENDS_TRANSACTIONS = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/)*"
    r"(?:begin|start\s+transaction|commit|end|rollback|abort|savepoint|release|prepare\s+transaction|set\s+transaction)\b",
    re.IGNORECASE | re.DOTALL,
)
_NEUTRAL = {"savepoint", "release", "undo", "commit", "rollback"}
"""Statements that are not planned."""
_CHANGING = {"add_view", "cancel_timers", "claim_positions", "expire_answers", "expire_seen", "forget_closed", "reserve", "trim_journal"}
"""Statements that change something and return what."""


class PostgresTables:
    """All tables at one place."""

    def __init__(self, place: Place) -> None:
        self.states: States = PostgresStates(place)
        self.journal: Journal = PostgresJournal(place)
        self.positions: Positions = PostgresPositions(place)
        self.held: Held = PostgresHeld(place)
        self.letters: Letters = PostgresLetters(place)
        self.timers: Timers = PostgresTimers(place)
        self.documents: Documents = PostgresDocuments(place)
        self.views: Views = PostgresViews(place)
        self.answers: Answers = PostgresAnswers(place)


class Home(Protocol):
    """What a transaction needs of its store."""

    name: str

    async def connected(self) -> Session:
        """Return the session for writing, a new one where the old one has ended."""
        ...

    async def ask(self, *steps: Step) -> Rows:
        """Run statements outside of any transaction; return the rows of the last one."""
        ...

    def ended(self, *, wrote: bool) -> None:
        """Hear that the transaction is over, and whether others may want to know."""
        ...

    async def before_commit(self) -> None:
        """Have a say before a commit is sent."""
        ...


class PostgresTransaction(PostgresTables):
    """One write transaction; see the module's text.

    Args:
        home: whose it is.
        sql: the statements of its schema.
        schema: the schema's name, unquoted.
    """

    writing = True

    def __init__(self, home: Home, *, sql: Statements, schema: str) -> None:
        self.sql = sql
        self.schema = schema
        self._home = home
        self._session: Session | None = None
        self._waiting: list[Step | OwnSql] = [Step(sql["begin"])]
        self._checks: list[Check] = []
        self._appended: tuple[Value, Value] | None = None
        self._as_application = False
        self._sent = 0
        self._wrote = False
        super().__init__(self)

    def put(self, step: Step) -> None:
        """Run a statement before the next that is asked."""
        self._wrote = True
        self._waiting.append(step)
        if step.statement is self.sql["append_journal"]:
            self._appended = step.values[0], step.values[-1]

    def add_check(self, check: Check) -> None:
        """Let a check have its say before the commit."""
        self._checks.append(check)

    async def ask(self, *steps: Step) -> Rows:
        """Run what waits and then these statements; return the rows of the last one."""
        self._waiting += steps
        self._wrote = self._wrote or steps[-1].statement.name in _CHANGING
        return await self._send()

    async def _send(self) -> Rows:
        steps, self._waiting = self._settled(self._waiting), []
        session = await self._connected()
        first, self._sent = not self._sent, self._sent + 1
        try:
            return (await session.run(steps))[-1]
        except StoreUnavailable:
            if not first or session.usable or steps[-1] == (self.sql["commit"], ()):
                raise
        self._session = session = await self._home.connected()  # the server was restarted since; nothing was done on the old one
        return (await session.run(steps))[-1]

    async def _connected(self) -> Session:
        if self._session is None:
            self._session = await self._home.connected()
        return self._session

    def _settled(self, steps: list[Step | OwnSql]) -> list[Step | OwnSql]:
        """Return the steps with a change of settings in front of those that need it."""
        settled: list[Step | OwnSql] = []
        for step in steps:
            foreign = isinstance(step, OwnSql)
            if foreign != self._as_application and (foreign or step.statement.name not in _NEUTRAL):
                self._as_application = foreign
                names = (scalar(quoted(self.schema)),) if foreign else ()
                settled.append(Step(self.sql["for_the_application" if foreign else "for_ourselves"], names))
            settled.append(step)
        return settled

    async def execute(self, sql: str, /, *values: Any) -> list[tuple[Any, ...]]:
        """Run the application's own SQL; placeholders are `%s`, names are found in the service's schema first.

        Raises:
            ConfigurationError: a statement would begin or end a transaction, which is the runtime's to do.
        """
        if _ENDS_TRANSACTIONS.match(sql):
            raise ConfigurationError(f"{sql!r}: the transaction is the runtime's to begin and end")
        self._wrote = True
        self._waiting.append(OwnSql(sql, values))
        try:
            return await self._send()
        except StoreUnavailable as error:
            if isinstance(error.__cause__, psycopg.errors.SyntaxError) and "multiple commands" in error.detail:
                raise ConfigurationError(f"{sql!r}: one statement at a time; the transaction is the runtime's to end") from error
            raise

    async def savepoint(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work`; undo what it did when it raises. Work that sends nothing costs nothing."""
        mark, sent = len(self._waiting), self._sent
        self._waiting.append(Step(self.sql["savepoint"]))
        try:
            await work()
        except BaseException:
            if self._sent == sent:
                del self._waiting[mark:]
            elif self._session is not None and self._session.usable:
                self._as_application = False  # settings are undone as well; at worst they are set once more
                self._waiting = [Step(self.sql["undo"]), Step(self.sql["release"])]
                await self._send()
            raise
        if self._sent == sent:
            del self._waiting[mark]
        else:
            self._waiting.append(Step(self.sql["release"]))

    async def open_epoch(self, epoch: int) -> None:
        """Give the journal a new epoch."""
        self.put(Step(self.sql["open_epoch"], (scalar(str(epoch)),)))

    async def commit(self) -> None:
        """Make everything durable.

        Raises:
            StoreUnavailable: it is not, and nothing of it has happened, unless the error says that this is not known.
        """
        try:
            await self._home.before_commit()
            await self._commit()
        except BaseException:
            await self.rollback()
            raise
        self._home.ended(wrote=self._wrote)

    async def _commit(self) -> None:
        if not self._sent and len(self._waiting) == 1:
            return
        checks = [step for check in self._checks for step in check.steps()]
        if checks and self._wrote:
            self._waiting += [Step(self.sql["lock_head"]), *checks]
        self._waiting.append(Step(self.sql["commit"]))
        try:
            await self._send()
        except StoreUnavailable as error:
            if self._appended is None or (self._session is not None and self._session.usable):
                raise
            await self._ask_after(self._appended, error)

    async def _ask_after(self, appended: tuple[Value, Value], error: StoreUnavailable) -> None:
        """Return if a transaction whose answer was lost has been committed.

        Raises:
            StoreUnavailable: it has not, or nobody can be asked.
        """
        detail = f"the connection ended during a commit and whether it is done could not be found out: {error.detail}"
        unknown = StoreUnavailable(error.name, reason="unreachable", detail=detail)
        try:
            async with asyncio.timeout(OUTCOME_S):
                while True:
                    try:
                        ((there,),) = await self._home.ask(Step(self.sql["lock_head"]), Step(self.sql["outcome"], appended))
                        break
                    except StoreUnavailable:
                        await asyncio.sleep(0.1)
        except TimeoutError:
            raise unknown from error
        if not there:
            raise error

    async def rollback(self) -> None:
        """Undo everything."""
        self._waiting.clear()
        try:
            if self._session is not None and self._session.usable and self._sent:
                await self._session.run([Step(self.sql["rollback"])])
        except StoreUnavailable:
            if self._session is not None:
                self._session.close()  # the server undoes it
        finally:
            self._home.ended(wrote=False)


__all__ = ["PostgresTables", "PostgresTransaction"]
