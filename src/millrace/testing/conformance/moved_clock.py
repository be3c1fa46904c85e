"""A clock that can be moved: one for all processes, never back, kept over restarts; what concerns machines stays on real time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from millrace.application import Application
from millrace.clock import VirtualClock
from millrace.delivery import Context
from millrace.errors import ClockRefused, ConfigurationError, NotYet
from millrace.execution import IdempotencyKey
from millrace.service import Service
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, balanced, foreign, held, published, put
from millrace.testing.conformance.sample import Add, Added, Remind, Ring, clerk, teller
from millrace.testing.settling import look
from millrace.timers import Timer

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NAMES = [f"n{i}" for i in range(6)]


async def _start(lab: Lab, *services: Service) -> Application:
    """Start a process whose clock runs with the lab's, which stands still until it is moved."""
    return await lab.start(list(services) or [clerk(lab.behaviour)], clock=VirtualClock(lab.clock))


def _offset(app: Application) -> timedelta:
    assert isinstance(app.clock, VirtualClock)
    return app.clock.offset


async def every_process_follows(kit: EngineKit) -> None:
    """What one process moves is moved in all; moves that are made at once add up; timers that are due by then fire, once each."""
    async with Lab(kit) as lab:
        one, two = await _start(lab), await _start(lab)
        for name in NAMES:
            await one.execute(Remind(name=name, after_s=3600))
        assert await one.move_clock(by=HOUR - MINUTE) == lab.clock.now() + HOUR - MINUTE
        assert _offset(two) == HOUR - MINUTE, "what is answered holds everywhere"
        await lab.settled()
        assert await published(one, "reminders") == []
        await asyncio.gather(
            one.move_clock(by=MINUTE / 2), two.move_clock(by=MINUTE / 2), two.move_clock(to=lab.clock.now() + HOUR / 2 + MINUTE * 30)
        )
        assert _offset(one) == _offset(two) >= HOUR
        await lab.settled()
        assert sorted(envelope.subject for envelope in await published(two, "reminders")) == NAMES
        await balanced(one)


async def time_does_not_go_back(kit: EngineKit) -> None:
    """Neither over a restart nor over a kill, whoever asks for it; what a process says is dated by the moved clock from its start on."""
    async with Lab(kit) as lab:
        moved = timedelta()
        for end in (lab.stop, lab.kill, lab.stop):
            app = await _start(lab, teller())
            assert _offset(app) == moved, "a process has the clock of the installation before it does anything"
            await app.move_clock(by=HOUR)
            moved += HOUR
            for refused in ({"by": -MINUTE}, {"to": app.clock.now() - MINUTE}, {"to": datetime(9999, 1, 1, tzinfo=UTC)}, {}):
                with pytest.raises(ClockRefused):
                    await app.move_clock(**refused)  # type: ignore[arg-type]
            assert _offset(app) == moved
            await end(app)
        app = await lab.open([teller()], clock=VirtualClock(lab.clock))
        assert _offset(app) == moved
        await lab.stop(app)
        app = await _start(lab, teller())
        await add(app, "a")
        await lab.settled()
        (said,) = await published(app, "tally")
        assert datetime.fromisoformat(said.time) == lab.clock.now() + moved


async def one_kind_of_clock_per_installation(kit: EngineKit) -> None:
    """A process with the machine's clock is refused beside moves, and a virtual clock where processes without one have been."""
    async with Lab(kit) as lab:
        app = await _start(lab, teller())
        with pytest.raises(ConfigurationError, match="has a virtual clock"):
            await lab.open([teller()])
        await lab.stop(app)
        with pytest.raises(ConfigurationError, match="has a virtual clock"):
            await lab.open([teller()])


async def virtual_clocks_are_chosen_first(kit: EngineKit) -> None:
    """An installation that began with the machine's clock keeps it, and says that nobody can move it."""
    async with Lab(kit) as lab:
        app = await lab.start([teller()])
        with pytest.raises(ClockRefused) as refused:
            await app.move_clock(by=MINUTE)
        assert refused.value.reason == "not_virtual"
        with pytest.raises(ConfigurationError, match="at the first start"):
            await lab.open([teller()], clock=VirtualClock(lab.clock))
        await lab.stop(app)


async def what_is_due_fires_in_order(kit: EngineKit) -> None:
    """After a move timers fire in the order of their due times and are dated by these."""
    async with Lab(kit) as lab:
        rung: list[tuple[str, int]] = []
        app = await _start(lab, _bells(rung, lab))
        await put(
            app, "tally", *((name, foreign(app, Added(name=name, n=n), id=name)) for n, name in zip((5, 3, 1, 6, 2, 4), NAMES, strict=True))
        )
        await lab.settled()
        await app.move_clock(by=HOUR)
        await lab.settled()
        assert [due for _, due in rung] == [1, 2, 3, 4, 5, 6]


def _bells(rung: list[tuple[str, int]], lab: Lab) -> Service:
    service, start = Service("bells"), lab.clock.now()

    @service.handler
    def begin(event: Added) -> Any:
        """Ring in so many minutes."""
        return Timer("bell", Ring(name=event.name), after=MINUTE * event.n)

    @service.handler
    def ring(command: Ring, context: Context) -> None:
        """Note when it was due."""
        rung.append((command.name, (context.time - start) // MINUTE))

    return service


async def machines_keep_their_time(kit: EngineKit) -> None:
    """A move neither ages the answers to idempotency keys, nor makes them last, nor ends the patience of messages that wait for others."""
    async with Lab(kit) as lab:
        service, told = Service("waiter"), list[str]()

        @service.handler
        def wait(event: Added) -> None:
            """Wait until somebody has told it."""
            if not told:
                raise NotYet("for somebody to tell it")
            told.append(event.name)

        app = await _start(lab, teller(), service)
        before, after = IdempotencyKey("add", "before"), IdempotencyKey("add", "after")
        assert await _answer(app, before, b"first") == b"first"
        await lab.eventually(app, lambda: _waits(app))
        await app.move_clock(by=30 * DAY)
        real, week = int(lab.clock.now().timestamp() * 1_000_000), 7 * 86_400_000_000
        assert await _answer(app, after, b"first") == b"first"
        await app.hosts["teller"].clean(now=real, answers_before=real - week)
        assert await _answer(app, before, b"second") == b"first"
        await app.hosts["teller"].clean(now=real, answers_before=real + 1)
        assert await _answer(app, after, b"second") == b"second"
        told.append("go")
        lab.clock.advance(timedelta(seconds=2))
        look(app)
        await lab.eventually(app, lambda: _none_waits(app))
        assert told[:2] == ["go", "a"]


async def _answer(app: Application, key: IdempotencyKey, answer: bytes) -> bytes | None:
    return (await app.execute(Add(name="a"), idempotency=key, answer=lambda _: answer)).answer


async def _waits(app: Application) -> bool:
    return [row.state for row in await held(app, "waiter")] == ["not_yet"]


async def _none_waits(app: Application) -> bool:
    return not await held(app, "waiter")


PROMISES = (
    every_process_follows,
    time_does_not_go_back,
    one_kind_of_clock_per_installation,
    virtual_clocks_are_chosen_first,
    what_is_due_fires_in_order,
    machines_keep_their_time,
)
