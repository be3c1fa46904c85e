"""Guarantee 9: back-pressure, not buffering. Queues are bounded, batches too, and who is slow holds up nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from millrace.application import Application
from millrace.errors import Overloaded
from millrace.ports import Record
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, foreign, put, totals
from millrace.testing.conformance.sample import Add, Added, Remind, Slow, caller, counter, teller
from millrace.testing.wrapping import Wrapped, WrappedEngine
from millrace.writer import PORTION, QUEUE_MAX


class WatchedLog(Wrapped):
    """Tells a function how many records each read brought into memory."""

    def __init__(self, inner: Any, watch: Callable[[int], None]) -> None:
        super().__init__(inner)
        self._watch = watch

    async def read(self, topic: str, partition: int, *, offset: int, limit: int) -> list[Record]:
        """Read and tell."""
        records = await self.inner.read(topic, partition, offset=offset, limit=limit)
        self._watch(len(records))
        return records


async def full_queue_is_refused(kit: EngineKit) -> None:
    """Beyond its bound the queue in front of a writer answers `Overloaded` at once; what was accepted is done."""
    async with Lab(kit) as lab:
        app = await lab.start([teller()])
        await add(app, "a")
        await lab.settled()  # partitions are claimed through the same queue
        async with lab.faults.held("teller"):
            waiting = [asyncio.ensure_future(app.execute(Add(name=f"n{i % 50}"))) for i in range(QUEUE_MAX + 20)]
            await lab.eventually(app, lambda: sum(task.done() for task in waiting) >= 20)
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, BaseException)]
        assert len(refused) == 20
        assert all(isinstance(error, Overloaded) and error.retry_after > 0 for error in refused)
        await lab.settled()
        assert await app.hosts["teller"].store.reader.journal.head() == QUEUE_MAX + 1


async def batches_are_bounded(kit: EngineKit) -> None:
    """However long the backlog, a turn brings at most `batch_max` records into memory."""
    async with Lab(kit) as lab:
        reads: list[int] = []
        engine: Any = WrappedEngine(kit.new_engine(), log=lambda log: WatchedLog(log, reads.append))
        app = await lab.start([teller()])
        await put(app, "tally", *((f"n{i % 7}", foreign(app, Added(name=f"n{i % 7}", n=i), id=str(i))) for i in range(400)))
        await lab.stop(app)

        app = await lab.start([counter(lab.behaviour)], engine=engine, batch_max=25)
        await lab.settled()
        assert sum(len(seen) for seen in (await totals(app)).values()) == 400
        assert max(reads) <= 25


async def turns_are_short_while_commands_come(kit: EngineKit) -> None:
    """While commands come in, a processor of the same service takes its backlog in small turns, so that no caller waits for a long one."""

    def listen(command: Remind) -> None:
        """Answer at once."""

    async with Lab(kit) as lab:
        reads: list[int] = []
        engine: Any = WrappedEngine(kit.new_engine(), log=lambda log: WatchedLog(log, reads.append))
        service = counter(lab.behaviour)
        service.handler(listen)
        app = await lab.start([teller(), service], engine=engine)
        await lab.settled()
        await app.execute(Remind(name="a"))
        reads.clear()
        await put(app, "tally", *((f"n{i % 7}", foreign(app, Added(name=f"n{i % 7}", n=i), id=str(i))) for i in range(400)))
        while not await _all_counted(app, 400):
            await app.execute(Remind(name="a"))
        assert max(reads) <= PORTION


async def slow_activity_does_not_buffer(kit: EngineKit) -> None:
    """While activities are slow, no more are called than there are workers, and what arrives waits; others make progress."""
    async with Lab(kit) as lab:
        slow = lab.behaviour.call = Slow()
        app = await lab.start([teller(), counter(lab.behaviour), caller(lab.behaviour, workers=3)], batch_max=10)
        await add(app, "a")
        await slow.called.wait()
        await add(app, *(f"n{i}" for i in range(20)), times=5)
        await lab.eventually(app, lambda: _all_counted(app, 101))
        assert len(lab.behaviour.calls) == 3
        assert _lag(app, "caller", "call") == 101
        slow.go.set()
        await lab.settled()
        assert len(lab.behaviour.calls) == 101


async def _all_counted(app: Application, wanted: int) -> bool:
    return sum(len(seen) for seen in (await totals(app)).values()) == wanted


def _lag(app: Application, service: str, processor: str) -> int:
    return app.hosts[service].loops[processor].lag()


async def held_keys_do_not_hold_others_up(kit: EngineKit) -> None:
    """A store whose commits fail stops its own service; the others go on, and it goes on when it is well again."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await lab.settled()
        async with lab.faults.held("counter"):
            await add(app, "a", "b", times=10)
            assert await app.hosts["teller"].store.reader.journal.head() == 20
        await lab.settled()
        assert await totals(app) == {name: tuple(range(1, 11)) for name in "ab"}


PROMISES = (
    full_queue_is_refused,
    batches_are_bounded,
    turns_are_short_while_commands_come,
    slow_activity_does_not_buffer,
    held_keys_do_not_hold_others_up,
)
