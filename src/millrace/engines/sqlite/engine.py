"""The embedded engine as an application names it: a folder with `log.db`, one `<service>.db` per service, and `leases/`.

Neighbours: implements `Engine` of `ports`; `log`, `store` and `leases` do the work.
"""

from __future__ import annotations

import asyncio
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from millrace.engines.sqlite.database import Database
from millrace.engines.sqlite.leases import SESSION_S, FileLeases
from millrace.engines.sqlite.log import SqliteLog
from millrace.engines.sqlite.snapshot import Snapshot
from millrace.engines.sqlite.store import SqliteStore
from millrace.errors import StoreUnavailable
from millrace.ports import LogParts

log = logging.getLogger("millrace")

WATCH_S = 0.02
"""How often a process looks for the commits of others; bounds the relay's delay across processes."""


class SqliteEngine:
    """Log and stores as SQLite files.

    Args:
        folder: where everything lies; created when absent.
        session_s: how long an owner of partitions may be silent before others take them.
    """

    name = "sqlite"

    def __init__(self, folder: str | Path, *, session_s: float = SESSION_S) -> None:
        self.folder = Path(folder)
        self._session_s = session_s
        self._executor = ThreadPoolExecutor(max_workers=16, thread_name_prefix="commit")
        self._databases: list[Database] = []
        self._watcher: asyncio.Task[None] | None = None

    def log(self) -> LogParts:
        """Return the log of this folder."""
        log = SqliteLog(self._database("log", "log"))
        return LogParts(log, log, log, log)

    def leases(self, instance: str) -> FileLeases:
        """Return the leases of this process."""
        return FileLeases(self.folder / "leases", instance, session_s=self._session_s)

    def store(self, service: str) -> SqliteStore:
        """Return the store of a service."""
        return SqliteStore(service, self._database(service, "store"))

    def reading(self) -> SqliteEngine:
        """Return an engine that looks at the same folder and creates, changes and owns nothing."""
        return ReadingEngine(self.folder, session_s=self._session_s)

    def _database(self, name: str, kind: str) -> Database:
        self._make_folder()
        database = Database(self.folder / f"{name}.db", kind=kind, executor=self._executor)
        self._databases.append(database)
        return database

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(str(self.folder), reason="unreachable", detail=str(error)) from error
        if not os.access(self.folder, os.W_OK):
            raise StoreUnavailable(str(self.folder), reason="read_only", detail="the folder may not be written")

    async def start(self) -> None:
        """Begin to watch for the commits of other processes."""
        self._watcher = asyncio.create_task(self._watch(), name="watch files")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            for database in self._databases:
                try:
                    database.poll()
                except Exception:
                    log.exception("looking at %s failed; trying again", database.path)
                    await asyncio.sleep(1.0)

    async def stop(self) -> None:
        """Stop watching and release the threads."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        self._executor.shutdown(wait=True)


class ReadingEngine(SqliteEngine):
    """A folder as operators look at it, beside running processes or without any: each file as it was at one moment."""

    def _database(self, name: str, kind: str) -> Database:
        if not self.folder.is_dir():
            detail = "there is no such folder; nothing was started here, or the setting names another one"
            raise StoreUnavailable(str(self.folder), reason="absent", detail=detail)
        return Snapshot(self.folder / f"{name}.db", kind=kind, executor=self._executor)
