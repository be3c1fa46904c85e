"""The embedded engine, ready to be held to the promises.

Neighbours: implements `EngineKit`; the statements that do damage are in `sqlite_damage.sql`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import apsw

from millrace.engines.sqlite import SqliteEngine
from millrace.engines.sqlite.database import Database
from millrace.engines.sqlite.leases import FileLeases
from millrace.testing.conformance.kit import Faults
from millrace.testing.conformance.statements import load_statements


class FaultyDatabase(Database):
    """Asks before each commit whether it may."""

    faults: Faults

    async def commit(self) -> None:
        """Commit, wait or fail."""
        try:
            await self.faults.before_commit(self.path.stem)
        except BaseException:
            self.rollback()
            raise
        await super().commit()


class MortalLeases(FileLeases):
    """Leases whose process can die within this one."""

    def die(self) -> None:
        """Close the files as the kernel does; nothing is unlinked."""
        for handle in [*self._locks.values(), *([] if self._member is None else [self._member])]:
            os.close(handle)
        self._locks, self._member = {}, None


class FaultyEngine(SqliteEngine):
    """The embedded engine with a kit's faults."""

    def __init__(self, folder: Path, faults: Faults) -> None:
        super().__init__(folder)
        self._faults = faults
        self._mortal: list[MortalLeases] = []

    def _database(self, name: str, kind: str) -> Database:
        self._make_folder()
        database = FaultyDatabase(self.folder / f"{name}.db", kind=kind, executor=self._executor)
        database.faults = self._faults
        self._databases.append(database)
        return database

    def leases(self, instance: str) -> FileLeases:
        """Return the leases of this process."""
        leases = MortalLeases(self.folder / "leases", instance, session_s=self._session_s)
        self._mortal.append(leases)
        return leases

    def die(self) -> None:
        """End as a killed process does: the commit in a thread may still get through, then nothing moves any more."""
        self._executor.shutdown(wait=True)
        for database in self._databases:
            database.close()
        for leases in self._mortal:
            leases.die()


class SqliteDamage:
    """See `kit.Damage`."""

    restored = "older copy"

    def __init__(self, folder: Path, copies: Path) -> None:
        self._folder = folder
        self._copies = copies
        self._sql = load_statements("sqlite_damage.sql")

    def _run(self, database: str, statement: str, values: tuple[Any, ...] = ()) -> int:
        connection = apsw.Connection(str(self._folder / f"{database}.db"))
        try:
            connection.execute(self._sql[statement], values).fetchall()
            return connection.total_changes()
        finally:
            connection.close()

    async def empty_journal(self, service: str) -> int:
        """Remove every row and count it as removed."""
        gone = self._run(service, "empty_journal")
        self._run(service, "count_removed", (gone,))
        return gone

    async def lose(self, what: str, service: str) -> None:
        """Delete the oldest row."""
        self._run("log" if what == "log" else service, f"lose_{what}")

    async def save_copy(self, database: str) -> None:
        """Copy the file with what belongs to it."""
        self._copies.mkdir(exist_ok=True)
        for path in self._folder.glob(f"{database}.db*"):
            shutil.copy2(path, self._copies)

    async def restore_copy(self, database: str) -> None:
        """Replace the file."""
        for path in self._folder.glob(f"{database}.db*"):
            path.unlink()
        for path in self._copies.glob(f"{database}.db*"):
            shutil.copy2(path, self._folder)

    async def recreate_topic(self, topic: str) -> None:
        """Delete a topic."""
        for statement in ("lose_records", "lose_partitions", "lose_topic"):
            self._run("log", statement, (topic,))

    async def publish_again(self, topic: str) -> None:
        """Append every record once more."""
        for statement in ("repeat_records", "extend_partitions"):
            self._run("log", statement, (topic,))

    async def forget_snapshots(self, service: str) -> int:
        """Delete every snapshot."""
        return self._run(service, "forget_snapshots")

    async def spoil_stream(self, service: str, stream: str) -> None:
        """Make the first event unreadable."""
        self._run(service, "spoil_stream", (stream,))


class SqliteKit:
    """See `kit.EngineKit`."""

    name = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.patience = 5.0
        self.session_s = 0.0
        self.placeholder = "?"
        self.faults = Faults()
        self.damage = SqliteDamage(folder / "data", folder / "copies")
        self._folder = folder / "data"

    def new_engine(self) -> FaultyEngine:
        """Return an engine on the folder."""
        return FaultyEngine(self._folder, self.faults)

    async def kill(self, engine: Any) -> None:
        """End an engine without a goodbye."""
        engine.die()

    def close(self) -> None:
        """Nothing: everything is in the folder."""
