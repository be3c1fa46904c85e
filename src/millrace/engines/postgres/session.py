"""One connection to the server, driven in pipelines: any number of statements, one round trip.

Theory. A transaction of the runtime is a handful of bulk statements; what it costs beside the server's work is round trips and the
driver's handling of each statement. A session therefore sends a list of steps with one flush, waits once, and reads every result.
Statements are prepared at their first use in the same pipeline. Measured on one machine: five statements in 107 microseconds, 445 by the
driver's own pipeline mode, 650 one after the other; so the driver's connection serves for connecting, and its documented libpq layer
(`psycopg.pq`) for everything that runs per batch.

After an error the server skips what follows until the end of the pipeline, so nothing after a failed step has happened; the error of the
first failed step is raised, with the others' results dropped. A caller that is cancelled, or a server that does not answer in time, leaves
answers on the wire that nobody will read: the connection is closed, and its owner makes another one.

Behind a pooler in transaction mode each transaction may meet another connection of the server: what was prepared or set on the last one is
not there, and what is left behind meets others. A pooler is known by the number of the serving process, which it makes up for its clients
(seen of PgBouncer 1.18); it is asked at connecting, with the settings. Through one, nothing is prepared, and the
settings go with each transaction and end with it. That asks nothing of the pooler or the role, and costs the server the planning of each
statement. Rejected: named statements where the pooler follows them (PgBouncer from 1.21 on, if it is told to), for it does not say so.

Neighbours: `sessions` keeps sessions for single reads, `store` one for its write transaction; errors leave translated by `failures`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg import pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result

from millrace.engines.postgres.arrays import Value, scalar
from millrace.engines.postgres.failures import is_lost, translated
from millrace.engines.postgres.queries import Statement, Statements
from millrace.errors import ConfigurationError, StoreUnavailable

Rows = list[tuple[Any, ...]]
ANSWER_S = 15.0
"""How much longer than the server's own statement time-out a session waits before it takes the server for gone."""

_PLACEHOLDER = re.compile(r"%(.?)")
_FORMATS = [[1] * n for n in range(20)]
_SERVER = Statements("server.sql")


class Step(NamedTuple):
    """A statement of the engine's with its packed parameters."""

    statement: Statement
    values: tuple[Value, ...] = ()


class OwnSql(NamedTuple):
    """A statement of the application's with its values as they are; placeholders are `%s`."""

    sql: str
    values: tuple[Any, ...]


class Timeouts(NamedTuple):
    """In seconds: how long a statement may run, wait for a lock, and a transaction may do nothing; and to wait for a connection."""

    statement: float = 60.0
    lock: float = 20.0
    idle: float = 60.0
    connect: float = 10.0


