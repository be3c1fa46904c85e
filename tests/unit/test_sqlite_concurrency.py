"""One file of the embedded engine and several who use it at once: first starts that meet, a close that meets a checkpoint."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import pytest

from millrace.engines.sqlite.database import CHECKPOINT_EVERY, LOOKS_MAX, Database
from millrace.engines.sqlite.store import SqliteStore
from millrace.ports import JournalEntry

TOGETHER = 4
COMMITS = 32 * CHECKPOINT_EVERY
"""The last one begins a checkpoint."""


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """Where databases wait for the disk."""
    with ThreadPoolExecutor(TOGETHER) as found:
        yield found


def make_elsewhere(path: Path) -> None:
    """Make a store's file as another process does, from its first statement to its last."""

    async def make() -> None:
        with ThreadPoolExecutor(1) as executor:
            database = Database(path, kind="store", executor=executor)
            await database.open()
            await database.finish()

    thread = threading.Thread(target=lambda: asyncio.run(make()))
    thread.start()
    thread.join()


class Overtaken(Database):
    """Another process makes the file between the first and the second statement of this one."""

    others: list[Callable[[Path], None]]

    def _check_contents(self, connection: apsw.Connection) -> None:
        inner = self._value

        def value(connection: apsw.Connection, statement: str) -> Any:
            found = inner(connection, statement)
            while self.others:
                self.others.pop()(self.path)
            return found

        self._value = value  # type: ignore[method-assign]
        super()._check_contents(connection)


async def test_a_file_that_fills_while_it_is_looked_at_is_ours(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    """Who finds a new file empty, and full a moment later, because another process starts as well, does not take it for a stranger's."""
    database = Overtaken(tmp_path / "orders.db", kind="store", executor=executor)
    database.others = [make_elsewhere]
    await database.open()
    assert not database.others
    await database.finish()


async def test_a_file_that_is_locked_while_it_is_opened_is_waited_for(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    """The moment in which another process writes the first page of a new file holds nobody up for good."""
    path = tmp_path / "orders.db"
    other = apsw.Connection(str(path))
    other.execute("begin exclusive")
    releasing = threading.Timer(0.1, other.execute, ["rollback"])
    releasing.start()
    database = Database(path, kind="store", executor=executor)
    await database.open()
    releasing.join()
    await database.finish()
    other.close()


def test_first_starts_that_meet_all_succeed(tmp_path: Path) -> None:
    """Whoever opens a store that does not exist yet, at the same moment as others, finds it made once."""
    barrier = threading.Barrier(TOGETHER)

    async def start(path: Path) -> int:
        with ThreadPoolExecutor(1) as executor:
            store = SqliteStore("orders", Database(path, kind="store", executor=executor))
            barrier.wait()
            await store.open()
            epoch = await store.epoch()
            await store.close()
            return epoch

    with ThreadPoolExecutor(TOGETHER) as processes:
        for number in range(10):
            path = tmp_path / f"{number}.db"
            assert len({future.result() for future in [processes.submit(asyncio.run, start(path)) for _ in range(TOGETHER)]}) == 1


class Held(Database):
    """Its checkpoints stop before their first statement until they are let go."""

    entered: threading.Event
    go: threading.Event
    copied: list[int]

    def _copy_frames(self, mode: str) -> int:
        self.entered.set()
        assert self.go.wait(30)
        _, frames, done = next(self.keeper.execute(f"pragma wal_checkpoint({mode})"))
        self.copied.append(done)
        return int(frames)


async def write(store: SqliteStore, position: int) -> None:
    """Commit one row."""
    transaction = await store.begin()
    await transaction.journal.append([JournalEntry(position, "t", 0, "k", None, None, b"x" * 100)])
    await transaction.commit()


async def test_closing_waits_for_a_checkpoint(tmp_path: Path, executor: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture) -> None:
    """The thread of a checkpoint uses a connection: it is closed after that, and the checkpoint ends well."""
    database = Held(tmp_path / "orders.db", kind="store", executor=executor)
    database.entered, database.go, database.copied = threading.Event(), threading.Event(), []
    store = SqliteStore("orders", database)
    await store.open()
    for position in range(1, CHECKPOINT_EVERY + 1):
        await write(store, position)
    await asyncio.to_thread(database.entered.wait, 30)
    closing = asyncio.ensure_future(store.close())
    done, _ = await asyncio.wait([closing], timeout=0.05)
    database.go.set()
    assert not done, "the connection must not be closed under the checkpoint"
    await closing
    assert database.copied[0] > 0
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_stopping_in_the_midst_of_writing_loses_nothing(
    tmp_path: Path, executor: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """Two thousand commits with their checkpoints, closed at once after the last: all are there, and nobody complained."""
    store = SqliteStore("orders", Database(tmp_path / "orders.db", kind="store", executor=executor))
    await store.open()
    for position in range(1, COMMITS + 1):
        await write(store, position)
    await store.close()
    store = SqliteStore("orders", Database(tmp_path / "orders.db", kind="store", executor=executor))
    await store.open()
    assert (await store.reader.journal.counts(COMMITS))[:2] == (COMMITS, COMMITS)
    await store.close()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_commits_of_others_are_noticed_at_the_next_look(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    """However often somebody else commits, each commit is noticed by the look that follows it; looks in between tell nothing."""
    mine, others = (Database(tmp_path / "orders.db", kind="store", executor=executor) for _ in range(2))
    await mine.open()
    await others.open()
    noticed: list[None] = []
    mine.on_change(lambda: noticed.append(None))
    mine.poll()
    for number in range(20):
        await commit(others)
        for _ in range(3):
            mine.poll()
        assert len(noticed) == number + 1
    await others.finish()
    await mine.finish()


async def test_commits_are_noticed_though_the_files_time_stands_still(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    """The time of a file says when something was written, not when its sync ended: a commit is found without it, a little later."""
    mine, others = (Database(tmp_path / "orders.db", kind="store", executor=executor) for _ in range(2))
    await mine.open()
    await others.open()
    noticed: list[int] = []
    mine.on_change(lambda: noticed.append(1))
    log = tmp_path / "orders.db-wal"
    os.utime(log, (1, 1))
    mine.poll()
    await commit(others)
    os.utime(log, (1, 1))
    for _ in range(LOOKS_MAX):
        mine.poll()
    assert noticed == [1]
    await others.finish()
    await mine.finish()


async def commit(database: Database) -> None:
    """Change something."""
    await database.begin()
    database.writer.execute("insert or replace into meta values ('checked', hex(randomblob(8)))")
    await database.commit()
