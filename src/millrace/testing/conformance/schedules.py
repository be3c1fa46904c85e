"""Schedules: a command per due moment, once over all instances, kills and restarts; what was missed is caught up as declared."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from millrace.application import Application
from millrace.delivery import Context
from millrace.scheduling import ChangeSchedule, list_schedules
from millrace.service import Service
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, balanced, held, published
from millrace.testing.conformance.sample import Reminded, Ring
from millrace.testing.settling import advance, look
from millrace.writer import Waiting

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def _clock(**catch_up: str) -> Service:
    """Return a service in which every schedule rings a bell of its own name, and says for which moment."""
    service = Service("tower", says=[Reminded])
    for name, policy in catch_up.items():
        service.schedule(name, every=HOUR, command=Ring(name=name), catch_up=policy)  # type: ignore[arg-type]

    @service.handler
    def ring(command: Ring, context: Context) -> Any:
        """Say so."""
        return Reminded(name=f"{command.name} {context.time:%d %H}")

    return service


async def rung(app: Application) -> list[str]:
    """Return for which moments which bell has rung, in the order of these."""
    return sorted(envelope.subject for envelope in await published(app, "reminders"))


async def every_moment_is_fired_once(kit: EngineKit) -> None:
    """By one of two instances, whichever has the tick when one of them is stopped, killed, or both are started anew."""
    async with Lab(kit) as lab:
        one, two = await lab.start([_clock(bell="once")]), await lab.start([_clock(bell="once")])
        await lab.advance(one, 3599)
        assert await rung(one) == []
        for hour, end in enumerate((lab.stop, lab.kill, None), 1):
            lab.clock.advance(HOUR)
            await _all_look(lab, one, two)
            assert await rung(two) == [f"bell 01 {n:02}" for n in range(1, hour + 1)]
            if end is not None:
                await end(one)
                one = await lab.start([_clock(bell="once")])
        await balanced(two)


async def _all_look(lab: Lab, *apps: Application) -> None:
    for app in apps:
        look(app)
    await lab.settled()


async def missed_moments_are_caught_up_as_declared(kit: EngineKit) -> None:
    """While nothing ran for hours: the last of them, all of them in order, or none; from then on as ever."""
    async with Lab(kit) as lab:
        app = await lab.start([_clock(all="all", none="none", once="once")])
        await lab.advance(app, 3600)
        assert await rung(app) == ["all 01 01", "none 01 01", "once 01 01"]
        await lab.stop(app)
        lab.clock.advance(timedelta(hours=5, minutes=30))
        app = await lab.start([_clock(all="all", none="none", once="once")])
        await lab.settled()
        missed = [f"all 01 {hour:02}" for hour in range(1, 7)]
        assert await rung(app) == [*missed, "none 01 01", "once 01 01", "once 01 06"]
        await advance(app, lab.clock, MINUTE * 30, timeout=kit.patience)
        assert [moment for moment in await rung(app) if moment.endswith("07")] == ["all 01 07", "none 01 07", "once 01 07"]
        await balanced(app)


async def more_than_a_step_is_caught_up(kit: EngineKit) -> None:
    """All of some days, in the order of their moments."""
    async with Lab(kit) as lab:
        order = list[datetime]()
        service = Service("tower")
        service.schedule("bell", cron="30 * * * *", command=Ring(name="bell"), catch_up="all")

        @service.handler
        def ring(command: Ring, context: Context) -> None:
            """Note the moment."""
            order.append(context.time)

        app = await lab.start([service])
        await lab.advance(app, 240 * 3600)
        first = lab.clock.now() - 240 * HOUR + MINUTE * 30
        assert order == [first + HOUR * n for n in range(240)]


async def what_fails_is_held_and_the_schedule_goes_on(kit: EngineKit) -> None:
    """A command that fails is a dead letter of its key; the next moment, of another key, is fired all the same."""
    async with Lab(kit) as lab:
        service, tries = Service("tower"), list[str]()

        def bell(moment: datetime) -> Ring:
            """Ring another bell each hour."""
            return Ring(name=f"{moment:%H}")

        service.schedule("bell", every=HOUR, command=bell)

        @service.handler
        def ring(command: Ring) -> None:
            """Fail in the first hour."""
            tries.append(command.name)
            if command.name == "01":
                raise OSError("no bell")

        app = await lab.start([service])
        await lab.advance(app, 3600)
        await lab.advance(app, 3600)
        assert tries == ["01", "01", "01", "02"]
        assert [(row.key, row.state) for row in await held(app, "tower")] == [("01", "dead")]
        await balanced(app)


async def firing_shares_the_commit(kit: EngineKit) -> None:
    """A tick whose transaction failed has done nothing and is fired again; its moment is not lost and not doubled."""
    async with Lab(kit) as lab:
        app = await lab.start([_clock(bell="once")])
        lab.faults.fail_next("tower", times=2)
        await lab.advance(app, 3600)
        assert lab.faults.outstanding == 0
        assert await rung(app) == ["bell 01 01"]
        await balanced(app)


async def operators_pause_and_see(kit: EngineKit) -> None:
    """While a schedule is paused its moments pass; a changed one goes on at its new moments, one that nobody declares waits."""
    async with Lab(kit) as lab:
        app = await lab.start([_clock(bell="all")])
        await _do(app, ChangeSchedule("bell", paused=True))
        await lab.advance(app, 7200)
        assert (await _states(app))["bell"] == ("paused", 0)
        await _do(app, ChangeSchedule("bell", paused=False))
        await lab.advance(app, 3600)
        assert await rung(app) == ["bell 01 03"]
        await lab.stop(app)

        service = _clock(other="once")
        service.schedule("bell", cron="15 * * * *", command=Ring(name="bell"))
        app = await lab.start([service])
        await lab.advance(app, 900)
        assert await rung(app) == ["bell 01 03", "bell 01 03"], "a quarter past three"
        await lab.stop(app)

        app = await lab.start([_clock(other="once")])
        await lab.advance(app, 3600)
        assert (await _states(app))["bell"] == ("undeclared", 2)
        assert await rung(app) == ["bell 01 03", "bell 01 03", "other 01 04"]


async def _do(app: Application, work: Waiting) -> None:
    app.hosts["tower"].writer.submit(work)  # type: ignore[arg-type]
    await work.finished


async def _states(app: Application) -> dict[str, tuple[str, int]]:
    host = app.hosts["tower"]
    rows = await list_schedules("tower", host.service.schedules, host.store.reader)
    return {row.schedule: (row.state, row.fired) for row in rows}


PROMISES = (
    every_moment_is_fired_once,
    missed_moments_are_caught_up_as_declared,
    more_than_a_step_is_caught_up,
    what_fails_is_held_and_the_schedule_goes_on,
    firing_shares_the_commit,
    operators_pause_and_see,
)
