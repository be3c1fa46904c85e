"""Looking after consumers: what is wanted holds for every instance and over restarts, and a move repeats no effect and loses nothing."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime

import msgspec
import pytest

from millrace.application import Application
from millrace.clock import from_micros
from millrace.consumers import ConsumerMove, Consumers
from millrace.errors import ConfigurationError, ConsumerRefused, Recovery, UnknownMessage
from millrace.ports import PositionRow
from millrace.service import Service
from millrace.state import State
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, balanced, foreign, held, published, put, records_of, totals
from millrace.testing.conformance.sample import Add, Added, Board, Remind, Slow, caller, clerk, counter, teller

COUNTER, VIEW = "counter.handlers", "counter.board"
NAMES = "abcd"


class Heard(State, key="name"):
    """What the echo was told, in order."""

    name: str
    seen: tuple[int, ...] = ()


def echo() -> Service:
    """Return a service whose handler is declared replayable, beside one in the same processor that is not."""
    service = Service("echo")

    @service.handler(heard=Heard.by("name"), replayable=True)
    def hear(event: Added, heard: Heard | None) -> list[Heard]:
        """Note it."""
        return [Heard(name=event.name, seen=(*(heard.seen if heard else ()), event.n))]

    @service.handler(heard=Heard.by("name"))
    def ready(command: Add, heard: Heard | None) -> list[Heard]:
        """Note it as well, once."""
        return [Heard(name=command.name, seen=(*(heard.seen if heard else ()), -command.n))]

    return service


async def rows_of(app: Application, group: str) -> list[PositionRow]:
    """Return the positions of a consumer, by topic and partition."""
    service, _, processor = group.partition(".")
    rows = await app.hosts[service].store.reader.positions.load(processor)
    return sorted((row for row in rows if not row.topic.startswith("@")), key=lambda row: (row.topic, row.partition))


async def count(app: Application, group: str, counter: str) -> int:
    """Return the sum of a counter over the partitions of a consumer."""
    return sum(getattr(row, counter) for row in await rows_of(app, group))


def sums(moved: ConsumerMove) -> tuple[int, int]:
    """Return the sums of the offsets before and after a move."""
    return sum(shift.before or 0 for shift in moved.partitions), sum(shift.after for shift in moved.partitions)


async def paused_takes_nothing(kit: EngineKit) -> None:
    """A paused consumer keeps its partitions and reads nothing, over a restart too; others go on, and so does it when it is resumed."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, *NAMES)
        await lab.settled()
        told = await Consumers(app).pause(COUNTER, timeout=kit.patience)
        assert (told.state, told.instances.answered, told.instances.complete) == ("paused", (app.instance,), True)
        await add(app, *NAMES, times=2)
        await lab.settled()
        assert app.hosts["counter"].loops["handlers"].state().partitions == [0, 1, 2]
        assert await totals(app) == dict.fromkeys(NAMES, (1,))
        await app.wait_for(Board, (await app.execute(Add(name="e"))).position, timeout=kit.patience)
        await lab.kill(app)

        app = await lab.start()
        await lab.settled()
        assert await totals(app) == dict.fromkeys(NAMES, (1,))
        state = next(entry.state for entry in app.health().entries if entry.name == COUNTER)
        assert (app.health().status, app.ready(), state) == ("ok", True, "paused")
        assert 'millrace_running{service="counter",processor="handlers"} 0' in app.metrics()
        told = await Consumers(app).resume(COUNTER, timeout=kit.patience)
        await lab.settled()
        assert told.instances.complete
        assert await totals(app) == {**dict.fromkeys(NAMES, (1, 1, 2)), "e": (1,)}
        await balanced(app)


async def worker_counts_hold(kit: EngineKit) -> None:
    """How many activities are called at once is changed in a running instance, and holds over a restart, beside a pause."""
    async with Lab(kit) as lab:
        services = [teller(), caller(lab.behaviour, workers=3)]
        app = await lab.start(services)
        consumers = Consumers(app)
        told = await consumers.workers("caller.call", 7, timeout=kit.patience)
        assert (told.before, told.workers, told.instances.complete) == (0, 7, True)
        assert app.hosts["caller"].loops["call"].state().workers == 7
        assert (await consumers.pause("caller.call", timeout=kit.patience)).instances.complete
        await lab.kill(app)

        app = await lab.start(services)
        loop = app.hosts["caller"].loops["call"]
        assert (loop.state().workers, loop.state().wanted) == (7, "paused")
        consumers = Consumers(app)
        assert (await consumers.workers("caller.call", 0, timeout=kit.patience)).before == 7
        assert (loop.state().workers, loop.state().wanted) == (3, "paused")
        await consumers.resume("caller.call", timeout=kit.patience)
        await add(app, *NAMES)
        await lab.settled()
        assert sorted(lab.behaviour.calls) == [(name, 1) for name in NAMES]
        with pytest.raises(ConfigurationError, match=re.escape("teller.tally calls no activities")):
            await consumers.workers("teller.tally", 2, timeout=kit.patience)
        with pytest.raises(ConfigurationError, match="-1 workers; choose from 0"):
            await consumers.workers("caller.call", -1, timeout=kit.patience)
        await balanced(app)


