"""The ledger is checked while the application runs: a loss is an alarm in four places, once, until it is mended."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager

from millrace.alarm import AlarmCleared, AlarmRaised
from millrace.application import Application
from millrace.role import Role
from millrace.service import Service
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, balanced, held, put
from millrace.testing.conformance.sample import counter, teller

RELAYING_ELSEWHERE = Role(relaying=False)


class _Kept(logging.Handler):
    """What the log of the toolkit says of the ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        if "ledger" in record.getMessage():
            self.lines.append(record.getMessage())


@contextmanager
def _said() -> Generator[list[str]]:
    handler, log = _Kept(), logging.getLogger("millrace")
    log.addHandler(handler)
    try:
        yield handler.lines
    finally:
        log.removeHandler(handler)


def _pager(heard: list[tuple[str, str, str]]) -> Service:
    """Return a service that wants to know of alarms."""
    service = Service("pager")

    @service.handler
    def page(event: AlarmRaised | AlarmCleared) -> None:
        """Keep what was said."""
        heard.append((type(event).__name__, event.service, event.what))

    return service


async def _look(app: Application, service: str, times: int = 2) -> None:
    for _ in range(times):
        await app.hosts[service].watch.look()


def _entry(app: Application, service: str) -> tuple[str, str]:
    (entry,) = [entry for entry in app.health().entries if entry.name == f"{service} ledger"]
    return entry.state, entry.last_error or ""


async def lost_letters_are_an_alarm(kit: EngineKit) -> None:
    """A dead letter that vanishes is named in health, figures and log and told as an event, once over restarts; and so is its return."""
    async with Lab(kit) as lab:
        heard: list[tuple[str, str, str]] = []
        services = [teller(), counter(lab.behaviour), _pager(heard)]
        app = await lab.start(services)
        await put(app, "tally", ("a", b"junk"))
        await add(app, "a")
        await lab.settled()
        kept = await held(app, "counter", state="dead")
        await _look(app, "counter", times=3)
        assert (_entry(app, "counter"), app.health().status, heard) == (("ok", ""), "ok", [])
        await lab.stop(app)
        with _said() as lines:
            await kit.damage.lose("dead_letters", "counter")
            app = await lab.start(services)
            there = {row.processor for row in await held(app, "counter", state="dead")}
            (lost,) = [row for row in kept if row.processor not in there]
            await _look(app, "counter")
            state, error = _entry(app, "counter")
            assert (state, app.health().status) == ("differs", "failing")
            assert f"dead letters counter.{lost.processor} on tally/" in error
            assert "expected 1, found 0 (-1)" in error
            assert 'millrace_ledger_differences{service="counter"} 1' in app.metrics()
            assert 'equation="dead letters"' in app.metrics()
            assert 'millrace_ledger_differences{service="teller"} 0' in app.metrics()
            await lab.settled()
            assert heard == [("AlarmRaised", "counter", "dead letters")]
            await _look(app, "counter")
            assert len(lines) == 1, lines
            await lab.stop(app)

            app = await lab.start(services)
            await _look(app, "counter", times=1)
            assert _entry(app, "counter")[0] == "differs", "an alarm outlives the process that raised it"
            transaction = await app.hosts["counter"].store.begin()
            await transaction.held.save([lost])
            await transaction.commit()
            await _look(app, "counter")
            await lab.settled()
            assert (_entry(app, "counter"), app.health().status) == (("ok", ""), "ok")
            assert heard == [("AlarmRaised", "counter", "dead letters"), ("AlarmCleared", "counter", "dead letters")]
            assert len(lines) == 3, lines
        await balanced(app)


async def rows_lost_unpublished_are_an_alarm(kit: EngineKit) -> None:
    """A journal row that is gone before it was published leaves a hole, which is an alarm though the relay goes on."""
    async with Lab(kit) as lab:
        app = await lab.start(hosted=RELAYING_ELSEWHERE)
        await add(app, "a", "b", "c")
        await lab.stop(app)
        await kit.damage.lose("journal", "teller")

        app = await lab.start()
        await lab.settled()
        await _look(app, "teller")
        state, error = _entry(app, "teller")
        assert (state, "journal teller: expected 3, found 2 (-1)" in error) == ("differs", True), error


async def losses_while_nobody_publishes_are_an_alarm(kit: EngineKit) -> None:
    """What waits to be published is as many rows as positions, even where the relay cannot get there."""
    async with Lab(kit) as lab:
        app = await lab.start(hosted=RELAYING_ELSEWHERE)
        await add(app, "a", "b")
        await lab.stop(app)
        await kit.damage.lose("journal", "teller")
        app = await lab.open()
        await _look_unstarted(app, "teller")


async def _look_unstarted(app: Application, service: str) -> None:
    host = app.hosts[service]
    host.writer.start()
    await _look(app, service)
    assert _entry(app, service)[0] == "differs"
    await host.writer.stop()


async def what_moves_is_no_alarm(kit: EngineKit) -> None:
    """However often it is looked while messages are handled, nothing is taken for a loss."""
    async with Lab(kit) as lab:

        def fail(event: object, context: object) -> None:
            raise ArithmeticError

        lab.behaviour.count = fail
        app = await lab.start()
        for _ in range(5):
            await add(app, "a", "b", "c", times=4)
            await _look(app, "counter", times=3)
        await lab.settled()
        await _look(app, "counter", times=3)
        assert _entry(app, "counter") == ("ok", "")


PROMISES = (
    lost_letters_are_an_alarm,
    rows_lost_unpublished_are_an_alarm,
    losses_while_nobody_publishes_are_an_alarm,
    what_moves_is_no_alarm,
)
