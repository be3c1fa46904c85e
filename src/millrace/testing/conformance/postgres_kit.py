"""Stores on a real PostgreSQL, ready to be held to the promises together with the log of another engine.

The server is named by `MILLRACE_TEST_POSTGRES`, an address whose role may make schemas; `servers` says what happens without it. Each kit
has a namespace of its own in that database and removes it at its end.

Neighbours: implements the store side of `EngineKit`; `split_kit` puts a log beside it; the statements that do damage are in
`postgres_damage.sql`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, LiteralString, cast

import psycopg

from millrace.engines.postgres import PostgresEngine
from millrace.engines.postgres.hints import Hints
from millrace.engines.postgres.session import Session, Timeouts
from millrace.engines.postgres.sessions import Sessions
from millrace.engines.postgres.store import PostgresStore
from millrace.errors import StoreUnavailable
from millrace.testing.conformance.kit import Faults
from millrace.testing.conformance.servers import POSTGRES, server
from millrace.testing.conformance.statements import load_statements


def server_address() -> str:
    """Return the address of the server for tests; without one, skip or fail."""
    return server(POSTGRES)


class MortalSessions(Sessions):
    """Connections that can all end at once, as those of a killed process do."""

    def __init__(self, url: str, *, timeouts: Timeouts) -> None:
        super().__init__(url, timeouts=timeouts)
        self.made: list[Session] = []
        self.dead = False

    async def connect(self, name: str, *, idle_s: float | None = None) -> Session:
        """Connect, unless the process is dead."""
        if self.dead:
            raise StoreUnavailable(name, reason="unreachable", detail="this process is dead")
        session = await super().connect(name, idle_s=idle_s)
        self.made.append(session)
        if self.dead:
            session.close()
        return session

    def die(self) -> list[int]:
        """Close every connection; return the numbers of the processes that served them."""
        self.dead = True
        made, self.made = self.made, []
        for session in made:
            session.close()
        return [session.backend for session in made]


class FaultyStore(PostgresStore):
    """Asks before each commit whether it may."""

    faults: Faults

    async def before_commit(self) -> None:
        """Wait or fail."""
        await self.faults.before_commit(self.name)


class FaultyEngine(PostgresEngine):
    """The engine with a kit's faults."""

    def __init__(self, url: str, *, namespace: str, faults: Faults) -> None:
        super().__init__(url, namespace=namespace)
        self._sessions = self.mortal = MortalSessions(url, timeouts=self._timeouts)
        self._hints = Hints(self._sessions, instance=os.urandom(8).hex())
        self._faults = faults

    def store(self, service: str) -> PostgresStore:
        """Return the store of a service, with faults."""
        store = FaultyStore(service, self.schema_of(service), sessions=self._sessions, hints=self._hints)
        store.faults = self._faults
        return store


class PostgresDamage:
    """See `kit.Damage`; what concerns a log is not here."""

    restored = ""

    def __init__(self, url: str, namespace: str) -> None:
        self._url = url
        self._namespace = namespace
        self._sql = load_statements("postgres_damage.sql")

    def run(self, statement: str, *values: Any, schema: str = "") -> list[tuple[Any, ...]]:
        """Run a statement on a connection of its own."""
        text = cast("LiteralString", self._sql[statement].replace("{schema}", schema or self._namespace))
        with psycopg.connect(self._url, autocommit=True) as connection:
            found = connection.execute(text, values or None)
            return found.fetchall() if found.description else []

    def _in(self, service: str) -> str:
        return f"{self._namespace}_{service}"

    async def empty_journal(self, service: str) -> int:
        """Remove every row and count it as removed."""
        ((gone,),) = self.run("empty_journal", schema=self._in(service))
        self.run("count_removed", gone, schema=self._in(service))
        return gone

    async def lose(self, what: str, service: str) -> None:
        """Delete the oldest row."""
        self.run(f"lose_{what}", schema=self._in(service))

    async def save_copy(self, database: str) -> None:
        """Copy the tables of a schema."""
        self.run("save_copy", schema=self._in(database))

    async def restore_copy(self, database: str) -> None:
        """Put the rows back."""
        self.run("restore_copy", schema=self._in(database))

    async def recreate_topic(self, topic: str) -> None:
        """There is no topic here."""
        raise NotImplementedError(topic)

    async def publish_again(self, topic: str) -> None:
        """There is no topic here."""
        raise NotImplementedError(topic)

    async def forget_snapshots(self, service: str) -> int:
        """Delete every snapshot."""
        return self.run("forget_snapshots", schema=self._in(service))[0][0]

    async def spoil_stream(self, service: str, stream: str) -> None:
        """Make the first event unreadable."""
        self.run("spoil_stream", stream, schema=self._in(service))


class PostgresKit:
    """See `kit.EngineKit`; its engines have no log."""

    name = "postgres"

    def __init__(self, folder: Path) -> None:
        self.patience = 10.0
        self.placeholder = "%s"
        self.session_s = 0.0
        self.faults = Faults()
        self._url = server_address()
        self._made: list[FaultyEngine] = []
        self._namespace = f"t{os.urandom(5).hex()}"
        self.damage = PostgresDamage(self._url, self._namespace)

    def new_engine(self) -> FaultyEngine:
        """Return an engine on the namespace."""
        engine = FaultyEngine(self._url, namespace=self._namespace, faults=self.faults)
        self._made.append(engine)
        return engine

    async def kill(self, engine: Any) -> None:
        """End an engine without a goodbye, and its processes on the server with it."""
        self._end(engine)

    def _end(self, engine: FaultyEngine) -> None:
        backends = engine.mortal.die()
        while self.damage.run("end_backends", backends)[0][0]:
            pass

    def close(self) -> None:
        """End what a failed check has left running, and remove the schemas."""
        for engine in self._made:
            self._end(engine)
        self.damage.run("forget_schemas")
