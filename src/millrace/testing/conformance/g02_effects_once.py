"""Guarantee 2: effects in the store happen once, whoever dies, restarts, or believes to own what it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec

from millrace.application import Application
from millrace.delivery import Context
from millrace.ports import PositionRow
from millrace.service import Service
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, balanced, published, totals
from millrace.testing.conformance.sample import Add, Added, Called, Reminded, Ring, Slow, Total, caller, teller
from millrace.timers import Timer
from millrace.unit_of_work import UnitOfWork
from millrace.writer import Waiting


async def add(app: Application, *names: str, times: int = 1) -> None:
    """Count names up, concurrently over names, in order per name: n = 1, 2, 3 ..."""

    async def one(name: str) -> None:
        for n in range(1, times + 1):
            await app.execute(Add(name=name, n=n))

    await asyncio.gather(*(one(name) for name in names))


async def restarts_repeat_nothing(kit: EngineKit) -> None:
    """Neither a graceful nor an unclean end makes a handled message count again."""
    expected = dict.fromkeys("abcd", (1, 2, 3))
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, *"abcd", times=3)
        await lab.settled()
        await lab.kill(app)

        app = await lab.start()
        await lab.settled()
        assert await totals(app) == expected
        await lab.stop(app)

        app = await lab.start()
        await lab.settled()
        assert await totals(app) == expected
        assert len(await published(app, "counts")) == 12
        await balanced(app)


async def _claim(app: Application, processor: str) -> list[PositionRow]:
    """Do what the start of another owner does to the positions of a processor."""
    store = app.hosts["caller"].store
    transaction = await store.begin()
    rows = await transaction.positions.load(processor)
    claimed = await transaction.positions.claim(processor, [(r.topic, r.partition, r.start, r.identity) for r in rows])
    await transaction.commit()
    return claimed


async def stale_owner_is_refused(kit: EngineKit) -> None:
    """A result that was computed before another owner wrote its token is not committed."""
    async with Lab(kit) as lab:
        slow = lab.behaviour.call = Slow()
        app = await lab.start([teller(), caller(lab.behaviour)])
        await lab.settled()
        before = {row.partition: row.token for row in await app.hosts["caller"].store.reader.positions.load("call")}
        await app.execute(Add(name="a"))
        await slow.called.wait()
        claimed = await _claim(app, "call")
        assert all(row.token > before[row.partition] for row in claimed), "a new owner must write a new token"
        slow.go.set()

        await lab.settled()
        assert lab.behaviour.calls == [("a", 1), ("a", 1)], "the call that the old owner made is made again by the new one"
        assert len(await published(app, "calls")) == 1
        await balanced(app)


async def moved_position_is_read_again(kit: EngineKit) -> None:
    """When only the offset changed - an operator moved it - the owner reads from there and goes on."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, "a", times=3)
        await lab.settled()
        transaction = await app.hosts["counter"].store.begin()
        row = next(r for r in await transaction.positions.load("handlers") if r.topic == "tally" and r.offset)
        row.offset, row.received, row.handled, row.sources = row.start, 0, 0, {}
        await transaction.positions.advance([row])
        await transaction.commit()

        await app.execute(Add(name="a", n=4))
        await lab.settled()
        assert await totals(app) == {"a": (1, 2, 3, 1, 2, 3, 4)}
        await balanced(app)


async def two_processes_handle_each_message_once(kit: EngineKit) -> None:
    """Two processes share the partitions; what both are sent is handled once, in order per key."""
    names = [f"n{i}" for i in range(12)]
    async with Lab(kit) as lab:
        one, two = await lab.start(), await lab.start()
        await lab.eventually(one, lambda: _owned(one) and _owned(two))
        await asyncio.gather(add(one, *names[:6], times=5), add(two, *names[6:], times=5))
        await lab.settled()

        assert await totals(one) == dict.fromkeys(names, (1, 2, 3, 4, 5))
        assert len(await published(two, "counts")) == 60
        await balanced(one)


def _owned(app: Application) -> bool:
    loop = app.hosts["counter"].loops["handlers"].state()
    return 0 < len(loop.partitions) < 3


