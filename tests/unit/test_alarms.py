"""When a loop wakes up for its timers: nothing that is set is missed, whenever that happens."""

from __future__ import annotations

import asyncio
from pathlib import Path

from millrace.alarms import Alarms, TimerCount
from millrace.engines.sqlite import SqliteEngine
from millrace.ports import TimerRow
from millrace.testing.wrapping import Wrapped


class Slow(Wrapped):
    """Timers of a store that answer when they are let go, as a server does."""

    def __init__(self, inner: object) -> None:
        super().__init__(inner)
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def next(self, processor: str) -> dict[int, int]:
        """Look, and answer later."""
        found = await self.inner.next(processor)
        self.asked.set()
        await self.go.wait()
        return found


async def test_what_is_set_while_the_store_is_read_is_not_lost(tmp_path: Path) -> None:
    """The answer of the store is older than the timer that was set meanwhile; the earlier of both rings."""
    store = SqliteEngine(tmp_path).store("bells")
    await store.open()
    transaction = await store.begin()
    await transaction.timers.set([TimerRow("handlers", f"k{n}", "bell", n, 100, False, "t", b"{}", "", "") for n in range(2)])
    await transaction.commit()
    alarms, timers = Alarms(), Slow(store.reader.timers)
    loading = asyncio.ensure_future(alarms.load(timers, "handlers"))  # type: ignore[arg-type]
    await timers.asked.wait()
    assert alarms.set(0, 50)
    assert alarms.set(2, 70)
    timers.go.set()
    await loading
    await store.close()
    assert [alarms.earliest({partition}) for partition in range(4)] == [50, 100, 70, None]
    assert alarms.due({0, 1, 2}, until=70) == [0, 2]
    assert not alarms.set(0, 60), "a later one wakes nobody"


async def test_timers_are_not_counted_where_nothing_changes(tmp_path: Path) -> None:
    """Counting looks at all of them, so it is done for changes only, and seldom."""
    store = SqliteEngine(tmp_path).store("bells")
    await store.open()
    count = TimerCount()
    await count.look(store.reader.timers, changes=1)
    transaction = await store.begin()
    await transaction.timers.set([TimerRow("handlers", "k", "bell", 0, 100, False, "t", b"{}", "", "")])
    await transaction.commit()
    await count.look(store.reader.timers, changes=1)
    await count.look(store.reader.timers, changes=2)
    assert count.waiting == 0, "it was counted a moment ago"
    later = TimerCount()
    await later.look(store.reader.timers, changes=2)
    await store.close()
    assert later.waiting == 1
