"""Guarantee 8: when one side was restored from a copy or replaced, whoever notices stops with a message that says so."""

from __future__ import annotations

import pytest

from millrace.application import Application
from millrace.errors import Recovery
from millrace.service import Service
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, foreign, put, totals
from millrace.testing.conformance.sample import Add, Added, Board, Ready, teller


async def older_store_is_noticed(kit: EngineKit) -> None:
    """The log has positions that a restored store never gave: publishing would reuse them, so nothing starts."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, "a", times=2)
        await lab.settled()
        await lab.stop(app)
        await kit.damage.save_copy("teller")

        app = await lab.start()
        await add(app, "b", times=2)
        await lab.settled()
        await lab.stop(app)
        await kit.damage.restore_copy("teller")

        app = lab.new()
        with pytest.raises(Recovery, match=r"position 4 .*only 2"):
            await app.start()


async def _expect_recovery(lab: Lab, *, match: str) -> None:
    """Start, and expect that it is refused or that the processor stops and health says so."""
    app = lab.new()
    try:
        await lab.run(app, app.start)
    except Recovery as error:
        if match in str(error):
            return
        raise
    loop = app.hosts["counter"].loops["handlers"]
    await lab.eventually(app, lambda: match in (loop.last_error or ""))
    assert not app.ready()
    assert _failing(app)
    await lab.kill(app)


def _failing(app: Application) -> bool:
    health = app.health()
    return health.status == "failing" and any(e.name == "counter.handlers" and e.state == "failing" for e in health.entries)


async def older_log_is_noticed(kit: EngineKit) -> None:
    """A reader whose position lies behind the log's end says that the log was restored."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, "a")
        await lab.settled()
        await lab.stop(app)
        await kit.damage.save_copy("log")

        app = await lab.start()
        await put(app, "tally", *(("a", foreign(app, Added(name="a"), id=str(i))) for i in range(5)))
        await lab.settled()
        await lab.stop(app)
        await kit.damage.restore_copy("log")
        await _expect_recovery(lab, match=kit.damage.restored)


async def older_log_is_noticed_before_it_is_filled_up(kit: EngineKit) -> None:
    """The same when the relays could publish again what the log lost and reach its old end: who reads must look first."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, "z")
        await lab.settled()
        await lab.stop(app)
        await kit.damage.save_copy("log")

        app = await lab.start()
        await add(app, "a", times=3)
        await lab.settled()
        assert (await totals(app))["a"] == (1, 2, 3)
        await lab.stop(app)
        await kit.damage.restore_copy("log")
        await _expect_recovery(lab, match=kit.damage.restored)


async def recreated_topic_is_noticed(kit: EngineKit) -> None:
    """A topic of the same name with another identity is not the topic that was read."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await put(app, "tally", ("a", foreign(app, Added(name="a"))))
        await lab.settled()
        await lab.stop(app)
        await kit.damage.recreate_topic("tally")
        await _expect_recovery(lab, match="created anew")


async def expired_records_are_noticed(kit: EngineKit) -> None:
    """A reader whose place was removed by retention does not go on as if nothing had been there."""
    async with Lab(kit) as lab:
        app = await lab.start(hosted=["counter"])
        await lab.settled()
        await lab.stop(app)
        app = await lab.start(hosted=["teller"])
        commands = [("a", foreign(app, Add(name="a"), id=str(i))) for i in range(3)]
        await put(app, "tally.commands", *commands)
        await lab.settled()
        row = next(r for r in await app.hosts["teller"].store.reader.positions.load("tally") if r.offset == 3)
        transaction = await app.hosts["teller"].store.begin()
        row.offset, row.received, row.handled = 1, 1, 1
        await transaction.positions.advance([row])
        await transaction.commit()
        await lab.kill(app)

        app = await lab.open(hosted=["counter"])
        assert await app.parts.administration.expire(now_micros=1 << 60) == 3
        await lab.stop(app)
        app = lab.new(hosted=["teller"])
        with pytest.raises(Recovery, match="removed before"):
            await app.start()


async def nothing_is_noticed_where_nothing_happened(kit: EngineKit) -> None:
    """A copy of everything, taken at rest and put back, is no reason to stop."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, "a", times=2)
        await lab.settled()
        await lab.stop(app)
        for database in ("log", "teller", "counter"):
            await kit.damage.save_copy(database)
            await kit.damage.restore_copy(database)

        app = await lab.start()
        outcome = await app.execute(Add(name="a", n=3))
        await app.wait_for(Board, outcome.position, timeout=kit.patience)
        await lab.settled()
        assert await totals(app) == {"a": (1, 2, 3)}


async def readers_that_are_gone_are_not_asked(kit: EngineKit) -> None:
    """What a handler read that the release no longer has may have left the log: nobody will go on from there."""

    def release(*, hears: bool) -> list[Service]:
        service = Service("hearer")
        if hears:

            @service.handler
            async def hear(event: Ready) -> None:
                """Read a topic that nobody else does."""

        return [teller(), service]

    async with Lab(kit) as lab:
        app = await lab.start(release(hears=True))
        await put(app, "ready", ("a", foreign(app, Ready(name="a"))))
        await lab.settled()
        await lab.stop(app)
        await kit.damage.recreate_topic("ready")

        app = await lab.start(release(hears=False))
        await add(app, "a")
        await lab.stop(app)
        app = lab.new(release(hears=True))
        with pytest.raises(Recovery):
            await app.start()


PROMISES = (
    older_store_is_noticed,
    older_log_is_noticed,
    older_log_is_noticed_before_it_is_filled_up,
    recreated_topic_is_noticed,
    expired_records_are_noticed,
    nothing_is_noticed_where_nothing_happened,
    readers_that_are_gone_are_not_asked,
)
