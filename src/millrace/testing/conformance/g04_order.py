"""Guarantee 4: order per key is kept through batches, partitions, retries, waiting and dead letters; other keys flow on."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from millrace.application import PARTITIONS, Application
from millrace.delivery import Context
from millrace.errors import Rejected
from millrace.execution import Outcome
from millrace.message import Event
from millrace.partitioning import partition_of
from millrace.ports import Record
from millrace.retry import NOT_YET, RetryPolicy
from millrace.service import Service
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import AT_ONCE, Lab, balanced, foreign, held, published, put, records_of, totals
from millrace.testing.conformance.sample import Add, Added, Ready, Refused, Tally, caller, counter, decide, evolve, teller
from millrace.testing.wrapping import Wrapped, WrappedEngine

SLOWLY = RetryPolicy(attempts=5, first_s=10.0, factor=1.0)
"""Retries that wait for the clock of the lab."""
SLOWLY_PAUSE = timedelta(seconds=11)


async def batches_and_partitions_keep_order(kit: EngineKit) -> None:
    """Many keys over all partitions, in batches that end anywhere."""
    names = [f"n{i}" for i in range(10)]
    async with Lab(kit) as lab:
        app = await lab.start(batch_max=7)
        await add(app, *names, times=12)
        await lab.settled()
        expected = tuple(range(1, 13))
        assert await totals(app) == dict.fromkeys(names, expected)
        await balanced(app)


async def retries_keep_order(kit: EngineKit) -> None:
    """What failed is tried again before anything later of its key; other keys do not wait for it."""
    async with Lab(kit) as lab:
        failures = iter([True, True])

        def fail_twice(event: Added, context: Any) -> None:
            if event.name == "a" and event.n == 1 and next(failures, False):
                raise ConnectionError("not now")

        lab.behaviour.count = fail_twice
        app = await lab.start(policy=SLOWLY)
        await add(app, "a", "b", times=3)
        await lab.settled()
        assert await totals(app) == {"b": (1, 2, 3)}

        await lab.advance(app, 11)
        assert await totals(app) == {"b": (1, 2, 3)}
        await lab.advance(app, 11)
        assert await totals(app) == {"a": (1, 2, 3), "b": (1, 2, 3)}
        assert await held(app, "counter") == []
        await balanced(app)


async def retry_beside_a_new_message_keeps_order(kit: EngineKit) -> None:
    """A new message of a key that arrives in the very turn in which the first one is retried follows it, and does not stay behind."""
    async with Lab(kit) as lab:
        failures = iter([True])

        def fail_once(event: Added, context: Any) -> None:
            if next(failures, False):
                raise ConnectionError("not now")

        lab.behaviour.count = fail_once
        app = await lab.start(policy=SLOWLY)
        await add(app, "a")
        await lab.settled()
        async with lab.faults.held("log"):
            await app.execute(Add(name="a", n=2))
            lab.clock.advance(SLOWLY_PAUSE)
        await lab.settled()
        assert await totals(app) == {"a": (1, 2)}
        assert await held(app, "counter") == []
        await balanced(app)


async def waiting_keeps_order(kit: EngineKit) -> None:
    """A message that says NotYet is passed by nothing of its key, and goes on when another message of its key was handled."""
    async with Lab(kit) as lab:
        lab.behaviour.count = lambda event, _: "wait" if event.name == "a" else None
        app = await lab.start()
        await add(app, "a", "b", times=3)
        await lab.settled()
        assert await totals(app) == {"b": (1, 2, 3)}
        assert {row.reason for row in await held(app, "counter", state="not_yet")} == {"not_yet"}

        await put(app, "ready", ("a", foreign(app, Ready(name="a"))))
        await lab.settled()
        assert await totals(app) == {"a": (1, 2, 3), "b": (1, 2, 3)}
        assert await held(app, "counter") == []
        await balanced(app)


async def dead_letters_keep_order(kit: EngineKit) -> None:
    """Later messages of a key stay behind its dead letter; other keys of the same partition flow."""
    async with Lab(kit) as lab:

        def poison(event: Added, context: Any) -> None:
            if event.name == "a" and event.n == 2:
                raise ValueError("never")

        lab.behaviour.count = poison
        app = await lab.start()
        names = ["a", *(f"n{i}" for i in range(9))]
        await add(app, *names, times=4)
        await lab.settled()
        await add(app, "a")
        await lab.settled()

        assert await totals(app) == {**dict.fromkeys(names[1:], (1, 2, 3, 4)), "a": (1,)}
        assert [row.state for row in await held(app, "counter")] == ["dead", "behind", "behind", "behind"]
        await balanced(app)
        await lab.kill(app)

        app = await lab.start()
        await lab.settled()
        assert (await totals(app))["a"] == (1,)


def _wait_always(event: Added, context: Any) -> str:
    return "wait"


async def long_queue_behind_a_key_drains(kit: EngineKit) -> None:
    """However many messages wait behind one of their key, all follow it, in order."""
    async with Lab(kit) as lab:
        lab.behaviour.count = _wait_always
        app = await lab.start([teller(), counter(lab.behaviour)])
        await add(app, "a", times=450)
        await lab.settled()
        await put(app, "ready", ("a", foreign(app, Ready(name="a"))))
        await lab.settled()
        assert await totals(app) == {"a": tuple(range(1, 451))}
        assert await held(app, "counter") == []


async def activities_keep_order(kit: EngineKit) -> None:
    """An activity that fails is called again before the later messages of its key, and those are called then."""
    async with Lab(kit) as lab:
        failures = iter([True])

        async def fail_once(event: Added, context: Any) -> None:
            if event.name == "a" and next(failures, False):
                raise ConnectionError("not now")

        lab.behaviour.call = fail_once
        app = await lab.start([teller(), caller(lab.behaviour)], policy=SLOWLY)
        async with lab.faults.held("log"):
            await add(app, "a", "b", times=3)
        await lab.settled()
        await lab.advance(app, 11)
        assert [n for name, n in lab.behaviour.calls if name == "a"] == [1, 1, 2, 3]
        assert [envelope.subject for envelope in await published(app, "calls")].count("a") == 3
        assert await held(app, "caller") == []
        await balanced(app)


async def refused_activity_holds_nobody_up(kit: EngineKit) -> None:
    """A refusal is an answer: the next message of the key is called as well."""
    async with Lab(kit) as lab:

        async def refuse(event: Added, context: Any) -> None:
            if event.n == 1:
                raise Rejected("no")

        lab.behaviour.call = refuse
        app = await lab.start([teller(), caller(lab.behaviour)])
        async with lab.faults.held("log"):
            await add(app, "a", times=3)
        await lab.settled()
        assert lab.behaviour.calls == [("a", 1), ("a", 2), ("a", 3)]
        assert len(await published(app, "calls")) == 2


async def failing_neighbour_keeps_order(kit: EngineKit) -> None:
    """A turn that is taken again because something else in its commit failed loses neither its retries nor their order."""
    async with Lab(kit) as lab:
        failures = iter([True])

        def fail_once(event: Added, context: Any) -> None:
            if event.name == "a" and next(failures, False):
                raise ConnectionError("not now")

        lab.behaviour.count = fail_once
        one_store = counter(lab.behaviour)
        one_store.aggregate(Tally, decide=decide, evolve=evolve)
        app = await lab.start([one_store])
        await lab.settled()
        await _turn_beside_a_failing_command(lab, app)
        await lab.settled()
        assert await totals(app) == {"a": (1, 2), "z": (9,)}
        assert await held(app, "counter") == []
        await balanced(app)


async def _turn_beside_a_failing_command(lab: Lab, app: Application) -> None:
    """Let a commit be in hand while a turn and a command whose answer fails queue up, so that they share the next one."""

    def fail(outcome: Outcome) -> bytes:
        raise ZeroDivisionError

    async with lab.faults.held("counter") as reached:
        first = asyncio.ensure_future(app.execute(Add(name="z", n=9)))
        await reached.wait()
        records = [("a", foreign(app, Added(name="a", n=n), id=str(n))) for n in (1, 2)]
        await put(app, "tally", *records)
        await lab.eventually(app, lambda: app.hosts["counter"].writer.waiting > 1)
        second = asyncio.ensure_future(app.execute(Add(name="y", n=9), answer=fail))
        await asyncio.wait([second], timeout=0)
    await first
    with pytest.raises(ZeroDivisionError):
        await second


async def records_without_a_key_keep_order(kit: EngineKit) -> None:
    """A foreign record that names no key is one of its message's: it waits behind what failed, and holds nobody else up."""
    async with Lab(kit) as lab:

        def poison(event: Added, context: Any) -> None:
            if event.name == "a" and event.n == 1:
                raise ValueError("never")

        lab.behaviour.count = poison
        app = await lab.start()
        said = [Added(name=name, n=n) for n in (1, 2) for name in "ab"]
        await put(app, "tally", *((None, foreign(app, event, id=f"{event}", subject="", partitionkey="")) for event in said))
        await lab.settled()
        assert await totals(app) == {"b": (1, 2)}
        assert [(row.key, row.state) for row in await held(app, "counter")] == [("a", "dead"), ("a", "behind")]
        await balanced(app)


