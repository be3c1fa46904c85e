"""Event-sourced aggregates: versions, replay, snapshots that may go, states as of a version."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from millrace.application import Application
from millrace.errors import MillraceError, VersionConflict
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, balanced, foreign, put
from millrace.testing.conformance.sample import Add, Tally, counter, teller

NUMBERS = (1, 2, 3, 4, 5, 6, 7)


async def state_of(app: Application, name: str, *, version: int | None = None) -> Tally:
    """Return the tally of a name, which must exist."""
    stream = await app.load(Tally, name, version=version)
    assert stream is not None
    return stream.state


async def expected_versions_are_compared(kit: EngineKit) -> None:
    """A command that expects another version than it finds is refused and changes nothing."""
    async with Lab(kit) as lab:
        app = await lab.start([teller()])
        assert (await app.execute(Add(name="a", n=1), expected_version=0)).version == 1
        assert (await app.execute(Add(name="a", n=2), expected_version=1)).version == 2
        for wrong in (0, 1, 3):
            with pytest.raises(VersionConflict) as conflict:
                await app.execute(Add(name="a", n=9), expected_version=wrong)
            assert (conflict.value.expected, conflict.value.found) == (wrong, 2)
        assert await state_of(app, "a") == Tally(3, (1, 2))


async def one_of_many_wins_a_version(kit: EngineKit) -> None:
    """Of concurrent commands that expect one version exactly one is done, in one process as over two."""
    async with Lab(kit) as lab:
        one, two = await lab.start([teller()]), await lab.start([teller()])
        tries = [app.execute(Add(name="a", n=n), expected_version=0) for n, app in enumerate([one, two] * 8)]
        answers = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(not isinstance(answer, BaseException) for answer in answers) == 1
        assert sum(isinstance(answer, VersionConflict) for answer in answers) == 15
        stream = await two.load(Tally, "a")
        assert stream is not None
        assert stream.version == 1


async def replay_gives_the_same_state(kit: EngineKit) -> None:
    """State after commands, state loaded, and the fold of the stored events are one, in every process."""
    async with Lab(kit) as lab:
        app = await lab.start([teller()])
        outcomes = [await app.execute(Add(name="a", n=n)) for n in NUMBERS]
        expected = Tally(28, NUMBERS)
        assert outcomes[-1].state == await state_of(app, "a") == expected
        assert [(r.version, r.message.n) for r in await app.events(Tally, "a")] == list(enumerate(NUMBERS, 1))  # type: ignore[attr-defined]
        await lab.kill(app)
        app = await lab.start([teller()])
        assert await state_of(app, "a") == expected
        assert await app.load(Tally, "nobody") is None


async def states_as_of_a_version(kit: EngineKit) -> None:
    """Every version can be loaded, those before a snapshot included."""
    async with Lab(kit) as lab:
        app = await lab.start([teller(snapshot_every=3)])
        await add(app, "a", times=7)
        for version in NUMBERS:
            assert (await state_of(app, "a", version=version)).seen == NUMBERS[:version]


async def snapshots_may_be_deleted(kit: EngineKit) -> None:
    """Snapshots change how fast a stream is loaded, and nothing else."""
    async with Lab(kit) as lab:
        app = await lab.start([teller(snapshot_every=2)])
        await add(app, "a", "b", times=7)
        before = await state_of(app, "a"), await state_of(app, "b")
        await lab.stop(app)
        assert await kit.damage.forget_snapshots("teller") > 0

        app = await lab.start([teller(snapshot_every=2)])
        assert (await state_of(app, "a"), await state_of(app, "b")) == before
        assert (await app.execute(Add(name="a", n=8))).state == Tally(36, (*NUMBERS, 8))


async def streams_of_one_service_do_not_mix(kit: EngineKit) -> None:
    """Concurrent commands on many streams: each has its own versions without gaps."""
    async with Lab(kit) as lab:
        names = [f"n{i}" for i in range(20)]
        app = await lab.start([teller(snapshot_every=3), counter(lab.behaviour)])
        await add(app, *names, times=5)
        await lab.settled()
        for name in names:
            assert [recorded.version for recorded in await app.events(Tally, name)] == [1, 2, 3, 4, 5]
        await balanced(app)


async def broken_stream_holds_its_key_alone(kit: EngineKit) -> None:
    """A stream that cannot be folded fails what is sent to it; commands to others go on, in the same commit and from the log."""
    async with Lab(kit) as lab:
        app = await lab.start([teller(snapshot_every=1)])
        await add(app, "a", "b")
        await lab.settled()
        await lab.stop(app)
        await kit.damage.spoil_stream("teller", "tally/a")

        app = await lab.start([teller(snapshot_every=0)])
        answers: list[Any] = await asyncio.gather(*(app.execute(Add(name=name, n=2)) for name in "ab"), return_exceptions=True)
        assert isinstance(answers[0], MillraceError)
        assert answers[1].version == 2
        await put(app, "tally.commands", *((name, foreign(app, Add(name=name, n=3), id=name)) for name in "ab"))
        await lab.settled()
        assert (await state_of(app, "b")).seen == (1, 2, 3)


PROMISES = (
    expected_versions_are_compared,
    one_of_many_wins_a_version,
    replay_gives_the_same_state,
    states_as_of_a_version,
    snapshots_may_be_deleted,
    streams_of_one_service_do_not_mix,
    broken_stream_holds_its_key_alone,
)
