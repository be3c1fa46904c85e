"""The PostgreSQL engine as an application names it: an address, and a schema per service.

It keeps stores. A log it has none; `millrace.split.SplitEngine` takes log and leases from another engine.

A pooler in transaction mode may stand between (see `session`); of it all only LISTEN does not work there (see `hints`). A transaction keeps
its connection of the server, so a pool needs two for each service, one for its writers and one for a command that looks at all of them at
one moment; with less they wait for each other.

Neighbours: implements the store side of `Engine` of `ports`; `sessions`, `hints` and `store` do the work.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence

from millrace.engines.postgres.hints import Hints
from millrace.engines.postgres.roles import role_for
from millrace.engines.postgres.schema import Schema
from millrace.engines.postgres.session import Timeouts
from millrace.engines.postgres.sessions import Sessions
from millrace.engines.postgres.store import PostgresSnapshot, PostgresStore
from millrace.erasure import Belongings
from millrace.errors import ConfigurationError
from millrace.leasing import Leases
from millrace.ports import LogParts
from millrace.rights import Role


class PostgresEngine:
    """Stores on a PostgreSQL server.

    Args:
        url: as libpq takes it: `postgresql://user@host:5432/database`, or `host=... dbname=...`. Never shown.
        namespace: put in front of each schema's name, for several applications in one database.
        timeouts: of its connections.
    """

    name = "postgres"

    def __init__(self, url: str, *, namespace: str = "", timeouts: Timeouts | None = None) -> None:
        if not re.fullmatch(r"[a-z0-9_-]*", namespace):
            raise ConfigurationError(f"namespace {namespace!r}: use lower-case letters, digits, '_' and '-'")
        self._url = url
        self._namespace = namespace
        self._timeouts = timeouts or Timeouts()
        self._sessions = Sessions(url, timeouts=self._timeouts)
        self._hints = Hints(self._sessions, instance=f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}")

    def __repr__(self) -> str:
        """Name it without its address, which may hold a password."""
        return f"{type(self).__name__}(namespace={self._namespace!r})"

    def log(self) -> LogParts:
        """Refuse.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError(
            "PostgreSQL keeps stores and has no log; combine it with an engine that has one: SplitEngine(log=..., stores=...)"
        )

    def leases(self, instance: str) -> Leases:
        """Refuse.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError("leases come from the engine of the log; combine them: SplitEngine(log=..., stores=...)")

    def store(self, service: str) -> PostgresStore:
        """Return the store of a service."""
        return PostgresStore(service, self.schema_of(service), sessions=self._sessions, hints=self._hints)

    def schema_of(self, service: str) -> str:
        """Return the name of a service's schema."""
        return f"{self._namespace}_{service}" if self._namespace else service

    def reading(self) -> PostgresEngine:
        """Return an engine that looks at the same schemas and creates, changes and owns nothing."""
        return ReadingEngine(self._url, namespace=self._namespace, timeouts=self._timeouts)

    def roles(self, services: Sequence[str], *, role: str) -> list[Role]:
        """Return a role per service that owns its schema; see `GuardedStores`."""
        return [role_for(service, self.schema_of(service), role.replace("{service}", service)) for service in services]

    async def erase(self, names: Belongings, *, dry_run: bool) -> list[str]:
        """Delete the schemas of an application; see `Erasure`."""
        found: list[str] = []
        session = await self._sessions.connect("erase")
        try:
            for service in names.services:
                schema = Schema(self.schema_of(service), place=service)
                if await schema.version(session):
                    found.append(f"PostgreSQL schema {schema.name}")
                    if not dry_run:
                        await schema.drop(session)
        finally:
            session.close()
        return found

    async def start(self) -> None:
        """Begin to tell other processes of commits, and to hear of theirs."""
        self._hints.start()

    async def stop(self) -> None:
        """End that, and close what is open."""
        await self._hints.stop()
        self._sessions.close()


class ReadingEngine(PostgresEngine):
    """Schemas as operators look at them, beside running processes or without any: each as it was at one moment."""

    def store(self, service: str) -> PostgresStore:
        """Return the store of a service as it is when it is opened."""
        return PostgresSnapshot(service, self.schema_of(service), sessions=self._sessions, hints=self._hints)
