"""One SQLite file: opening, migrating, transactions, and every driver error translated in one place.

Settings: WAL and `synchronous=FULL`, so a commit that returned survives power loss.

Where a commit waits for the disk is measured. A commit that takes less than 8 ms is done on the event loop: handing it to a
thread costs more, because the thread needs the interpreter lock to report back and a busy loop gives it up only every five milliseconds.
A longer one (a slower disk, a large batch) runs in a thread, so other requests are parsed meanwhile and share the next commit; every
16th commit measures again.
Checkpoints run in a thread, on a connection of their own.

Three connections per file: `writer` (inside `begin`/`commit`, guarded by an asyncio lock, because SQLite has one writer anyway),
`reader` (single statements, never a transaction held across an await), `keeper` (checkpoints). Another process's commit is noticed
by `PRAGMA data_version` on the writer, to which its own commits are no change.

Neighbours: the table modules execute on the connections; nobody else imports the driver.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import apsw

from millrace.engines.sqlite.filesystem import file_system_of, network_file_system
from millrace.engines.sqlite.queries import migrations
from millrace.errors import StoreUnavailable

log = logging.getLogger("millrace")

Found = TypeVar("Found")

LOCK_WAIT_S = 30.0
OPEN_WAIT_MS = 2000
INLINE_MAX_S = 0.008
"""Commits that take longer than this are waited for in a thread."""
PROBE_EVERY = 16
CHECKPOINT_EVERY = 128
PAGE_BYTES = 8192
"""Of new files: a page takes twice the rows of the usual 4096, which makes batches a tenth faster and costs single commits nothing."""
WAL_BYTES = 64 << 20
WAL_FRAMES_MAX = WAL_BYTES // PAGE_BYTES
SKIPS_MAX = 50
LOOKS_MAX = 32
"""After so many looks at a file's time the database is asked, whatever the time says."""
SYNC_MAX_NS = 1_000_000_000
"""A sync that takes longer is found by the doubt above."""
APPLICATION_IDS = {"store": 0x4D_52_53_31, "log": 0x4D_52_4C_31}
FREE_BYTES_MIN = 256 << 20