async def facts_of_the_outside_are_kept_once(kit: EngineKit) -> None:
    """An activity whose commit failed is called again with the same id, and its result is kept once."""
    async with Lab(kit) as lab:
        ids: list[str] = []

        async def note(event: Added, context: Any) -> None:
            ids.append(context.id)
            if len(ids) == 1:
                lab.faults.fail_next("caller")

        lab.behaviour.call = note
        app = await lab.start([teller(), caller(lab.behaviour)])
        await app.execute(Add(name="a"))
        await lab.settled()

        assert len(ids) == 2
        assert len(set(ids)) == 1
        assert len(await published(app, "calls")) == 1


class _CountUp(Waiting):
    """Reads rows that any process may change and writes them back increased, in the order of their keys."""

    def __init__(self, keys: str) -> None:
        super().__init__()
        self._keys = keys

    async def run(self, unit: UnitOfWork) -> None:
        """Change one row after the other."""
        states = unit.transaction.states
        for key in self._keys:
            found = await states.load("shared", [key])
            await states.save([("shared", key, b"%d" % (int(found.get(key, b"0")) + 1))])


async def shared_rows_are_changed_one_after_the_other(kit: EngineKit) -> None:
    """Two processes change the same rows at once, absent ones at first: each change builds on the one before it, and none is refused."""
    async with Lab(kit) as lab:
        apps = await lab.start([teller()]), await lab.start([teller()])
        for n in range(20):
            works = [_CountUp("abc") for _ in range(3)]
            for m, work in enumerate(works, n):
                apps[m % 2].hosts["teller"].writer.submit(work)
            await asyncio.gather(*(work.finished for work in works))
        for app in apps:
            found = await app.hosts["teller"].store.reader.states.load("shared", list("abc"))
            assert found == dict.fromkeys("abc", b"60")


async def answers_are_decided_about_once(kit: EngineKit) -> None:
    """What follows from an activity's answer is in the transaction of the read position: whatever is called again, it follows once."""
    async with Lab(kit) as lab:
        failures = iter([True, True])
        for end in (lab.kill, lab.stop):
            app = await lab.start([teller(), _asking(lab, failures)])
            await add(app, *"abc", times=4)
            await lab.settled()
            await end(app)
        app = await lab.start([teller(), _asking(lab, failures)])
        await lab.settled()
        rows = {row.name: row.total for row in (await app.states(Total, service="asker").list()).items}
        assert rows == dict.fromkeys("abc", 8)
        assert sorted(envelope.subject for envelope in await published(app, "calls")) == sorted("abc" * 8)
        assert sorted(envelope.subject for envelope in await published(app, "reminders")) == sorted("abc" * 2)
        await balanced(app)


def _asking(lab: Lab, failures: Iterator[bool]) -> Service:
    """Ask the outside world, count its answers, and set a timer at every fourth."""
    service = Service("asker", says=[Called, Reminded])

    def answered(answer: Added, total: Total | None, context: Context) -> Any:
        """Count; go wrong twice."""
        if next(failures, False):
            raise ConnectionError("not now")
        before = total or Total(name=answer.name)
        after = msgspec.structs.replace(before, total=before.total + 1)
        said = Called(name=answer.name, n=answer.n, id=context.id)
        return [after, said, *([Timer("ring", Ring(name=answer.name), after=timedelta())] if after.total % 4 == 0 else [])]

    @service.handler(processor="asking", then=answered, total=Total.by("name"))
    async def ask(event: Added, context: Context) -> Added:
        """Answer with the question."""
        lab.behaviour.calls.append((event.name, event.n))
        return event

    @service.handler
    def ring(command: Ring) -> Reminded:
        """Say that it fired."""
        return Reminded(name=command.name)

    return service


PROMISES = (
    restarts_repeat_nothing,
    stale_owner_is_refused,
    moved_position_is_read_again,
    two_processes_handle_each_message_once,
    facts_of_the_outside_are_kept_once,
    answers_are_decided_about_once,
    shared_rows_are_changed_one_after_the_other,
)
