"""A timer fires when it is due, by the real clock, however many others wait; and the waiting ones are not looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from millrace import Application, Command, Context, Service, Timer
from millrace.engines.sqlite import SqliteEngine
from millrace.engines.sqlite.store import SqliteStore
from millrace.ports import TimerRow

LIMIT = timedelta(milliseconds=100)
WAITING, AT_ONCE = 200_000, 40


class Wait(Command, key="name"):
    """Ring later."""

    name: str
    after_s: float


class Ring(Command, key="name"):
    """It is time."""

    name: str


def bells(late: dict[str, timedelta], rung: asyncio.Event) -> Service:
    """Return a service that notes how late each timer fires."""
    service = Service("bells")

    @service.handler
    def wait(command: Wait) -> Timer:
        """Set the timer."""
        return Timer("bell", Ring(name=command.name), after=timedelta(seconds=command.after_s))

    @service.handler
    def ring(command: Ring, context: Context) -> None:
        """Note by how much."""
        late[command.name] = datetime.now(UTC) - context.time
        if len(late) == AT_ONCE:
            rung.set()

    return service


def others(count: int) -> Iterator[list[TimerRow]]:
    """Return timers that wait for another year."""
    due = int((datetime.now(UTC) + timedelta(days=365)).timestamp() * 1_000_000)
    for first in range(0, count, 20_000):
        yield [
            TimerRow("handlers", f"k{i}", "bell", i % 3, due + i, False, "a.bells.ring.v1", b"{}", "", "")
            for i in range(first, first + 20_000)
        ]


@pytest.mark.serial
async def test_timers_fire_within_a_tenth_of_a_second(tmp_path: Path) -> None:
    """Forty of them, spread over a second, beside many that wait."""
    late, rung = dict[str, timedelta](), asyncio.Event()
    app = Application("a", [bells(late, rung)], engine=SqliteEngine(tmp_path))
    async with app:
        for rows in others(WAITING):
            transaction = await app.hosts["bells"].store.begin()
            await transaction.timers.set(rows)
            await transaction.commit()
        await asyncio.gather(*(app.execute(Wait(name=f"b{i}", after_s=0.2 + i / AT_ONCE)) for i in range(AT_ONCE)))
        async with asyncio.timeout(20):
            await rung.wait()
        assert await app.hosts["bells"].store.reader.timers.count() == WAITING
        await app.hosts["bells"].timers.look(app.hosts["bells"].store.reader.timers, changes=object())
    assert timedelta() <= min(late.values()) <= max(late.values()) < LIMIT, sorted(late.values())[-3:]


@pytest.mark.parametrize("query", ["next_timers", "due_timers", "page_timers", "timers_of_key"])
async def test_waiting_timers_are_not_looked_at(tmp_path: Path, query: str) -> None:
    """What runs while an installation works steps through an index and sorts nothing."""
    from millrace.engines.sqlite.queries import STORE

    engine = SqliteEngine(tmp_path)
    store = engine.store("bells")
    assert isinstance(store, SqliteStore)
    await store.open()
    connection = store._database.reader
    sql = STORE[query]
    count = 1 if "?1" in sql else sql.count("?")
    plan = [row[3] for row in connection.execute(f"explain query plan {sql}", (0,) * count)]
    await store.close()
    steps = [step for step in plan if "timer" in step or " t" in step or "TEMP" in step]
    assert steps
    assert all("SEARCH" in step for step in steps), plan
