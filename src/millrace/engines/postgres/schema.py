"""A service's schema: found, made, migrated, refused.

Migrations are numbered files; each start applies those that are missing, in one transaction under an advisory lock that names the schema,
so instances that start at once do it one after the other and the later ones find nothing to do. The version that was reached stands in the
schema itself. A newer version than this release knows is refused: what it means is not known here.

A schema that is there and empty is filled: where roles may not make schemas, a database administrator makes one for each service.

Neighbours: `store` opens with it; `snapshot` asks what is there.
"""

from __future__ import annotations

import hashlib
from typing import Any

from millrace.engines.postgres.arrays import scalar
from millrace.engines.postgres.queries import Statement, Statements, migrations
from millrace.engines.postgres.session import Session, Step
from millrace.errors import ConfigurationError, StoreUnavailable

NAME_BYTES_MAX = 63
KIND = "millrace store"


def lock_key(purpose: str, schema: str) -> bytes:
    """Return the key of an advisory lock, packed."""
    return hashlib.sha256(f"millrace {purpose} {schema}".encode()).digest()[:8]


class Schema:
    """One schema on a server.

    Args:
        name: of the schema, unquoted.
        place: how errors name it.
    """

    def __init__(self, name: str, *, place: str) -> None:
        if len(name.encode()) > NAME_BYTES_MAX:
            raise ConfigurationError(
                f"schema {name!r}: the name of a schema has at most {NAME_BYTES_MAX} bytes; shorten service or namespace"
            )
        self.newest = len(migrations())
        self.name = name
        self._place = place
        self._sql = Statements("server.sql", name)
        self._begin = Statements("store.sql", name)

    async def open(self, session: Session) -> None:
        """Make or migrate it.

        Raises:
            StoreUnavailable: `not_ours`, `newer_version`, or why the server refused.
        """
        version = await self.version(session)
        if version == self.newest:
            return
        try:
            await session.run([Step(self._begin["begin"]), Step(self._sql["lock_migration"], (lock_key("migration", self.name),))])
            await self._migrate(session)
            await session.run([Step(self._begin["commit"])])
        except BaseException:
            if session.usable:
                await session.run([Step(self._begin["rollback"])])
            raise

    async def drop(self, session: Session) -> None:
        """Delete it and everything in it; waits for whoever uses it no longer than any statement waits for a lock."""
        await session.run([Step(self._sql["drop_schema"])])

    async def _migrate(self, session: Session) -> None:
        version = await self.version(session)
        if version is None:
            await session.run([Step(self._sql["create_schema"])])
        for number, script in enumerate(migrations()[version or 0 :], start=1 + (version or 0)):
            texts = [text for text in _bare(script.replace("{schema}", self._sql.place)).split(";") if text.strip()]
            steps = [Step(Statement(f"migration {number}", text)) for text in texts]
            await session.run([*steps, Step(self._sql["set_version"], (scalar(str(number)),))])

    async def version(self, session: Session) -> int | None:
        """Return which version it has, 0 for an empty schema, None where there is none.

        Raises:
            StoreUnavailable: `newer_version` than this release knows; `not_ours`: it holds something else.
        """
        there, ours, filled = (await self._ask(session, "find_schema", scalar(self.name)))[0]
        if not there or not filled:
            return 0 if there else None
        if not ours:
            raise StoreUnavailable(self._place, reason="not_ours", detail="the schema has tables, but none of a millrace store")
        ((kind, version),) = await self._ask(session, "schema_kind")
        if kind != KIND:
            raise StoreUnavailable(self._place, reason="not_ours", detail=f"the schema holds {kind!r}, not a millrace store")
        if int(version) > self.newest:
            detail = f"schema {version}, this release knows {self.newest}; use the release that wrote it"
            raise StoreUnavailable(self._place, reason="newer_version", detail=detail)
        return int(version)

    async def _ask(self, session: Session, query: str, *values: bytes | None) -> list[tuple[Any, ...]]:
        return (await session.run([Step(self._sql[query], values)]))[0]


def _bare(script: str) -> str:
    """Return a script without its comments."""
    return "\n".join(line.partition("--")[0] for line in script.splitlines())