class Session:
    """See the module's text.

    Args:
        connection: open, in autocommit mode; the session owns it from now on.
        name: which store, for errors.
        answer_s: seconds after which a server that does not answer is given up.
    """

    def __init__(self, connection: psycopg.AsyncConnection[Any], name: str, *, answer_s: float) -> None:
        self._connection = connection
        self._pg = connection.pgconn
        self._name = name
        self._answer_s = answer_s
        self._prepared: set[bytes] = set()
        self._ready: asyncio.Future[None] | None = None
        self._listening: tuple[asyncio.AbstractEventLoop, int] | None = None
        self._turn = asyncio.Lock()
        self._settings: _Question | None = None
        self.backend = self._pg.backend_pid

    @classmethod
    async def connect(cls, url: str, name: str, *, timeouts: Timeouts) -> Session:
        """Connect and set what every connection is set to.

        Raises:
            StoreUnavailable: the server is not there or does not let us in.
        """
        try:
            connection = await psycopg.AsyncConnection.connect(
                url,
                autocommit=True,
                connect_timeout=max(2, round(timeouts.connect)),
                client_encoding="utf8",
                application_name="millrace",
            )
        except psycopg.Error as error:
            raise translated(error, name) from error
        session = cls(connection, name, answer_s=timeouts.statement + ANSWER_S)
        await session._set(timeouts)
        return session

    async def _set(self, timeouts: Timeouts) -> None:
        """Set what every connection is set to; behind a pooler, where this ends with the statement, keep it for each transaction."""
        values = (*(f"{round(seconds * 1000)}ms".encode() for seconds in timeouts[:3]), scalar(self.backend))
        step = Step(_SERVER["settings"], values)
        (((pooled, *_),),) = await self.run([step])
        if pooled:
            self._settings = _Question(self._connection, step, self._name)

    @property
    def pooled(self) -> bool:
        """Return whether a pooler stands between us and the server."""
        return self._settings is not None

    @property
    def usable(self) -> bool:
        """Return whether the connection is open, as far as is known without asking."""
        return self._pg.status == pq.ConnStatus.OK

    async def run(self, steps: Sequence[Step | OwnSql]) -> list[Rows]:
        """Run statements in one round trip; return the rows of each.

        Raises:
            StoreUnavailable: the first that failed; none after it has happened. The cause is the driver's error.
            ConfigurationError: a placeholder of the application's SQL is none.
        """
        questions = [_Question(self._connection, step, self._name) for step in steps]
        async with self._turn:  # a handler may run two statements of its own at once
            if self._settings is None or self._pg.transaction_status != pq.TransactionStatus.IDLE:
                return await self._run(questions)
            at = sum(each.begins for each in questions[:1])
            answers = await self._run([*questions[:at], self._settings, *questions[at:]])
            del answers[at]
            return answers

    async def _run(self, questions: Sequence[_Question]) -> list[Rows]:
        try:
            order = self._send(questions)
            async with asyncio.timeout(self._answer_s):
                results = await self._results()
        except psycopg.Error as error:
            self.close()
            raise translated(error, self._name) from error
        except TimeoutError as error:
            self.close()
            raise StoreUnavailable(self._name, reason="unreachable", detail=f"no answer for {self._answer_s:g} s") from error
        except BaseException:
            self.close()
            raise
        return self._rows(questions, order, results)

    def _send(self, questions: Sequence[_Question]) -> list[bytes | None]:
        """Send everything; return the order of answers: the name of a statement that is prepared, None for one that is run."""
        pg, order, fresh = self._pg, list[bytes | None](), set[bytes]()
        pg.enter_pipeline_mode()
        for question in questions:
            statement = question.statement
            if statement is None:
                transformer = question.transformer
                pg.send_query_params(question.text, question.values, transformer.types, transformer.formats, pq.Format.BINARY)
            elif statement.fresh or self.pooled:
                pg.send_query_params(statement.text, question.values, None, _FORMATS[len(question.values)], pq.Format.BINARY)
            else:
                if statement.id not in self._prepared and statement.id not in fresh:
                    pg.send_prepare(statement.id, statement.text)
                    order.append(statement.id)
                    fresh.add(statement.id)
                pg.send_query_prepared(statement.id, question.values, _FORMATS[len(question.values)], pq.Format.BINARY)
            order.append(None)
        pg.pipeline_sync()
        return order

    async def _results(self) -> list[pq.abc.PGresult]:
        pg, results = self._pg, list[pq.abc.PGresult]()
        if pg.flush():
            await self._drained()
        while True:
            while pg.is_busy():
                await self._readable()
                pg.consume_input()
            result = pg.get_result()
            if result is None:
                continue
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                pg.exit_pipeline_mode()
                return results
            results.append(result)
            if pg.status != pq.ConnStatus.OK:
                return results

    async def _readable(self) -> None:
        await self._watched(writing=False)

    async def _drained(self) -> None:
        """Send what did not fit into the socket at once, taking in what the server has to say meanwhile."""
        while True:
            await self._watched(writing=True)
            self._pg.consume_input()
            if not self._pg.flush():
                return

    async def _watched(self, *, writing: bool) -> None:
        """Wait until the socket has something, or with `writing` takes something; woken as well when the session is closed."""
        loop, socket = asyncio.get_running_loop(), self._pg.socket
        ready: asyncio.Future[None] = loop.create_future()
        self._ready = ready
        loop.add_reader(socket, _wake, ready)
        if writing:
            loop.add_writer(socket, _wake, ready)
        try:
            await ready
        finally:
            if self._ready is ready:
                self._unwatch(socket)

    def _unwatch(self, socket: int) -> None:
        self._ready = None
        loop = asyncio.get_running_loop()
        loop.remove_reader(socket)
        loop.remove_writer(socket)

    def _rows(self, questions: Sequence[_Question], order: list[bytes | None], results: list[pq.abc.PGresult]) -> list[Rows]:
        found: list[Rows] = []
        for name, result in zip(order, results, strict=False):
            question = questions[len(found)]
            if result.status not in _GOOD:
                self._raise(result, own=question.statement is not None)
            if name is not None:
                self._prepared.add(name)
            else:
                found.append(question.rows(result))
        if len(found) < len(questions):
            self.close()
            raise StoreUnavailable(self._name, reason="unreachable", detail="the connection ended before the answer")
        return found

    def _raise(self, result: pq.abc.PGresult, *, own: bool) -> None:
        error = error_from_result(result, encoding="utf-8")
        if is_lost(error) or not self.usable:
            self.close()
        raise translated(error, self._name, own=own) from error

    def listen(self, callback: Callable[[], None]) -> None:
        """Call back, on the event loop, whenever the server says something unasked, until the session is closed."""
        loop, socket = asyncio.get_running_loop(), self._pg.socket
        loop.add_reader(socket, callback)
        self._listening = loop, socket

    def notified(self) -> list[tuple[str, str]]:
        """Return the (channel, text) of notifications that are there.

        Raises:
            psycopg.Error: the connection has ended.
        """
        self._pg.consume_input()
        found: list[tuple[str, str]] = []
        while (each := self._pg.notifies()) is not None:
            found.append((each.relname.decode(), each.extra.decode()))
        return found

    def close(self) -> None:
        """Close the connection at once; the server undoes what was open."""
        if self._ready is not None:
            ready, socket = self._ready, self._pg.socket
            self._unwatch(socket)  # before the number of the socket can be another one's
            _wake(ready)
        if self._listening is not None:
            (loop, socket), self._listening = self._listening, None  # the socket itself may have been closed by the library already
            if not loop.is_closed():
                loop.remove_reader(socket)
        self._pg.finish()


