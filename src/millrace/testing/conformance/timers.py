"""Durable timers: committed with state, fired once by the owner of their key, on the injected clock."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from millrace.application import Application
from millrace.errors import StoreUnavailable
from millrace.service import Service
from millrace.testing.conformance.g04_order import SLOWLY
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import AT_ONCE, Lab, balanced, foreign, held, published, put
from millrace.testing.conformance.sample import Added, Remind, Reminded, Ring, clerk
from millrace.timers import Cancel, Timer

NAMES = [f"n{i}" for i in range(10)]


class Watch(msgspec.Struct, frozen=True):
    """An aggregate that only timers and local commands reach."""

    rung: int = 0


def _watching() -> Service:
    service = Service("watch")

    def decide(command: Remind | Ring, watch: Watch | None, context: Any) -> Any:
        """Set the timer, or note that it fired."""
        if isinstance(command, Ring):
            return Reminded(name=command.name)
        return Timer("ring", Ring(name=command.name), after=timedelta(seconds=command.after_s))

    def evolve(watch: Watch | None, event: Reminded) -> Watch:
        """Count."""
        return Watch((watch or Watch()).rung + 1)

    service.aggregate(Watch, decide=decide, evolve=evolve)
    return service


async def reminded(app: Application) -> list[str]:
    """Return whose timers have fired, sorted."""
    return sorted(envelope.subject for envelope in await published(app, "reminders"))


async def timers_fire_when_due(kit: EngineKit) -> None:
    """Not a moment before, exactly at the moment, once, for every key - also in a processor that reads no topic."""
    async with Lab(kit) as lab:
        for service in (clerk(lab.behaviour), _watching()):
            app = await lab.start([service])
            already = len(await reminded(app))
            for name in NAMES:
                await app.execute(Remind(name=name, after_s=30))
            await lab.advance(app, 29.999999)
            assert len(await reminded(app)) == already
            await lab.advance(app, 0.000001)
            assert len(await reminded(app)) == already + len(NAMES)
            await lab.advance(app, 3600)
            assert len(await reminded(app)) == already + len(NAMES)
            await balanced(app)
            await lab.stop(app)


async def timers_survive_the_process(kit: EngineKit) -> None:
    """What became due while nobody ran fires after the next start, once."""
    async with Lab(kit) as lab:
        for seconds, end in enumerate((lab.stop, lab.kill), 1):
            app = await lab.start([clerk(lab.behaviour)])
            await app.execute(Remind(name=f"n{seconds}", after_s=30))
            await end(app)
            lab.clock.advance(timedelta(seconds=31))
            app = await lab.start([clerk(lab.behaviour)])
            await lab.settled()
            assert await reminded(app) == [f"n{i}" for i in range(1, seconds + 1)]
            await lab.kill(app)


async def timers_are_replaced_and_cancelled(kit: EngineKit) -> None:
    """One name per key: a later timer replaces, Cancel removes, other keys are left alone."""
    async with Lab(kit) as lab:
        app = await lab.start([clerk(lab.behaviour)])
        for name in ("a", "b", "c"):
            await app.execute(Remind(name=name, after_s=10))
        await app.execute(Remind(name="a", after_s=60))
        await app.execute(Remind(name="b", cancel=True))
        await app.execute(Remind(name="nobody", cancel=True))
        await lab.advance(app, 11)
        assert await reminded(app) == ["c"]
        await lab.advance(app, 50)
        assert await reminded(app) == ["a", "c"]


async def timers_share_the_commit(kit: EngineKit) -> None:
    """A timer of a transaction that failed does not exist; one whose firing failed fires again."""
    async with Lab(kit) as lab:
        app = await lab.start([clerk(lab.behaviour)])
        lab.faults.fail_next("clerk")
        with pytest.raises(StoreUnavailable):
            await app.execute(Remind(name="a", after_s=5))
        await app.execute(Remind(name="b", after_s=5))
        lab.faults.fail_next("clerk", times=2)
        await lab.advance(app, 6)
        assert lab.faults.outstanding == 0
        assert await reminded(app) == ["b"]
        await balanced(app)


async def failing_timers_are_tried_again(kit: EngineKit) -> None:
    """A timer whose handler fails is a message of its key: retried, then a dead letter with its bytes."""
    async with Lab(kit) as lab:
        service, tries = Service("bells"), list[str]()

        @service.handler
        def remind(command: Remind) -> Any:
            """Set it."""
            return Timer("ring", Ring(name=command.name), after=timedelta(seconds=1))

        @service.handler(says=[Reminded])
        def ring(command: Ring) -> Any:
            """Fail for a always, for b once."""
            tries.append(command.name)
            if command.name == "a" or (tries.count("b") == 1 and command.name == "b"):
                raise OSError("no bell")
            return Reminded(name=command.name)

        app = await lab.start([service], policy=AT_ONCE)
        await app.execute(Remind(name="a"))
        await app.execute(Remind(name="b"))
        await lab.advance(app, 2)
        assert (tries.count("a"), tries.count("b")) == (AT_ONCE.attempts, 2)
        assert await reminded(app) == ["b"]
        assert [(row.key, row.state, row.attempts) for row in await held(app, "bells")] == [("a", "dead", 3)]


async def timers_due_at_once_fire_at_once(kit: EngineKit) -> None:
    """A timer for now fires with what set it, sets itself anew as often as it likes, and waits like a message when it fails."""
    async with Lab(kit) as lab:
        rung: list[str] = []
        app = await lab.start([_ringing_at_once(rung)], policy=SLOWLY)
        await put(app, "tally", *((name, foreign(app, Added(name=name), id=name)) for name in "ab"))
        await lab.settled()
        assert sorted(rung) == [*"aaaaa", "b"]
        assert [row.key for row in await held(app, "bells")] == ["b"]
        await balanced(app)
        await lab.advance(app, 11)
        assert sorted(rung) == [*"aaaaa", *"bbbbbb"]
        assert await held(app, "bells") == []
        await balanced(app)


def _ringing_at_once(rung: list[str]) -> Service:
    service = Service("bells")

    def bell(name: str) -> Timer:
        return Timer("bell", Ring(name=name), after=timedelta())

    @service.handler
    def start(event: Added) -> Any:
        """Ring now."""
        return bell(event.name)

    @service.handler
    def ring(command: Ring) -> Any:
        """Ring five times in all; the first time of "b" goes wrong."""
        rung.append(command.name)
        if rung.count("b") == 1 and command.name == "b":
            raise ConnectionError("not now")
        return bell(command.name) if rung.count(command.name) < (6 if command.name == "b" else 5) else None

    return service


async def deadlines_in_event_time_see_the_answer_first(kit: EngineKit) -> None:
    """An answer that waits in the log is handled before the deadline is judged, though the deadline has passed meanwhile."""
    async with Lab(kit) as lab:
        fired: list[str] = []
        app = await lab.start([_with_deadline(fired)])
        await put(app, "tally", *((name, foreign(app, Added(name=name, n=0), id=name)) for name in NAMES))
        await lab.settled()
        await lab.stop(app)

        app = await lab.open([_with_deadline(fired)])
        await put(app, "tally", *((name, foreign(app, Added(name=name), id=f"answer {name}")) for name in NAMES[1:]))
        await lab.stop(app)
        lab.clock.advance(timedelta(hours=1))
        app = await lab.start([_with_deadline(fired)], batch_max=1)
        await lab.settled()
        assert fired == NAMES[:1]


def _with_deadline(fired: list[str]) -> Service:
    service = Service("deadlines")

    @service.handler
    def start(event: Added) -> Any:
        """The first message sets the deadline, the answer cancels it."""
        if event.n:
            return Cancel("deadline")
        return Timer("deadline", Ring(name=event.name), after=timedelta(seconds=30), event_time=True)

    @service.handler
    def late(command: Ring) -> None:
        """Note it."""
        fired.append(command.name)

    return service


async def deadlines_of_activities_see_the_answer_first(kit: EngineKit) -> None:
    """The same where what the timer calls is the outside world: it is not called for what was answered in time."""
    async with Lab(kit) as lab:
        fired: list[str] = []
        app = await lab.start([_calling_when_late(fired)])
        await put(app, "tally", *((name, foreign(app, Added(name=name, n=0), id=name)) for name in NAMES))
        await lab.settled()
        await lab.stop(app)

        app = await lab.open([_calling_when_late(fired)])
        await put(app, "tally", *((name, foreign(app, Added(name=name), id=f"answer {name}")) for name in NAMES[1:]))
        await lab.stop(app)
        lab.clock.advance(timedelta(hours=1))
        app = await lab.start([_calling_when_late(fired)])
        await lab.settled()
        assert fired == NAMES[:1]


def _calling_when_late(fired: list[str]) -> Service:
    service = Service("deadlines")

    @service.handler(processor="watch")
    async def start(event: Added) -> Any:
        """The first message sets the deadline, the answer cancels it."""
        if event.n:
            return Cancel("deadline")
        return Timer("deadline", Ring(name=event.name), after=timedelta(seconds=30), event_time=True)

    @service.handler(processor="watch")
    async def late(command: Ring) -> None:
        """Tell the outside world."""
        fired.append(command.name)

    return service


async def timers_changed_in_the_turn_they_are_due_in_obey(kit: EngineKit) -> None:
    """What the input of a turn sets anew is kept for its new time, what it cancels does not fire, though both were due in that turn."""
    async with Lab(kit) as lab:
        fired: list[str] = []
        app = await lab.start([_alarm(fired)])
        await put(app, "tally", *((name, foreign(app, Added(name=name), id=name)) for name in NAMES))
        await lab.settled()
        await lab.stop(app)

        app = await lab.open([_alarm(fired)])
        await put(app, "tally", ("n0", foreign(app, Added(name="n0"), id="anew")), ("n1", foreign(app, Added(name="n1", n=0), id="off")))
        await lab.stop(app)
        lab.clock.advance(timedelta(seconds=31))
        app = await lab.start([_alarm(fired)])
        await lab.settled()
        assert sorted(fired) == NAMES[2:], "the turn that reads the change finds the timers due"
        await lab.advance(app, 31)
        assert sorted(fired) == sorted([*NAMES[2:], "n0"])
        await balanced(app)


def _alarm(fired: list[str]) -> Service:
    service = Service("alarm")

    @service.handler
    def wind(event: Added) -> Any:
        """Set it anew, or switch it off."""
        return Timer("alarm", Ring(name=event.name), after=timedelta(seconds=30)) if event.n else Cancel("alarm")

    @service.handler
    def ring(command: Ring) -> None:
        """Note it."""
        fired.append(command.name)

    return service


async def timers_of_a_key_keep_their_order(kit: EngineKit) -> None:
    """A timer that waits for its retry is passed by no later one of its key, in pure handlers as in activities; each is called."""
    for make in (_two_bells, _two_bells_outside):
        async with Lab(kit) as lab:
            rung: list[int] = []
            app = await lab.start([make(rung)], policy=SLOWLY)
            await put(app, "tally", ("a", foreign(app, Added(name="a"), id=make.__name__)))
            await lab.settled()
            await lab.advance(app, 3)
            assert rung == [1], "the first fails, and the second waits behind it"
            await lab.advance(app, 11)
            assert rung == [1, 1, 2]
            assert await held(app, make.__name__.strip("_").replace("_", "-")) == []
            await balanced(app)


async def timers_of_a_key_are_called_one_by_one(kit: EngineKit) -> None:
    """When the first of two due timers of an activity fails and is tried again at once, the second is called, after it."""
    async with Lab(kit) as lab:
        rung: list[int] = []
        app = await lab.start([_two_bells_outside(rung)], policy=AT_ONCE)
        await put(app, "tally", ("a", foreign(app, Added(name="a"))))
        await lab.settled()
        await lab.advance(app, 3)
        assert rung == [1, 1, 2]
        await balanced(app)


async def timers_behind_a_cancelled_one_are_called(kit: EngineKit) -> None:
    """When the first of two due timers of an activity fails, but its own turn's input cancels it, the second is called all the same."""
    async with Lab(kit) as lab:
        rung: list[int] = []
        app = await lab.start([_two_bells_outside(rung)])
        await put(app, "tally", ("a", foreign(app, Added(name="a"))))
        await lab.settled()
        await lab.stop(app)

        app = await lab.open([_two_bells_outside(rung)])
        await put(app, "tally", ("a", foreign(app, Added(name="a", n=0), id="off")))
        await lab.stop(app)
        lab.clock.advance(timedelta(seconds=3))
        app = await lab.start([_two_bells_outside(rung)])
        await lab.settled()
        assert rung == [1, 2]
        await balanced(app)