async def timers_of_a_paused_consumer_wait(kit: EngineKit) -> None:
    """A timer that falls due in a pause fires after it."""
    async with Lab(kit) as lab:
        app = await lab.start([clerk(lab.behaviour)])
        await app.execute(Remind(name="a", after_s=10))
        await Consumers(app).pause("clerk.handlers", timeout=kit.patience)
        await lab.advance(app, 20)
        assert not await published(app, "reminders")
        await Consumers(app).resume("clerk.handlers", timeout=kit.patience)
        await lab.settled()
        assert len(await published(app, "reminders")) == 1


async def every_instance_obeys(kit: EngineKit) -> None:
    """Of two instances both stop and give their partitions up, whichever was asked; started again they share them and read everything."""
    async with Lab(kit) as lab:
        one, two = await lab.start(), await lab.start()
        await add(one, *NAMES)
        await lab.settled()
        both = tuple(sorted((one.instance, two.instance)))
        told = await Consumers(one).stop(COUNTER, timeout=kit.patience)
        assert (told.state, told.instances.answered, told.instances.silent) == ("stopped", both, ())
        await add(two, *NAMES)
        await lab.settled()
        assert [app.hosts["counter"].loops["handlers"].state().partitions for app in (one, two)] == [[], []]
        assert await totals(one) == dict.fromkeys(NAMES, (1,))

        late = await lab.start()
        assert late.hosts["counter"].loops["handlers"].state().partitions == []
        await lab.stop(late)
        assert (await Consumers(two).start(COUNTER, timeout=kit.patience)).instances.answered == both
        await lab.settled()
        assert await totals(one) == dict.fromkeys(NAMES, (1, 1))
        assert (await Consumers(two).restart(COUNTER, timeout=kit.patience)).instances.answered == both
        await add(two, "e")
        await lab.settled()
        assert (await totals(one))["e"] == (1,)
        await balanced(one)


async def _calling(lab: Lab) -> tuple[Application, Slow]:
    """Return an application with a turn in hand, and what lets it go."""
    slow = lab.behaviour.call = Slow()
    app = await lab.start([teller(), caller(lab.behaviour)])
    await app.execute(Add(name="a"))
    await slow.called.wait()
    return app, slow


async def silent_instances_are_named(kit: EngineKit) -> None:
    """An instance with a turn in hand has not obeyed: it is named when the time is over, and answers when the turn has ended."""
    async with Lab(kit) as lab:
        app, slow = await _calling(lab)
        told = await Consumers(app).pause("caller.call", timeout=0.3)
        assert (told.instances.answered, told.instances.silent) == ((), (app.instance,))
        slow.go.set()
        told = await Consumers(app).pause("caller.call", timeout=kit.patience)
        assert (told.instances.answered, told.instances.silent) == ((app.instance,), ())
        await add(app, "b")
        await lab.settled()
        assert len(await published(app, "calls")) == 1, "what was in hand ends, nothing new begins"


