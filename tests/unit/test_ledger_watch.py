"""When a difference is an alarm: two looks that could tell, and that agree."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from millrace.clock import ManualClock
from millrace.engines.sqlite import SqliteEngine
from millrace.held import HeldRow
from millrace.ledger_watch import Watch
from millrace.ports import PositionRow
from millrace.serialization import Catalogue
from millrace.testing.wrapping import Wrapped
from millrace.unit_of_work import Saying
from millrace.writer import Writer

SOUND = PositionRow("p", "t", 0, offset=3, received=3, dead=3)
HELD = [HeldRow("p", "t", 0, offset, "k", "dead", b"") for offset in range(3)]


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[tuple[Watch, Any]]:
    """A watch that nobody has started, and its store."""
    engine = SqliteEngine(folder)
    store = engine.store("s")
    await store.open()
    saying = Saying("s", "/a/s", 1, Catalogue("a"), lambda _: 1, {})
    writer = Writer(store, saying, clock=ManualClock(), committed=lambda _: None)
    writer.start()
    transaction = await store.begin()
    await transaction.positions.advance([SOUND])
    await transaction.held.save(HELD)
    await transaction.commit()
    yield Watch("s", writer, published=lambda: None, holes=lambda: 0), store
    await writer.stop()
    await store.close()
    await engine.stop()


async def lose(store: Any, *rows: HeldRow) -> None:
    """Remove held rows without their counters."""
    transaction = await store.begin()
    await transaction.held.remove(rows)
    await transaction.commit()


async def test_two_looks_that_agree_make_an_alarm(tmp_path: Path) -> None:
    """Sound figures make none; one look makes none; a figure that changed between two looks makes none."""
    async with watched(tmp_path) as (watch, store):
        await watch.look()
        await watch.look()
        assert not watch.alarms
        await lose(store, HELD[0])
        await watch.look()
        assert not watch.alarms
        await lose(store, HELD[1])
        await watch.look()
        assert not watch.alarms
        await watch.look()
        (alarm,) = watch.alarms.values()
        assert (alarm.what, alarm.expected, alarm.found) == ("dead letters", 3, 1)
        assert alarm.text == "dead letters s.p on t/0: expected 3, found 1 (-2)"


async def test_two_looks_that_find_nothing_end_it(tmp_path: Path) -> None:
    """One sound look does not end an alarm, two do; a worse figure is the same alarm."""
    async with watched(tmp_path) as (watch, store):
        await lose(store, HELD[0])
        await watch.look()
        await watch.look()
        await lose(store, HELD[1])
        await watch.look()
        await watch.look()
        (alarm,) = watch.alarms.values()
        assert alarm.found == 1
        transaction = await store.begin()
        await transaction.held.save(HELD)
        await transaction.commit()
        await watch.look()
        assert watch.alarms
        await watch.look()
        assert not watch.alarms
        assert await store.reader.journal.head() == 2, "one event when it began, one when it was over"


class Moving(Wrapped):
    """Held rows beside a position that moves while they are counted."""

    store: Any

    async def counts(self) -> Any:
        """Let the position move, then count too few."""
        (row,) = await self.store.reader.positions.load("p")
        row.offset, row.received, row.handled = row.offset + 1, row.received + 1, row.handled + 1
        transaction = await self.store.begin()
        await transaction.positions.advance([row])
        await transaction.commit()
        return {}


async def test_what_moves_is_not_judged(tmp_path: Path) -> None:
    """However often a difference is seen beside a position that has moved meanwhile, it is a race."""
    async with watched(tmp_path) as (watch, store):
        moving = Moving(store.reader.held)
        moving.store = store
        store.reader.held = moving
        for _ in range(5):
            await watch.look()
        assert not watch.alarms