def _two_timers(event: Added) -> list[Any]:
    if not event.n:
        return [Cancel("bell 1")]
    return [Timer(f"bell {n}", Remind(name=event.name, after_s=n), after=timedelta(seconds=n)) for n in (1, 2)]


def _ring_first_time_badly(command: Remind, rung: list[int]) -> None:
    rung.append(int(command.after_s))
    if len(rung) == 1:
        raise ConnectionError("not now")


def _two_bells(rung: list[int]) -> Service:
    service = Service("two-bells")

    @service.handler
    def start(event: Added) -> Any:
        """Set two timers, or cancel the first."""
        return _two_timers(event)

    @service.handler
    def ring(command: Remind) -> None:
        """Fail once."""
        _ring_first_time_badly(command, rung)

    return service


def _two_bells_outside(rung: list[int]) -> Service:
    service = Service("two-bells-outside")

    @service.handler(processor="bells")
    async def start(event: Added) -> Any:
        """Set two timers, or cancel the first."""
        return _two_timers(event)

    @service.handler(processor="bells")
    async def ring(command: Remind) -> None:
        """Fail once."""
        _ring_first_time_badly(command, rung)

    return service


PROMISES = (
    timers_fire_when_due,
    timers_survive_the_process,
    timers_are_replaced_and_cancelled,
    timers_share_the_commit,
    failing_timers_are_tried_again,
    timers_due_at_once_fire_at_once,
    deadlines_in_event_time_see_the_answer_first,
    deadlines_of_activities_see_the_answer_first,
    timers_changed_in_the_turn_they_are_due_in_obey,
    timers_of_a_key_keep_their_order,
    timers_of_a_key_are_called_one_by_one,
    timers_behind_a_cancelled_one_are_called,
)
