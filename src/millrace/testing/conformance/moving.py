"""An installation that is moved goes on where it stopped, whatever was under way; between the engine at hand and files, both ways."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from millrace.application import Application
from millrace.errors import MillraceError, StoreUnavailable
from millrace.execution import IdempotencyKey
from millrace.moving import Moved, MoveProgress, move
from millrace.service import Service
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit, kit_of
from millrace.testing.conformance.lab import Lab, balanced, foreign, held, put, records_of, totals
from millrace.testing.conformance.sample import Add, Added, Ready, Remind, clerk, counter, teller

KEY = IdempotencyKey("add", "key-1", "first")
STEPS = 60
"""More durable steps than a move of what `_fill` leaves takes on any one database."""


@asynccontextmanager
async def _elsewhere() -> AsyncGenerator[EngineKit]:
    """A place in files beside the one at hand."""
    with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
        kit = kit_of("sqlite", Path(folder))
        try:
            yield kit
        finally:
            kit.close()


def _services(lab: Lab) -> list[Service]:
    return [teller(snapshot_every=2), counter(lab.behaviour), clerk(lab.behaviour)]


def _misbehave(event: Added, context: object) -> object:
    if event.name == "bad":
        raise ValueError("cannot be counted")
    return "wait" if event.name == "w" else None


async def _fill(lab: Lab) -> None:
    """Leave everything there is: read and unread records, held and dead ones, a timer, an answer, rows that nobody has published."""
    lab.behaviour.count = _misbehave
    app = await lab.start(_services(lab))
    await add(app, "a", "b", "w", "bad", times=3)
    await app.execute(Add(name="i"), idempotency=KEY, answer=lambda _: b"first answer")
    await put(app, "tally", ("f", foreign(app, Added(name="f"))), ("x", b"no event"))
    await app.execute(Remind(name="r", after_s=60))
    await lab.settled()
    await lab.stop(app)
    app = await lab.start(_services(lab), hosted=["teller"])
    await add(app, "a", times=2)
    await lab.settled()
    lab.faults.fail_next("log", times=1000)
    await app.execute(Add(name="b", n=7))
    await lab.kill(app)
    lab.faults.forget()


def _silent(progress: MoveProgress) -> None:
    """Say nothing."""


async def _move(source: Lab, target: EngineKit) -> Moved:
    return await move(source.new(_services(source)), target.new_engine(), report=_silent, leave_own_tables=True)


async def _goes_on(lab: Lab) -> None:
    """See that what was under way goes on, each thing once."""
    lab.behaviour.count = _misbehave
    app = await lab.start(_services(lab))
    await lab.settled()
    found = await totals(app)
    assert (found["a"], found["b"], found["f"], found["i"]) == ((1, 2, 3, 1, 2), (1, 2, 3, 7), (1,), (1,))
    assert "w" not in found
    await put(app, "ready", ("w", foreign(app, Ready(name="w"), id="ready")))
    await lab.settled()
    assert (await totals(app))["w"] == (1, 2, 3)
    answered = await app.execute(Add(name="i"), idempotency=KEY, answer=lambda _: b"second answer")
    assert answered.answer == b"first answer"
    assert sum(map(len, await records_of(app, "reminders"))) == 0
    await lab.advance(app, 61)
    await lab.settled()
    assert sum(map(len, await records_of(app, "reminders"))) == 1
    await add(app, "c")
    await lab.settled()
    assert {row.key for row in await held(app, "counter", state="dead")} == {"bad", ""}
    await balanced(app)


async def everything_goes_on_elsewhere(kit: EngineKit) -> None:
    """From the engine at hand to files: everything that was under way goes on there, and the source is as it was."""
    async with _elsewhere() as target, Lab(kit) as source:
        await _fill(source)
        before = await _stored(source)
        moved = await _move(source, target)
        assert moved.records == {name: sum(end - first for first, end in ranges) for name, ranges in before.items()}
        assert moved.rows["counter"]["held"] > 3
        assert await _stored(source) == before
        async with Lab(target) as lab:
            await _goes_on(lab)


async def _stored(lab: Lab) -> dict[str, tuple[tuple[int, int], ...]]:
    app = await lab.open(_services(lab))
    found = {info.name: info.ranges for info in await app.parts.log.topics()}
    await lab.stop(app)
    return found


async def files_go_on_here(kit: EngineKit) -> None:
    """From files to the engine at hand, which fails at its durable steps, one later each time: the same command goes on, up to the end."""
    async with _elsewhere() as place, Lab(place) as source:
        await _fill(source)
        failures = 0
        for database in ("log", "teller", "counter", "clerk"):
            kit.faults.fail_next(database, after=2)
            with pytest.raises(StoreUnavailable, match="injected"):
                await _move(source, kit)
            await _is_refused(kit, source)
        for after in range(STEPS):
            kit.faults.fail_next("counter", after=after)
            try:
                await _move(source, kit)
            except MillraceError:
                failures += 1
                kit.faults.forget()
            else:
                break
        kit.faults.forget()
        assert failures
        assert (await _move(source, kit)).already
        async with Lab(kit) as lab:
            await _goes_on(lab)
        async with _elsewhere() as other, Lab(other) as stranger:
            app = await stranger.start(_services(stranger))
            await stranger.stop(app)
            with pytest.raises(StoreUnavailable, match="another installation"):
                await _move(stranger, kit)


async def _is_refused(kit: EngineKit, source: Lab) -> None:
    """What is not all there cannot be started, not even in part."""
    async with Lab(kit) as lab:
        for name in ("teller", "counter", "clerk"):
            app = lab.new(_services(source), hosted=[name])
            with pytest.raises(StoreUnavailable, match="unfinished"):
                await app.start()


async def places_in_use_are_refused(kit: EngineKit) -> None:
    """A source that runs, and a target where something is, are left alone."""
    async with _elsewhere() as place, Lab(place) as lab, Lab(kit) as here:
        app: Application = await lab.start(_services(lab))
        with pytest.raises(StoreUnavailable, match="stop them first"):
            await _move(lab, kit)
        await add(app, "a")
        await lab.settled()
        await lab.stop(app)
        app = await here.start(_services(here))
        await add(app, "z")
        await here.settled()
        await here.stop(app)
        with pytest.raises(StoreUnavailable, match="already"):
            await _move(lab, kit)
        app = await here.start(_services(here))
        assert await totals(app) == {"z": (1,)}


PROMISES = (everything_goes_on_elsewhere, files_go_on_here, places_in_use_are_refused)
