"""Where checks work: applications on a kit's engine that are started, stopped, killed and looked at.

A killed application is one whose tasks end where they are and whose engine is severed: what was committed is there, nothing else is, and
no goodbye is written. Tasks are found by the context in which the application was started.

Neighbours: the checks; `kit` brings the engine, `sample` the services.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import msgspec

from millrace.application import Application
from millrace.clock import ManualClock
from millrace.held import HeldRow
from millrace.ledger import LedgerLine, check_ledger
from millrace.message import Message, key_of
from millrace.ports import LogParts, Record
from millrace.retry import RetryPolicy
from millrace.serialization import Envelope, encode_json, open_envelope, seal
from millrace.service import Service
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.sample import APPLICATION, Behaviour, Total, counter, teller
from millrace.testing.settling import Condition, advance, eventually, settled

AT_ONCE = RetryPolicy(attempts=3, first_s=0.0)
"""Three tries without a pause, so that nothing waits for a clock."""

_life: contextvars.ContextVar[int] = contextvars.ContextVar("life", default=0)


class Lab:
    """Applications on one durable place.

    Args:
        kit: the engine.
    """

    def __init__(self, kit: EngineKit) -> None:
        self.kit = kit
        self.faults = kit.faults
        self.clock = ManualClock()
        self.behaviour = Behaviour(placeholder=kit.placeholder)
        self._lives: dict[int, weakref.WeakSet[asyncio.Task[Any]]] = {}
        self._running: dict[Application, int] = {}

    async def __aenter__(self) -> Self:
        """Follow which application a task belongs to."""
        loop = asyncio.get_running_loop()
        self._factory_before = loop.get_task_factory()
        loop.set_task_factory(self._make_task)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop what still runs; after a failure, kill it."""
        for app in list(self._running):
            await (self.stop(app) if error is None else self.kill(app))
        asyncio.get_running_loop().set_task_factory(self._factory_before)

    def _make_task(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
        if _life.get() in self._lives:
            self._lives[_life.get()].add(task)
        return task

    def new(self, services: Sequence[Service] = (), **options: Any) -> Application:
        """Return one more process of the application, not started; default: teller and counter, both hosted."""
        options.setdefault("clock", self.clock)
        options.setdefault("policy", AT_ONCE)
        options.setdefault("engine", self.kit.new_engine())
        return Application(APPLICATION, services or [teller(), counter(self.behaviour)], **options)

    async def start(self, services: Sequence[Service] = (), **options: Any) -> Application:
        """Start one more process of the application."""
        app = self.new(services, **options)
        await self.run(app, app.start)
        return app

    async def open(self, services: Sequence[Service] = (), **options: Any) -> Application:
        """Open log and stores without running anything; stop it like the others."""
        app = self.new(services, **options)
        await self.run(app, app.open)
        return app

    async def run(self, app: Application, begin: Callable[[], Awaitable[None]]) -> None:
        """Begin an application in a life of its own."""
        life = len(self._lives) + 1
        self._lives[life] = weakref.WeakSet()
        token = _life.set(life)
        try:
            await begin()
        finally:
            _life.reset(token)
        self._running[app] = life

    async def stop(self, app: Application) -> None:
        """Stop gracefully, within the kit's patience."""
        self._running.pop(app, None)
        async with asyncio.timeout(self.kit.patience * 2):
            await app.stop()

    async def kill(self, app: Application) -> None:
        """End without a goodbye."""
        life = self._running.pop(app)
        await self.kit.kill(app.engine)
        while tasks := [task for task in self._lives[life] if not task.done()]:
            for task in tasks:  # one that was undoing a transaction may have met a severed engine instead, and goes on
                task.cancel()
            await asyncio.wait(tasks, timeout=0.1)
        del app, tasks
        _bury()

    async def settled(self, *apps: Application) -> None:
        """Wait until applications have nothing to do; default: all."""
        for app in apps or list(self._running):
            await settled(app, timeout=self.kit.patience)

    async def eventually(self, app: Application, condition: Condition) -> None:
        """Wait until something holds."""
        await eventually(app, condition, timeout=self.kit.patience)

    async def advance(self, app: Application, seconds: float) -> None:
        """Move the clock and wait until that is dealt with."""
        await advance(app, self.clock, timedelta(seconds=seconds), timeout=self.kit.patience)


def _bury() -> None:
    """Collect what a killed application leaves behind now, so that its unheard errors are not reported in the midst of another test."""
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, _context: None)
    gc.collect()
    loop.set_exception_handler(before)


async def totals(app: Application) -> dict[str, tuple[int, ...]]:
    """Return what the counter has seen, per name in order."""
    return {row.name: row.seen for row in (await app.states(Total).list(limit=1000)).items}


async def records_of(app: Application, topic: str) -> list[list[Record]]:
    """Return all records of a topic, per partition."""
    info = next(info for info in await app.parts.log.topics() if info.name == topic)
    return [await _read_all(app, topic, partition, of=of) for partition, of in enumerate(info.ranges)]


async def _read_all(app: Application, topic: str, partition: int, *, of: tuple[int, int]) -> list[Record]:
    (first, end), records = of, list[Record]()
    while len(records) < end - first:
        records += await app.parts.log.read(topic, partition, offset=first + len(records), limit=end - first - len(records))
    return records


async def published(app: Application, topic: str) -> list[Envelope]:
    """Return the envelopes of a topic, partition after partition."""
    return [open_envelope(record.value) for records in await records_of(app, topic) for record in records]


async def held(app: Application, service: str, *, state: str | None = None) -> list[HeldRow]:
    """Return what a service holds, oldest first."""
    return await app.hosts[service].store.reader.held.list(state=state, limit=10_000)


async def journal_rows(app: Application, service: str) -> int:
    """Return how many rows a journal really has."""
    return (await app.hosts[service].store.reader.journal.counts(0))[1]


def foreign(app: Application, message: Message, *, source: str = "/elsewhere", id: str = "1", **attributes: str) -> bytes:
    """Return a message as a foreign producer would write it."""
    key = key_of(message)
    envelope = Envelope(
        id=id,
        source=source,
        type=app.catalogue.type_of(type(message)),
        subject=key,
        time="2026-01-01T00:00:00Z",
        partitionkey=key,
        data=msgspec.Raw(encode_json(message)),
    )
    return seal(msgspec.structs.replace(envelope, **attributes))


async def put(app: Application, topic: str, *values: tuple[str | None, bytes]) -> None:
    """Append records by hand, as a foreign producer does."""
    await app.parts.administration.put(topic, values)


async def ledger(app: Application) -> list[LedgerLine]:
    """Return every equation of the hosted services."""
    parts: LogParts = app.parts
    return await check_ledger([(host.source, host.store) for host in app.hosts.values()], parts)


async def balanced(app: Application) -> None:
    """Expect that nothing is missing and nothing too much.

    Raises:
        AssertionError: names each difference.
    """
    wrong = [line.difference for line in await ledger(app) if not line.balanced]
    assert not wrong, "the ledger differs:\n" + "\n".join(wrong)


__all__ = [
    "AT_ONCE",
    "Lab",
    "balanced",
    "foreign",
    "held",
    "journal_rows",
    "ledger",
    "published",
    "put",
    "records_of",
    "totals",
]
