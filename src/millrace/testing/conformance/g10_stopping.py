"""Guarantee 10: stopping is graceful, dying is safe, and whoever comes next makes progress at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from millrace.application import Application
from millrace.leasing import GroupSpec
from millrace.ports import JournalRow
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, balanced, held, published, totals
from millrace.testing.conformance.sample import Add, Slow, Tally, caller, teller
from millrace.testing.wrapping import Wrapped, WrappedEngine


async def stop_finishes_the_batch_in_hand(kit: EngineKit) -> None:
    """An activity that was called is committed before the process ends; what was not begun is left for the next."""
    async with Lab(kit) as lab:
        slow = lab.behaviour.call = Slow()
        app = await lab.start([teller(), caller(lab.behaviour)])
        await add(app, "a")
        await slow.called.wait()
        stopping = asyncio.ensure_future(lab.stop(app))
        await asyncio.wait([stopping], timeout=0)
        slow.go.set()
        await stopping

        app = await lab.start([teller(), caller(lab.behaviour)])
        await lab.settled()
        assert lab.behaviour.calls == [("a", 1)]
        assert len(await published(app, "calls")) == 1
        await balanced(app)


async def stop_answers_everybody(kit: EngineKit) -> None:
    """Commands that were accepted before a stop are done, and their facts published."""
    async with Lab(kit) as lab:
        app = await lab.start()
        async with lab.faults.held("teller") as reached:
            accepted = [asyncio.ensure_future(app.execute(Add(name="a", n=n))) for n in range(1, 6)]
            await reached.wait()
            stopping = asyncio.ensure_future(lab.stop(app))
            await asyncio.wait([stopping], timeout=0)
        await stopping
        assert [outcome.version for outcome in await asyncio.gather(*accepted)] == [1, 2, 3, 4, 5]

        app = await lab.open()
        assert len(await published(app, "tally")) == 5


async def accepted_commands_survive_a_kill(kit: EngineKit) -> None:
    """What `execute` returned is there after kill -9, is published and handled once."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, *"abc", times=4)
        await lab.kill(app)

        app = await lab.start()
        await lab.settled()
        assert await totals(app) == dict.fromkeys("abc", (1, 2, 3, 4))
        stream = await app.load(Tally, "a")
        assert stream is not None
        assert stream.version == 4
        await balanced(app)


async def leases_of_the_dead_are_free_at_once(kit: EngineKit) -> None:
    """The next process owns every partition at its first look, after a stop as after a kill; that look may wait for a session."""
    async with Lab(kit) as lab:
        for end in (lab.stop, lab.kill):
            app = await lab.start()
            await lab.settled()
            assert _partitions(app) == [0, 1, 2]
            await end(app)
            leases = kit.new_engine().leases("probe")
            async with asyncio.timeout(kit.session_s + 2.0):
                await leases.join({"counter.handlers": GroupSpec(3, ("tally",), "counter")})
                owned = await leases.refresh()
            assert owned["counter.handlers"] == {0, 1, 2}
            await leases.leave()


def _partitions(app: Application) -> list[int]:
    return app.hosts["counter"].loops["handlers"].state().partitions


async def _hand_over(lab: Lab, end: Callable[[Application], Awaitable[None]]) -> None:
    one, two = await lab.start(), await lab.start()
    await lab.eventually(one, lambda: sorted(_partitions(one) + _partitions(two)) == [0, 1, 2] and _partitions(two) != [])
    assert len(_partitions(one)) in {1, 2}
    await add(one, *"abcdef")
    await end(one)
    await lab.eventually(two, lambda: _partitions(two) == [0, 1, 2])
    await add(two, *"abcdef")
    await lab.settled()
    await balanced(two)
    await lab.stop(two)


async def partitions_are_shared_and_taken_over(kit: EngineKit) -> None:
    """Two processes share the partitions; when one leaves or dies, the other has all of them and goes on."""
    async with Lab(kit) as lab:
        await _hand_over(lab, lab.stop)
        await _hand_over(lab, lab.kill)
        app = await lab.open()
        assert {name: len(seen) for name, seen in (await totals(app)).items()} == dict.fromkeys("abcdef", 4)
        assert await held(app, "counter") == []


async def stopping_twice_does_no_harm(kit: EngineKit) -> None:
    """A second stop, and a stop of what was never started, end well."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, "a")
        await lab.stop(app)
        await app.stop()
        await lab.new().stop()


class Chatter(Wrapped):
    """A log beside which another process of the same service says something more after each append, for a long time."""

    say_more: Callable[[], Awaitable[Any]] | None = None
    left = 200

    async def append(self, source: str, epoch: int, rows: Sequence[JournalRow], *, after: int) -> int:
        """Append, and let the other one speak."""
        position = await self.inner.append(source, epoch, rows, after=after)
        if self.say_more is not None and self.left:
            self.left -= 1
            await self.say_more()
        return position


async def others_do_not_keep_a_stop_from_ending(kit: EngineKit) -> None:
    """Who stops publishes what was there when it began to; what others go on writing is theirs to publish."""
    logs: list[Chatter] = []

    def chatty(log: Any) -> Chatter:
        logs.append(Chatter(log))
        return logs[-1]

    async with Lab(kit) as lab:
        engine: Any = WrappedEngine(kit.new_engine(), log=chatty)
        one, other = await lab.start([teller()], engine=engine), await lab.open([teller()])
        await lab.settled(one)
        other.hosts["teller"].writer.start()
        logs[0].say_more = lambda: other.execute(Add(name="b"))
        await one.execute(Add(name="a"))
        await other.execute(Add(name="b"))
        await lab.stop(one)
        assert logs[0].left, "the stop went on as long as the other process wrote"

        app = await lab.start([teller()])
        await lab.settled(app)
        assert len(await published(app, "tally")) == 2 + 200 - logs[0].left


PROMISES = (
    stop_finishes_the_batch_in_hand,
    stop_answers_everybody,
    accepted_commands_survive_a_kill,
    leases_of_the_dead_are_free_at_once,
    partitions_are_shared_and_taken_over,
    stopping_twice_does_no_harm,
    others_do_not_keep_a_stop_from_ending,
)
