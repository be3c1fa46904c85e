"""Listens to the database drivers of this process and tells a counter of every commit and of what it wrote.

Two drivers of files are heard: `apsw`, which the embedded engine uses, by its connection hooks, and the standard library's `sqlite3`, which
applications use for files of their own, by the class of its connections. Only connections opened after `listen` are heard.

A commit is told after the statement has returned, when SQLite has synced the write-ahead log, and not from its commit hook, which runs
before, nor from its WAL hook, which `pragma wal_autocheckpoint` would replace and which would replace the automatic checkpoints of the
program under test.

The engines of servers are heard where their drivers are installed: `postgres` and `kafka` say how.

Neighbours: `counting` counts; `naming` gives statements their names.
"""

from __future__ import annotations

import contextlib
import sqlite3
from importlib import import_module
from pathlib import Path
from typing import Any

import apsw

from millrace.testing.crash.counting import Counter
from millrace.testing.crash.naming import is_end, operation_of


def listen(counter: Counter) -> None:
    """Hear every connection that is opened, and every producer that is made, from now on."""

    def hear(connection: apsw.Connection) -> None:
        listener = Listener(counter, connection.filename)
        connection.exec_trace = lambda _, sql, values: listener.begins(sql, values, inside=connection.in_transaction)
        connection.set_profile(lambda sql, time: listener.returned(inside=connection.in_transaction))  # noqa: ARG005  # SQLite's signature

    apsw.connection_hooks.append(hear)
    sqlite3.connect = _connecting(counter)
    for engine in ("postgres", "kafka"):
        with contextlib.suppress(ImportError):  # the driver is not installed, so nobody uses it
            import_module(f"millrace.testing.crash.{engine}").listen(counter)


class Listener:
    """Follows the statements of one connection."""

    def __init__(self, counter: Counter, filename: str) -> None:
        self._counter = counter
        self._service = Path(filename).stem
        self._operations: set[str] = set()
        self._ending = False

    def begins(self, sql: str, values: Any, *, inside: bool) -> bool:
        """A statement is about to run, inside of a transaction or on its own."""
        if not inside:
            self._operations.clear()
        operation = operation_of(sql, values)
        if operation is not None:
            self._operations.add(operation)
        if (operation is not None and not inside) or (inside and is_end(sql)):
            self._ending = True
            self._counter.enter(self._service)
        return True

    def returned(self, *, inside: bool) -> None:
        """A statement has returned; a transaction is open still, or none is."""
        if self._ending:
            self._ending = False
            self._counter.leave(self._service, () if inside else self._operations)
        if not inside:
            self._operations.clear()


def _connecting(counter: Counter) -> Any:
    connect = sqlite3.connect

    class Heard(sqlite3.Connection):
        """A connection that is listened to; `execute` alone, which is what short programs use."""

        listener: Listener

        def execute(self, sql: str, /, *values: Any) -> sqlite3.Cursor:  # type: ignore[override]
            self.listener.begins(sql, values[0] if values else (), inside=self.in_transaction)
            try:
                return super().execute(sql, *values)
            finally:
                self.listener.returned(inside=self.in_transaction)

    def connect_heard(database: Any, *options: Any, **named: Any) -> sqlite3.Connection:
        connection = connect(database, *options, **{"factory": Heard, **named})
        if isinstance(connection, Heard):
            connection.listener = Listener(counter, str(database))
        return connection

    return connect_heard