async def long_queue_behind_a_key_leaves_room(kit: EngineKit) -> None:
    """The result of an activity's retry is kept, however many messages of another key wait before it."""
    other = next(name for name in "bcdefgh" if partition_of(name, 3) == partition_of("a", 3))
    async with Lab(kit) as lab:

        async def fail(event: Added, context: Any) -> None:
            if event.name == "a" or lab.behaviour.calls.count((other, 1)) == 1:
                raise ConnectionError("not now")

        lab.behaviour.call = fail
        app = await lab.start([teller(), caller(lab.behaviour)], policy=SLOWLY)
        queue = [Added(name="a", n=n) for n in range(250)] + [Added(name=other)]
        await put(app, "tally", *((event.name, foreign(app, event, id=f"{event}")) for event in queue))
        await lab.settled()
        await lab.advance(app, 11)
        assert lab.behaviour.calls.count((other, 1)) == 2, "what was called and succeeded must not be called again"
        assert other not in {row.key for row in await held(app, "caller")}
        await balanced(app)


async def waiting_is_no_failed_attempt(kit: EngineKit) -> None:
    """However often a message said NotYet, it has all its tries when it fails."""
    async with Lab(kit) as lab:
        answers = iter(["wait"] * AT_ONCE.attempts * 2)

        def wait_then_fail(event: Added, context: Any) -> Any:
            if (answer := next(answers, None)) is None and lab.behaviour.order.count(("a", 1)) < AT_ONCE.attempts * 3:
                raise ConnectionError("not now")
            return answer

        lab.behaviour.count = wait_then_fail
        app = await lab.start()
        await add(app, "a")
        await lab.settled()
        for _ in range(AT_ONCE.attempts * 2):
            await lab.advance(app, 1.1)
        assert lab.behaviour.order == [("a", 1)] * AT_ONCE.attempts * 3
        assert await totals(app) == {"a": (1,)}
        assert await held(app, "counter") == []


