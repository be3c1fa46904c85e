"""Durable timers: committed with state, fired once by the owner of their key, on the injected clock."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from millrace.application import Application
from millrace.errors import StoreUnavailable
from millrace.service import Service
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


PROMISES = (
    timers_fire_when_due,
    timers_survive_the_process,
    timers_are_replaced_and_cancelled,
    timers_share_the_commit,
    failing_timers_are_tried_again,
    deadlines_in_event_time_see_the_answer_first,
)
