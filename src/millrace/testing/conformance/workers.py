"""Workers of activities: calls run beside each other, in order per key, in a bounded buffer, and only a contiguous prefix is committed."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any

import msgspec

from millrace.application import Application
from millrace.consumers import Consumers
from millrace.delivery import Context
from millrace.partitioning import partition_of
from millrace.retry import RetryPolicy
from millrace.runtime import Loop
from millrace.service import Service
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, balanced, held, published, records_of
from millrace.testing.conformance.sample import Added, caller, counter, teller
from millrace.workers import AHEAD_MIN


class Desk:
    """What an activity does that waits until it is let go by name; it knows who waits, and who was called while its key was called.

    Args:
        slow: the calls that wait; None: all.
    """

    def __init__(self, *, slow: set[tuple[str, int]] | None = None) -> None:
        self._slow = slow
        self._called = set[str]()
        self.waiting: dict[tuple[str, int], asyncio.Future[None]] = {}
        self.ended: list[tuple[str, int]] = []
        self.overlapping: list[tuple[str, int]] = []
        self.failing: set[tuple[str, int]] = set()

    async def __call__(self, event: Added, context: Context) -> None:
        """Wait."""
        call = (event.name, event.n)
        if event.name in self._called:
            self.overlapping.append(call)
        self._called.add(event.name)
        if self._slow is None or call in self._slow:
            self.waiting[call] = asyncio.get_running_loop().create_future()
            await self.waiting[call]
        self._called.discard(event.name)
        if call in self.failing:
            self.failing.discard(call)
            raise ConnectionError("not now")
        self.ended.append(call)

    def release(self, *calls: tuple[str, int]) -> None:
        """Let calls end."""
        for call in calls:
            self.waiting.pop(call).set_result(None)


def _services(lab: Lab, workers: int | None) -> list[Service]:
    return [teller(), caller(lab.behaviour, workers=workers)]


def _loop(app: Application) -> Loop:
    return app.hosts["caller"].loops["call"]


async def _waiting(lab: Lab, app: Application, desk: Desk, count: int) -> None:
    """Wait until so many calls wait at the desk, no more and no less."""
    await lab.eventually(app, lambda: len(desk.waiting) == count and _loop(app).state().calling == count)


async def _rounds(lab: Lab, *, workers: int, messages: int) -> int:
    """Return how often calls have to be waited for until all messages are handled, if all that run are waited for at once."""
    desk = lab.behaviour.call = Desk()
    app = await lab.start(_services(lab, workers))
    await add(app, *(f"{workers}-{i}" for i in range(messages)))
    rounds = 0
    for left in range(messages, 0, -workers):
        await _waiting(lab, app, desk, min(workers, left))
        desk.release(*list(desk.waiting))
        rounds += 1
    await lab.settled()
    assert len(desk.ended) == messages
    await balanced(app)
    await lab.stop(app)
    return rounds


async def ten_workers_wait_ten_times_less(kit: EngineKit) -> None:
    """For handlers that do nothing but wait, ten workers are at least eight times as fast as one: so many waits fewer, commits or not."""
    async with Lab(kit) as lab:
        one = await _rounds(lab, workers=1, messages=160)
        ten = await _rounds(lab, workers=10, messages=160)
        assert one >= 8 * ten, f"{one} waits with one worker, {ten} with ten"


async def _told(app: Application) -> list[tuple[str, int]]:
    """Return (name, n) of what the activity has published, partition after partition."""
    told = [msgspec.json.decode(envelope.data, type=dict[str, Any]) for envelope in await published(app, "calls")]
    return [(each["name"], each["n"]) for each in told]


async def order_per_key_is_that_of_one_worker(kit: EngineKit) -> None:
    """Whatever order calls end in, those of a key begin one after the other and are published in the order of the log, as with one."""
    names, times = [f"n{i}" for i in range(7)], 6
    for seed, workers in ((1, 1), (2, 4), (3, 10)):
        chance = random.Random(seed)  # noqa: S311  # the order in which calls end
        async with Lab(kit) as lab:
            desk = lab.behaviour.call = Desk()
            app = await lab.start(_services(lab, workers))
            before = len(await _told(app))
            mine = [f"{name}-{seed}" for name in names]
            await add(app, *mine, times=times)
            for _ in range(len(mine) * times):
                await lab.eventually(app, lambda desk=desk: bool(desk.waiting))
                desk.release(chance.choice(sorted(desk.waiting)))
                await asyncio.sleep(0)
            await lab.settled()
            expected = {name: list(range(1, times + 1)) for name in mine}
            told = await _told(app)
            assert desk.overlapping == [], f"seed {seed}"
            assert {name: [n for each, n in lab.behaviour.calls if each == name] for name in mine} == expected, f"seed {seed}"
            assert {name: [n for each, n in told if each == name] for name in mine} == expected, f"seed {seed}"
            assert len(told) == before + len(mine) * times
            await balanced(app)


async def only_what_is_contiguous_is_committed(kit: EngineKit) -> None:
    """A position stays before a call that has not ended, whatever has ended behind it; after a kill that call is made again."""
    async with Lab(kit) as lab:
        desk = lab.behaviour.call = Desk()
        app = await lab.start(_services(lab, 10))
        await lab.settled()
        names = [f"n{i}" for i in range(10)]
        await add(app, *names)
        await _waiting(lab, app, desk, len(names))
        firsts = {partition: records[0].key for partition, records in enumerate(await records_of(app, "tally")) if records}
        others = [call for call in desk.waiting if call[0] not in firsts.values()]
        desk.release(*others)
        await lab.eventually(app, lambda: len(desk.ended) == len(others) > 0)
        await add(app, "z")
        await lab.eventually(app, lambda: ("z", 1) in desk.waiting)
        assert set(_loop(app).offsets().values()) == {0}
        assert {row.offset for row in await app.hosts["caller"].store.reader.positions.load("call")} == {0}
        assert await _told(app) == []
        await lab.kill(app)

        lab.behaviour.call = again = Desk()
        app = await lab.start(_services(lab, 10))
        await _waiting(lab, app, again, 10)
        again.release(*list(again.waiting))
        await _waiting(lab, app, again, 1)
        again.release(*list(again.waiting))
        await lab.settled()
        assert sorted(await _told(app)) == sorted((name, 1) for name in (*names, "z"))
        await balanced(app)


async def failures_keep_order_beside_other_workers(kit: EngineKit) -> None:
    """After a call that failed none of its key follows until it has succeeded; other keys go on meanwhile."""
    async with Lab(kit) as lab:
        desk = lab.behaviour.call = Desk()
        app = await lab.start(_services(lab, 10), policy=RetryPolicy(attempts=5, first_s=10.0, factor=1.0))
        desk.failing.add(("a", 1))
        await add(app, "a", "b", times=3)
        await _waiting(lab, app, desk, 2)
        desk.release(("a", 1))
        await lab.eventually(app, lambda: _states(app, ["retry", "behind", "behind"]))
        for n in (1, 2, 3):
            await lab.eventually(app, lambda n=n: list(desk.waiting) == [("b", n)])
            desk.release(("b", n))
        await lab.settled()
        assert desk.ended == [("b", 1), ("b", 2), ("b", 3)]

        lab.clock.advance(timedelta(seconds=11))
        _loop(app).wake()
        for n in (1, 2, 3):
            await lab.eventually(app, lambda n=n: list(desk.waiting) == [("a", n)])
            desk.release(("a", n))
        await lab.settled()
        assert desk.ended[3:] == [("a", 1), ("a", 2), ("a", 3)]
        assert desk.overlapping == []
        assert await held(app, "caller") == []
        await balanced(app)


async def _states(app: Application, wanted: list[str]) -> bool:
    return [row.state for row in await held(app, "caller")] == wanted


async def slow_head_does_not_fill_the_memory(kit: EngineKit) -> None:
    """While the first call of a partition goes on, those behind it are made up to a bound; other partitions are not held up."""
    async with Lab(kit) as lab:
        app = await lab.start([teller()])
        await add(app, *(f"n{i}" for i in range(40)), times=8)
        await lab.settled()
        keys = [[record.key for record in records] for records in await records_of(app, "tally")]
        await lab.stop(app)

        slow = str(keys[0][0])
        desk = lab.behaviour.call = Desk(slow={(slow, 1)})
        app = await lab.start(_services(lab, 2))
        reached = sum(key != slow for key in keys[0][:AHEAD_MIN]) + sum(len(each) for each in keys[1:])
        await lab.eventually(app, lambda: len(desk.ended) == reached)
        assert len(keys[0]) > AHEAD_MIN
        elsewhere = next(name for name in (f"m{i}" for i in range(100)) if partition_of(name, len(keys)) != 0)
        await add(app, elsewhere)
        await lab.eventually(app, lambda: (elsewhere, 1) in desk.ended)
        assert len(desk.ended) == reached + 1
        assert _loop(app).offsets()["tally", 0] == 0
        desk.release((slow, 1))
        await lab.settled()
        assert len(desk.ended) == 40 * 8 + 1
        await balanced(app)


async def count_changes_while_it_runs(kit: EngineKit) -> None:
    """More workers begin at once, fewer let the calls that run end."""
    async with Lab(kit) as lab:
        desk = lab.behaviour.call = Desk()
        app = await lab.start([*_services(lab, 1), counter(lab.behaviour)])
        await add(app, *(f"n{i}" for i in range(12)))
        await _waiting(lab, app, desk, 1)
        await Consumers(app).workers("caller.call", 8, timeout=kit.patience)
        await _waiting(lab, app, desk, 8)
        await Consumers(app).workers("caller.call", 2, timeout=kit.patience)
        desk.release(*list(desk.waiting)[:6])
        await _waiting(lab, app, desk, 2)
        for _ in range(6):
            desk.release(next(iter(desk.waiting)))
            await lab.eventually(app, lambda: len(desk.waiting) == min(2, 12 - len(desk.ended)))
        await lab.settled()
        assert len(desk.ended) == 12


PROMISES = (
    ten_workers_wait_ten_times_less,
    order_per_key_is_that_of_one_worker,
    only_what_is_contiguous_is_committed,
    failures_keep_order_beside_other_workers,
    slow_head_does_not_fill_the_memory,
    count_changes_while_it_runs,
)