async def what_fits_not_is_refused(kit: EngineKit) -> None:
    """An unknown name, a resume of what is stopped, a moment that is none or in the future: refused by name, and nothing changes."""
    async with Lab(kit) as lab:
        app = await lab.start()
        consumers = Consumers(app)
        await add(app, *NAMES)
        await lab.settled()
        before = [msgspec.structs.replace(row, token=0) for row in await rows_of(app, COUNTER)]
        for name in ("counter.nobody", "counter", "handlers"):
            await _refused(consumers.pause(name), UnknownMessage, name)
        await consumers.stop(COUNTER, timeout=kit.patience)
        await _refused(consumers.resume(COUNTER), ConsumerRefused, "stopped")
        await _refused(consumers.pause(COUNTER), ConsumerRefused, "stopped")
        for moment in ("yesterday", "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "9999-01-01T00:00:00Z"):
            await _refused(consumers.rewind(COUNTER, to=moment), ConfigurationError, moment)
        await _refused(consumers.reset(COUNTER, to="middle"), ConfigurationError, "middle")
        assert [msgspec.structs.replace(row, token=0) for row in await rows_of(app, COUNTER)] == before


async def _refused(attempt: Awaitable[object], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=re.escape(word)):
        await attempt


async def rewind_repeats_no_effect(kit: EngineKit) -> None:
    """Back at the beginning, a handler and a view drop what they have seen and count it; unreadable and foreign records too."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, *NAMES, times=3)
        await put(app, "tally", ("x", b"unreadable"), ("a", foreign(app, Added(name="a", n=9))))
        await lab.settled()
        expected, dead = await totals(app), len(await held(app, "counter"))
        for group in (COUNTER, VIEW):
            moved = await Consumers(app).reset(group, to="earliest", timeout=kit.patience)
            assert sums(moved) == (14, 0)
        await add(app, *NAMES)
        await lab.settled()

        assert await totals(app) == {name: (*seen, 1) for name, seen in expected.items()}
        assert {row.name: row.total for row in (await app.views(Board).list()).items} == {"a": 16, "b": 7, "c": 7, "d": 7}
        assert await count(app, COUNTER, "duplicate") == 14
        assert len(await held(app, "counter")) == dead
        assert all(row.replay is None for row in await rows_of(app, COUNTER)), "behind known ground there is nothing to remember"
        await balanced(app)


async def replayable_handlers_run_again(kit: EngineKit) -> None:
    """A handler declared replayable gets everything again in order, once per move; one beside it that is not gets nothing twice."""
    async with Lab(kit) as lab:
        app = await lab.start([teller(), echo()])
        await add(app, *NAMES, times=3)
        await put(app, "tally.commands", ("a", foreign(app, Add(name="a", n=7))))
        await put(app, "tally", ("z", foreign(app, Added(name="z", n=1), id="2")))
        await lab.settled()
        group = "echo.handlers"
        received = await count(app, group, "received")
        await Consumers(app).reset(group, to="earliest", timeout=kit.patience)
        await lab.settled()
        seen = {row.name: row.seen for row in (await app.states(Heard).list(limit=100)).items}
        assert {name: seen[name] for name in "bcd"} == dict.fromkeys("bcd", (1, 2, 3, 1, 2, 3))
        assert (seen["z"], [n for n in seen["a"] if n < 0]) == ((1, 1), [-7])
        assert [n for n in seen["a"] if n > 0].count(7) == 2, "the fact that followed from the command comes again"
        assert await count(app, group, "received") == 2 * received
        await balanced(app)


async def what_is_held_is_not_delivered_again(kit: EngineKit) -> None:
    """A dead letter stays one over a rewind: what was before it in its key runs again, what comes after it stays behind it."""
    async with Lab(kit) as lab:
        service = Service("frail")

        @service.handler(heard=Heard.by("name"), replayable=True)
        def hear(event: Added, heard: Heard | None) -> list[Heard]:
            """Fail at the second."""
            if event.n == 2:
                raise ValueError("the second")
            return [Heard(name=event.name, seen=(*(heard.seen if heard else ()), event.n))]

        app = await lab.start([teller(), service])
        await add(app, *"ab", times=3)
        await lab.settled()
        before = [(row.offset, row.key, row.state) for row in await held(app, "frail")]
        await Consumers(app).reset("frail.handlers", to="earliest", timeout=kit.patience)
        await lab.settled()
        assert [(row.offset, row.key, row.state) for row in await held(app, "frail")] == before
        assert {row.name: row.seen for row in (await app.states(Heard).list()).items} == dict.fromkeys("ab", (1, 1))
        await balanced(app)


async def what_was_skipped_can_be_read_later(kit: EngineKit) -> None:
    """What a reset to the end has passed over counts as skipped; moved back, everybody gets it for the first time, and nothing twice."""
    async with Lab(kit) as lab:
        app = await lab.start()
        consumers = Consumers(app)
        await add(app, *NAMES)
        await lab.settled()
        await consumers.pause(COUNTER, timeout=kit.patience)
        await add(app, *NAMES, times=2)
        await lab.settled()
        await put(app, "tally", ("a", foreign(app, Added(name="a", n=5))))
        await lab.settled()
        moved = await consumers.reset(COUNTER, to="latest", timeout=kit.patience)
        assert sums(moved) == (4, 13)
        await consumers.resume(COUNTER, timeout=kit.patience)
        await app.execute(Add(name="a", n=3))
        await lab.settled()
        assert await totals(app) == {**dict.fromkeys("bcd", (1,)), "a": (1, 3)}
        assert await count(app, COUNTER, "skipped") == 9
        await balanced(app)

        await consumers.reset(COUNTER, to="earliest", timeout=kit.patience)
        await lab.settled()
        assert await totals(app) == {**dict.fromkeys("bcd", (1, 1, 2)), "a": (1, 3, 1, 2, 5)}
        await consumers.reset(COUNTER, to="earliest", timeout=kit.patience)
        await lab.settled()
        assert await totals(app) == {**dict.fromkeys("bcd", (1, 1, 2)), "a": (1, 3, 1, 2, 5)}
        await balanced(app)


async def dry_runs_change_nothing(kit: EngineKit) -> None:
    """A dry run tells the same offsets as the move that follows it, and leaves positions and tokens as they are."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, *NAMES, times=2)
        await lab.settled()
        before = await rows_of(app, COUNTER)
        told = await Consumers(app).reset(COUNTER, to="earliest", dry_run=True)
        assert (told.dry_run, sums(told)) == (True, (8, 0))
        assert await rows_of(app, COUNTER) == before
        assert (await Consumers(app).reset(COUNTER, to="earliest", timeout=kit.patience)).partitions == told.partitions
        assert all(row.token > old.token for row, old in zip(await rows_of(app, COUNTER), before, strict=True))


async def moments_are_found(kit: EngineKit) -> None:
    """A rewind goes to the first record appended at a moment or later, in each partition, and never forward."""
    async with Lab(kit) as lab:
        app = await lab.start()
        for number in range(1, 6):
            await add(app, *(f"{name}{number}" for name in NAMES))
            await lab.settled()
        await Consumers(app).pause(COUNTER, timeout=kit.patience)
        partitions = await records_of(app, "tally")
        moments = sorted(record.at for records in partitions for record in records)
        for at in (moments[0], moments[7], moments[-1]):
            moment = from_micros(-(-at // 1000) * 1000)
            moved = await Consumers(app).rewind(COUNTER, to=_text(moment), dry_run=True)
            micros = -(-at // 1000) * 1000
            expected = [next((record.offset for record in records if record.at >= micros), len(records)) for records in partitions]
            assert [shift.after for shift in moved.partitions if shift.topic == "tally"] == expected
        await Consumers(app).reset(COUNTER, to="earliest", timeout=kit.patience)
        forward = await Consumers(app).rewind(COUNTER, to=_text(from_micros(moments[-1])), timeout=kit.patience)
        assert sums(forward) == (0, 0), "a rewind passes nothing over"
        now = await Consumers(app).rewind(VIEW, to=_text(datetime.now(UTC)), timeout=kit.patience)
        assert [shift.before for shift in now.partitions] == [shift.after for shift in now.partitions]


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


async def turn_in_hand_is_refused(kit: EngineKit) -> None:
    """Positions moved by one instance while another has a turn in hand: what that one computed is not committed."""
    async with Lab(kit) as lab:
        app, slow = await _calling(lab)
        other = await _operator(lab, [teller(), caller(lab.behaviour)])
        moved = await Consumers(other).reset("caller.call", to="latest", timeout=0.0)
        assert sums(moved) == (0, 1)
        await lab.stop(other)
        slow.go.set()
        await app.execute(Add(name="b"))
        await lab.settled(app)
        assert [envelope.subject for envelope in await published(app, "calls")] == ["b"]
        assert await count(app, "caller.call", "skipped") == 1
        await balanced(app)


async def _operator(lab: Lab, services: Sequence[Service]) -> Application:
    """Return one more process that runs nothing, for changes to the last of the services."""
    app = lab.new(services)

    async def operate() -> None:
        await app.operate(app.services[-1])

    await lab.run(app, operate)
    return app


async def recreated_topics_are_read_from_where_an_operator_says(kit: EngineKit) -> None:
    """Where a topic was made anew nobody starts by himself; after a reset everybody does, and what is new is read."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, *NAMES)
        await lab.settled()
        await lab.stop(app)
        await kit.damage.recreate_topic("tally")
        with pytest.raises(Recovery):
            await lab.start()
        operator = await _operator(lab, [teller(), counter(lab.behaviour)])
        for group in (COUNTER, VIEW):
            assert not (await Consumers(operator).reset(group, to="earliest")).instances.answered
        await lab.stop(operator)

        app = await lab.start()
        await add(app, *NAMES, times=1)
        await lab.settled()
        assert await totals(app) == dict.fromkeys(NAMES, (1, 1))
        await balanced(app)


PROMISES = (
    paused_takes_nothing,
    worker_counts_hold,
    timers_of_a_paused_consumer_wait,
    every_instance_obeys,
    silent_instances_are_named,
    what_fits_not_is_refused,
    rewind_repeats_no_effect,
    replayable_handlers_run_again,
    what_is_held_is_not_delivered_again,
    what_was_skipped_can_be_read_later,
    dry_runs_change_nothing,
    moments_are_found,
    turn_in_hand_is_refused,
    recreated_topics_are_read_from_where_an_operator_says,
)