async def feed_goes_on_when_the_clock_was_set_back(kit: EngineKit) -> None:
    """A partition whose newer records have older times is told whole and in its order, by however many batches."""
    async with Lab(kit) as lab:
        engine: Any = WrappedEngine(kit.new_engine(), log=ClockSetBack)
        app = await lab.start([teller(), counter(lab.behaviour)], engine=engine)
        await put(app, "tally", *(("a", foreign(app, Added(name="a", n=n), id=str(n))) for n in range(500)))
        told: list[int] = []
        async for batch in app.tail(["tally"], after="start").batches(idle_s=kit.patience):
            assert batch, f"the feed stands still after {len(told)} records"
            told += [record.offset for record in batch]
            if len(told) >= 500:
                break
        assert told == list(range(500))


async def patience_keeps_order(kit: EngineKit) -> None:
    """What may wait for company and what may not are handled in the order of their key, and both unasked."""
    async with Lab(kit) as lab:
        heard: list[tuple[str, int]] = []
        app = await lab.start([teller(), _patient_and_not(heard), _patient_aggregate()])
        numbers = range(1, 41)
        for number in numbers:
            await asyncio.gather(*(app.execute(Add(name=name, n=number)) for name in "abc"))
            await put(
                app, "tally", *((name, foreign(app, Refused(name=name, command="c", reason=""), id=f"{name}{number}")) for name in "abc")
            )
        await lab.eventually(app, lambda: len(heard) == 6 * len(numbers))
        for name in "abc":
            assert [number for whose, number in heard if whose == name and number] == list(numbers)
        records = [record for records in await records_of(app, "tally") for record in records]
        order = {name: [bool(record.position) for record in records if record.key == name] for name in "abc"}
        assert {name: [bool(number) for whose, number in heard if whose == name] for name in "abc"} == order
        await lab.settled()
        for name in "abc":
            said = [event.message for event in await app.events(Echo, name)]
            assert [bool(echoed.n) for echoed in said if isinstance(echoed, Echoed)] == order[name]
        await balanced(app)


