"""The writer repeats what lost to another process, as a group first, item by item then, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from millrace.clock import SystemClock
from millrace.engines.sqlite import SqliteEngine
from millrace.errors import Conflict
from millrace.serialization import Catalogue
from millrace.testing.wrapping import Wrapped, WrappedEngine
from millrace.unit_of_work import Saying, UnitOfWork
from millrace.writer import TRIES_MAX, TRIES_TOGETHER, Waiting, Writer


class Losing(Wrapped):
    """A transaction whose commit loses to others as often as it is told, or whenever a key is among its rows."""

    left = 0
    loser: str | None = None

    async def commit(self) -> None:
        """Commit, or undo everything and say who was faster."""
        rows = await self.inner.states.page("k", after="", limit=100)
        if Losing.left or Losing.loser in dict(rows):
            Losing.left = max(0, Losing.left - 1)
            await self.inner.rollback()
            raise Conflict("s", detail="another transaction was faster")
        await self.inner.commit()


class Put(Waiting):
    """Writes one row."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.runs = 0

    async def run(self, unit: UnitOfWork) -> None:
        """Write it."""
        self.runs += 1
        await unit.transaction.states.save([("k", self.key, b"1")])


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer]:
    """A writer on a store whose commits may lose, not started."""
    Losing.left, Losing.loser = 0, None
    engine: Any = WrappedEngine(SqliteEngine(tmp_path), transaction=Losing)
    store = engine.store("s")
    await store.open()
    found = Writer(
        store, Saying("s", "/t/s", 1, Catalogue("t", services=["s"]), lambda _: 1, {}), clock=SystemClock(), committed=lambda _: None
    )
    yield found
    await found.stop()
    await store.close()
    await engine.stop()


async def write(writer: Writer, *keys: str) -> tuple[list[Put], list[Any]]:
    """Submit rows that arrive together; return them with how each ended."""
    works = [Put(key) for key in keys]
    for work in works:
        writer.submit(work)
    writer.start()
    return works, await asyncio.gather(*(work.finished for work in works), return_exceptions=True)


async def test_losers_are_repeated(writer: Writer) -> None:
    """A group that loses is done again from the beginning, in one commit, and nobody hears of it."""
    Losing.left = TRIES_TOGETHER - 1
    works, ends = await write(writer, "a", "b")
    assert ends == [None, None]
    assert [work.runs for work in works] == [TRIES_TOGETHER] * 2
    assert (writer.commits, writer.conflicts) == (1, TRIES_TOGETHER - 1)


async def test_conflicting_keys_leave_the_group(writer: Writer) -> None:
    """Where one item loses every time, the others are committed and it alone fails, after a bounded number of tries."""
    Losing.loser = "b"
    works, ends = await write(writer, "a", "b", "c")
    assert [type(end) for end in ends] == [type(None), Conflict, type(None)]
    assert [work.runs for work in works] == [TRIES_TOGETHER + 1, TRIES_TOGETHER + TRIES_MAX, TRIES_TOGETHER + 1]
    assert set(dict(await writer.store.reader.states.page("k", after="", limit=100))) == {"a", "c"}