class Database:
    """A file of the embedded engine.

    Args:
        path: the file; its folder must exist.
        kind: `store` or `log`; decides the schema.
        executor: where commits wait for the disk.
    """

    def __init__(self, path: Path, *, kind: str, executor: Executor) -> None:
        self.path = path
        self.kind = kind
        self.newest = len(migrations(kind))
        self._executor = executor
        self._translation = _Translation(path)
        self._lock = asyncio.Lock()
        self._watchers: list[Callable[[], None]] = []
        self._seen_version = -1
        self._skipped = 0
        self._wal = path.with_name(f"{path.name}-wal")
        self._written_at = 0
        self._looks = 0
        self._closed = True
        self._commits = 0
        self._commit_s = 0.0
        self._checkpointing: asyncio.Task[None] | None = None
        self.writer: apsw.Connection
        self.reader: apsw.Connection
        self.keeper: apsw.Connection

    async def open(self) -> None:
        """Open the file, creating or migrating it.

        Raises:
            StoreUnavailable: with the reason, for a file that cannot be used.
        """
        self._check_place()
        with self.translated():
            self.writer = self._connect()
        await self._begin_migrating()
        with self.translated():
            self.reader = self._connect()
            self.keeper = self._connect()
            self._seen_version = self._version()
        self._closed = False

    def _check_place(self) -> None:
        self._check_file_system()
        if self.path.exists() and not os.access(self.path, os.W_OK):
            raise StoreUnavailable(str(self.path), reason="read_only", detail="the file may not be written")

    def _check_file_system(self) -> None:
        found = network_file_system(self.path.parent)
        if found:
            raise StoreUnavailable(
                str(self.path),
                reason="network_file_system",
                detail=f"the folder is on {found}, where SQLite's locks cannot be trusted; use a local disk",
            )

    def _connect(self) -> apsw.Connection:
        connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI)
        connection.set_busy_timeout(OPEN_WAIT_MS)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        connection.set_busy_timeout(0)
        return connection

    def _prepare(self, connection: apsw.Connection) -> None:
        self._check_contents(connection)
        sizes = (f"page_size={PAGE_BYTES}", f"journal_size_limit={WAL_BYTES}")
        for pragma in (*sizes, "journal_mode=wal", "synchronous=full", "wal_autocheckpoint=0"):
            self._patiently(connection, f"pragma {pragma}")
        connection.execute("pragma cache_size=-16000")

    def _check_contents(self, connection: apsw.Connection) -> None:
        # Asked first: another process may fill a new file between these statements.
        empty = not self._value(connection, "pragma schema_version")
        found = self._value(connection, "pragma application_id")
        version = self._value(connection, "pragma user_version")
        if not empty and found != APPLICATION_IDS[self.kind]:
            raise StoreUnavailable(str(self.path), reason="not_ours", detail=f"it is a SQLite file, but no millrace {self.kind}")
        if version > self.newest:
            raise StoreUnavailable(
                str(self.path),
                reason="newer_version",
                detail=f"schema {version}, this release knows {self.newest}; use the release that wrote it",
            )

    def _patiently(self, connection: apsw.Connection, statement: str) -> None:
        # Processes that start at once all switch a new file to WAL. SQLite asks its busy handler while it waits for a lock, but refuses at
        # once where two wait for each other: then one of them has to let go and begin again.
        connection.set_busy_timeout(OPEN_WAIT_MS)
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                connection.execute(statement).fetchall()
            except apsw.BusyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.0005, 0.002))  # noqa: S311  # both would meet again otherwise
            else:
                break
        connection.set_busy_timeout(0)

    @staticmethod
    def _value(connection: apsw.Connection, statement: str) -> Any:
        return next(connection.execute(statement))[0]

    async def _begin_migrating(self) -> None:
        await self.begin()
        try:
            with self.translated():
                version = self._value(self.writer, "pragma user_version")
                for script in migrations(self.kind)[version:]:
                    self.writer.execute(script)
                if version < self.newest:
                    self.writer.execute(f"pragma application_id={APPLICATION_IDS[self.kind]}")
                    self.writer.execute(f"pragma user_version={self.newest}")
        except BaseException:
            self.rollback()
            raise
        await self.commit()

    async def begin(self) -> None:
        """Begin a write transaction; waits for the writers of this and other processes.

        Raises:
            StoreUnavailable: reason `locked` after 30 s, or whatever else is wrong.
        """
        await self._lock.acquire()
        try:
            await self._begin_immediate()
        except BaseException:
            self._lock.release()
            raise

    async def _begin_immediate(self) -> None:
        pause, deadline = 0.0002, time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                with self.translated():
                    self.writer.execute("begin immediate")
            except StoreUnavailable as error:
                if error.reason != "locked" or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(pause)
                pause = min(pause * 2, 0.01)
            else:
                return

    async def commit(self) -> None:
        """Make the transaction durable; when it fails, nothing of it has happened."""
        try:
            with self.translated():
                if self._commit_s < INLINE_MAX_S or self._commits % PROBE_EVERY == 0:
                    self._commit_here()
                else:
                    await _finished(asyncio.get_running_loop().run_in_executor(self._executor, self._commit))
        except BaseException:
            self.rollback()
            raise
        self._lock.release()
        self._checkpoint_in_time()

    def _checkpoint_in_time(self) -> None:
        self._commits += 1
        if self._commits % CHECKPOINT_EVERY == 0 and (self._checkpointing is None or self._checkpointing.done()):
            self._checkpointing = asyncio.create_task(self._checkpoint(), name=f"checkpoint {self.path.name}")

    async def apart(self, work: Callable[[], Found]) -> Found:
        """Run work that commits on a connection of its own in a thread, while this process's other writers wait."""
        async with self._lock:
            with self.translated():
                found = await _finished(asyncio.get_running_loop().run_in_executor(self._executor, work))
        self._checkpoint_in_time()
        return found

    def connect(self) -> apsw.Connection:
        """Return one more connection to the file; it waits for locks, so it is for threads."""
        with self.translated():
            connection = self._connect()
        connection.set_busy_timeout(int(LOCK_WAIT_S * 1000))
        return connection

    def _commit_here(self) -> None:
        """Commit on the event loop and learn how long the disk takes."""
        begin = time.perf_counter()
        self._commit()
        took = time.perf_counter() - begin
        self._commit_s += (took - self._commit_s) * (0.2 if self._commit_s < INLINE_MAX_S else 0.5)

    def _commit(self) -> None:
        self.writer.execute("commit")

    async def _checkpoint(self) -> None:
        """Copy the write-ahead log into the file, in a thread beside the writer; when it has grown too long, while nobody writes.

        The few frames that were written meanwhile are copied at once, so the next commit begins the log anew: writing over blocks that
        are there costs the disk a quarter less than making the file longer.
        """
        loop = asyncio.get_running_loop()
        try:
            frames = await loop.run_in_executor(self._executor, self._copy_frames, "passive")
            async with self._lock:
                if frames > WAL_FRAMES_MAX:
                    await _finished(loop.run_in_executor(self._executor, self._copy_frames, "restart"))
                else:
                    self._copy_frames("passive")
        except apsw.Error as error:
            log.warning("checkpoint of %s: %s; the next one tries again", self.path, error)

    def _copy_frames(self, mode: str) -> int:
        if self._closed:
            return 0
        _, frames, _ = next(self.keeper.execute(f"pragma wal_checkpoint({mode})"))
        return int(frames)

    def rollback(self) -> None:
        """Undo the transaction."""
        try:
            if self.writer.in_transaction:
                self.writer.execute("rollback")
        finally:
            self._lock.release()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back after a commit of anybody."""
        self._watchers.append(callback)

    def poll(self) -> None:
        """Look whether another process has committed since the last look, and tell the watchers.

        The writer's own connection is asked, because to it its own commits are no change; where a transaction is open it is asked
        next time, and after a second of that the watchers are told anyway.
        """
        if self._closed:
            return
        if self._lock.locked() and self._skipped < SKIPS_MAX:
            self._skipped += 1
            return
        if not self._skipped and not self._written():
            return
        version = self._seen_version if self._skipped >= SKIPS_MAX else self._version()
        if version != self._seen_version or self._skipped >= SKIPS_MAX:
            self._seen_version, self._skipped = version, 0
            for watcher in self._watchers:
                watcher()

    def _written(self) -> bool:
        """Return whether somebody may have written since the last look; asking the file's time costs a tenth of asking the database.

        What was written is seen when it is synced, which may take its time, so a recent write is asked after for as long as that.
        """
        self._looks += 1
        try:
            at = self._wal.stat().st_mtime_ns
        except OSError:
            return True
        before, self._written_at = self._written_at, at
        return at != before or time.time_ns() - at < SYNC_MAX_NS or self._looks % LOOKS_MAX == 0

    def _version(self) -> int:
        try:
            return int(self._value(self.writer, "pragma data_version"))
        except apsw.BusyError:
            return self._seen_version

    def check(self) -> list[tuple[str, bool, str]]:
        """Return (what, well, finding) about the file's settings, its soundness (reads all of it) and its disk."""
        with self.translated():
            mode, sync, version, sound = (
                self._value(self.reader, f"pragma {name}") for name in ("journal_mode", "synchronous", "user_version", "quick_check")
            )
        free = shutil.disk_usage(self.path.parent).free
        writable = os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)
        return [
            ("writable", writable, "yes" if writable else "this user may not write the file or its folder"),
            ("journal_mode", mode == "wal", mode if mode == "wal" else f"{mode}; must be wal"),
            ("synchronous", sync == 2, "full" if sync == 2 else f"{sync}; must be 2 (full) to survive power loss"),
            ("schema", version == self.newest, f"version {version}; this release writes {self.newest}"),
            ("quick_check", sound == "ok", str(sound)),
            ("file_system", True, file_system_of(self.path.parent) or "unknown"),
            ("free_disk", free >= FREE_BYTES_MIN, f"{free >> 20:,} MiB free, {FREE_BYTES_MIN >> 20} are wanted"),
        ]

    async def finish(self) -> None:
        """Close the connections after a checkpoint that is under way, whose thread still uses one of them."""
        self._closed = True
        if self._checkpointing is not None:
            await asyncio.gather(self._checkpointing, return_exceptions=True)
        self.close()

    def close(self) -> None:
        """Close the connections; an open transaction is undone."""
        self._closed = True
        for connection in (getattr(self, name, None) for name in ("keeper", "reader", "writer")):
            if connection is not None:
                connection.close()

    def translated(self) -> AbstractContextManager[None]:
        """Turn the driver's errors into `StoreUnavailable` with a reason."""
        return self._translation


class _Translation(AbstractContextManager[None]):
    """The block in which a driver's error becomes `StoreUnavailable`; keeps nothing, so one object serves every statement."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, apsw.Error):
            raise StoreUnavailable(str(self._path), reason=reason_of(error), detail=str(error)) from error


async def _finished(work: asyncio.Future[Found]) -> Found:
    """Wait for a commit even when the waiter is cancelled: the thread is using the connection."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


_REASONS: tuple[tuple[type[apsw.Error], str], ...] = (
    (apsw.BusyError, "locked"),
    (apsw.LockedError, "locked"),
    (apsw.FullError, "full"),
    (apsw.ReadOnlyError, "read_only"),
    (apsw.CorruptError, "corrupt"),
    (apsw.NotADBError, "corrupt"),
    (apsw.PermissionsError, "read_only"),
    (apsw.CantOpenError, "unreachable"),
    (apsw.IOError, "unreachable"),
)


def reason_of(error: apsw.Error) -> str:
    """Return the reason word for a driver error; what is not listed is a mistake of ours or of the application's SQL."""
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), "failed")