class Echo(msgspec.Struct, frozen=True):
    """Keeps nothing but its events."""


class Echoed(Event, key="name"):
    """Something was heard."""

    name: str
    n: int


def _patient_aggregate() -> Service:
    service = Service("echo")

    def hear(message: Added | Refused, echo: Echo | None, context: Context) -> Echoed:
        return Echoed(name=message.name, n=message.n if isinstance(message, Added) else 0)

    def heard(echo: Echo | None, event: Echoed) -> Echo:
        return Echo()

    service.aggregate(Echo, decide=hear, evolve=heard, patient=[Added])
    return service


def _patient_and_not(heard: list[tuple[str, int]]) -> Service:
    service = Service("listener")

    @service.handler(patient=True)
    def added(event: Added) -> Any:
        """Nobody waits for it."""
        heard.append((event.name, event.n))

    @service.handler
    def refused(event: Refused) -> Any:
        """This is urgent."""
        heard.append((event.name, 0))

    return service


async def who_has_waited_longest_is_tried_first(kit: EngineKit) -> None:
    """However many messages wait, and however long a turn with them takes, the tries go round: one whose wait is over comes to its turn."""
    last = next(name for name in (f"z{i}" for i in range(100)) if partition_of(name, PARTITIONS) == PARTITIONS - 1)
    async with Lab(kit) as lab:
        over, tries = False, Counter[str]()

        def wait(event: Added, context: Context) -> str | None:
            if over and not tries:
                lab.clock.advance(timedelta(milliseconds=20))  # a turn takes so long that those in it are due again when it ends
                if event.name == last:
                    tries.update(name for name, _ in lab.behaviour.order)
            return None if over and event.name == last else "wait"

        lab.behaviour.count = wait
        app = await lab.start(batch_max=100)
        names = [*(f"w{i}" for i in range(150)), last]
        await put(app, "tally", *((name, foreign(app, Added(name=name), id=name)) for name in names))
        await lab.settled()
        assert len(await held(app, "counter", state=NOT_YET)) == len(names)

        over = True
        lab.clock.advance(timedelta(seconds=2))
        app.hosts["counter"].loops["handlers"].wake()
        await lab.eventually(app, lambda: _is_counted(app, last))
        assert max(tries.values()) <= tries[last] + 2


async def _is_counted(app: Application, name: str) -> bool:
    return bool((await totals(app)).get(name))


class ClockSetBack(Wrapped):
    """A log whose machine's clock was set back by an hour after the first hundred records of each partition."""

    async def read(self, topic: str, partition: int, *, offset: int, limit: int) -> list[Record]:
        """Read, and put the times of later records back."""
        records = await self.inner.read(topic, partition, offset=offset, limit=limit)
        return [record if record.offset < 100 else record._replace(at=record.at - 3_600_000_000) for record in records]


PROMISES = (
    batches_and_partitions_keep_order,
    retries_keep_order,
    retry_beside_a_new_message_keeps_order,
    waiting_keeps_order,
    dead_letters_keep_order,
    long_queue_behind_a_key_drains,
    activities_keep_order,
    refused_activity_holds_nobody_up,
    failing_neighbour_keeps_order,
    records_without_a_key_keep_order,
    long_queue_behind_a_key_leaves_room,
    waiting_is_no_failed_attempt,
    who_has_waited_longest_is_tried_first,
    feed_goes_on_when_the_clock_was_set_back,
    patience_keeps_order,
)