class _Question:
    """A step as it is sent; made before anything is, so that a value that cannot be sent harms nothing."""

    __slots__ = ("_connection", "statement", "text", "transformer", "values")

    def __init__(self, connection: psycopg.AsyncConnection[Any], step: Step | OwnSql, name: str) -> None:
        self._connection = connection
        self.transformer: Any = None
        self.values: Sequence[Any]
        self.statement: Statement | None = None
        if isinstance(step, Step):
            self.statement, self.values = step
            return
        self.text = _numbered(step)
        self.transformer = Transformer(connection)
        try:
            self.values = self.transformer.dump_sequence(step.values, [PyFormat.AUTO] * len(step.values))
        except psycopg.Error as error:
            raise translated(error, name, own=False) from error

    @property
    def begins(self) -> bool:
        """Return whether it begins a transaction, in which nothing may come before it."""
        return self.statement is not None and self.statement.name in _BEGINNINGS

    def rows(self, result: pq.abc.PGresult) -> Rows:
        """Return the rows of the answer."""
        if not result.ntuples:
            return []
        transformer = self.transformer or Transformer(self._connection)
        transformer.set_pgresult(result)
        return transformer.load_rows(0, result.ntuples, tuple)


_BEGINNINGS = {"begin", "begin_snapshot"}
_GOOD = {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK}


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _numbered(step: OwnSql) -> bytes:
    """Return the application's SQL with numbered placeholders.

    Raises:
        ConfigurationError: a `%` is followed by neither `s` nor `%`.
    """
    if not step.values:
        return step.sql.encode()
    count = 0

    def number(found: re.Match[str]) -> str:
        nonlocal count
        if found[1] == "%":
            return "%"
        if found[1] != "s":
            raise ConfigurationError(f"{step.sql!r}: placeholders are %s, and a per cent sign beside them is %%; found {found[0]!r}")
        count += 1
        return f"${count}"

    text = _PLACEHOLDER.sub(number, step.sql)
    if count != len(step.values):
        raise ConfigurationError(f"{step.sql!r}: {count} placeholders for {len(step.values)} values")
    return text.encode()


__all__ = ["OwnSql", "Rows", "Session", "Step", "Timeouts"]
