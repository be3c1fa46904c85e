"""What operators do to consumers: pause, resume, stop, start, restart them, change their workers, close breakers, move where they read.

    wish      one transaction of the service's store says what is wanted, or moves the positions: from here on it holds
    call      every running instance is told by the control topic, and answers when it is so
    report    who answered, who did not in time; those see it by themselves as soon as they look at the store

Without a running instance the wish is all there is: it holds from the next start on.

A consumer is named as `consumers list` shows its group, `inventory.handlers`; a view by `orders.order-status`, which means the build that
serves. What is wanted of a build is gone with it: a new build of a paused view runs.

Neighbours: users' servers and `consumer_commands` call it; `consumer_state`, `reset` and `control` do the three steps.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec

from millrace.administration import ConsumerRow, declared_processors, list_consumers
from millrace.alarm import breaker_alarm, clear_alarm, consumer_alarm
from millrace.application import Application
from millrace.breaker import KIND as BREAKERS
from millrace.breaker import CircuitRow, save_circuit
from millrace.consumer_state import KIND, PAUSED, RUNNING, STOPPED, Wish, save_wish
from millrace.control import Call, InstanceAnswers, call
from millrace.errors import ConfigurationError, ConsumerRefused, UnknownMessage
from millrace.hosting import Host
from millrace.inspection import Inspection
from millrace.ports import Store
from millrace.processor import Mode
from millrace.rebuild import SERVING, processor_of
from millrace.reset import EARLIEST, LATEST, Move, Shift, find_targets, parse_moment, preview
from millrace.service import Service
from millrace.unit_of_work import UnitOfWork
from millrace.writer import Waiting

WORKERS_MAX = 10_000
ANSWER_S = 15.0
"""How long answers are waited for unless somebody says otherwise: longer than a dead instance can be taken for a living one."""


class ConsumerChange(msgspec.Struct, frozen=True):
    """What was wanted of a consumer, and which instances made it so."""

    consumer: str
    state: str
    instances: InstanceAnswers


class ConsumerWorkers(msgspec.Struct, frozen=True):
    """How many activities each instance calls at once, and which instances do so; 0: as many as are declared."""

    consumer: str
    before: int
    workers: int
    instances: InstanceAnswers


class BreakerClosed(msgspec.Struct, frozen=True):
    """The breaker of a consumer that an operator closed, and which instances go on; `reason`: why it had opened, None if it had not."""

    consumer: str
    breaker: str
    reason: str | None
    instances: InstanceAnswers


class ConsumerMove(msgspec.Struct, frozen=True):
    """How the positions of a consumer moved, or would have, and which instances go on from there."""

    consumer: str
    dry_run: bool
    partitions: tuple[Shift, ...]
    instances: InstanceAnswers = InstanceAnswers()


class _Workers(Waiting):
    """Stores how many workers are wanted."""

    def __init__(self, processor: str, count: int) -> None:
        super().__init__()
        self._processor = processor
        self._count = count
        self.before = 0

    async def run(self, unit: UnitOfWork) -> None:
        """Store it."""
        wish = await _wish(unit, self._processor)
        self.before = wish.workers
        await save_wish(unit.transaction, self._processor, msgspec.structs.replace(wish, workers=self._count))


async def _wish(unit: UnitOfWork, processor: str) -> Wish:
    rows = await unit.transaction.states.load(KIND, [processor])
    return msgspec.json.decode(rows[processor], type=Wish) if processor in rows else Wish()


class _Close(Waiting):
    """Forgets that a breaker is open."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self.before: CircuitRow | None = None

    async def run(self, unit: UnitOfWork) -> None:
        """Forget it."""
        found = (await unit.transaction.states.load(BREAKERS, [self._name])).get(self._name)
        self.before = None if found is None else msgspec.json.decode(found, type=CircuitRow)
        await save_circuit(unit.transaction, self._name, None)
        await clear_alarm(unit, breaker_alarm(self._name))


class _Change(Waiting):
    """Stores what is wanted, if the state before allows it."""

    def __init__(self, processor: str, state: str, *, of: frozenset[str]) -> None:
        super().__init__()
        self._processor = processor
        self._state = state
        self._of = of
        self.before = RUNNING

    async def run(self, unit: UnitOfWork) -> None:
        """Compare and store."""
        wish = await _wish(unit, self._processor)
        self.before = wish.state
        if self.allowed:
            after = wish if self._state == wish.state else msgspec.structs.replace(wish, state=self._state, reason="", since=0)
            await save_wish(unit.transaction, self._processor, after)
            if wish.reason and not after.reason:
                await clear_alarm(unit, consumer_alarm(self._processor))

    @property
    def allowed(self) -> bool:
        """Return whether the state before allows it."""
        return self.before in {*self._of, self._state}


class Consumers:
    """The consumers of the services that run in this process, as operators look after them.

    Each change is durable before any instance is called. Names are those of `list`.

    Args:
        app: running, or opened by `operating`.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def list(self) -> Sequence[ConsumerRow]:
        """Return every partition of every consumer of the application, wherever it runs, as stored at one moment.

        Raises:
            StoreUnavailable: something is not there or cannot be read.
        """
        async with Inspection(self._app) as inspection:
            return await list_consumers(inspection)

    async def pause(self, name: str, *, timeout: float = ANSWER_S) -> ConsumerChange:  # seconds to wait for answers
        """Take nothing new: no record, no retry, no timer; partitions are kept. Holds over restarts until `resume`.

        Raises:
            UnknownMessage: there is no such consumer here.
            ConsumerRefused: it is stopped.
            StoreUnavailable: the store cannot be written; nothing has changed.
        """
        return await self._want(name, PAUSED, of=frozenset({RUNNING}), timeout=timeout)

    async def resume(self, name: str, *, timeout: float = ANSWER_S) -> ConsumerChange:  # as above
        """Go on after `pause`; raises as `pause` does."""
        return await self._want(name, RUNNING, of=frozenset({PAUSED}), timeout=timeout)

    async def stop(self, name: str, *, timeout: float = ANSWER_S) -> ConsumerChange:  # as above
        """Take nothing new and give the partitions up. Holds over restarts until `start`; raises as `pause` does."""
        return await self._want(name, STOPPED, of=frozenset({RUNNING, PAUSED}), timeout=timeout)

    async def start(self, name: str, *, timeout: float = ANSWER_S) -> ConsumerChange:  # as above
        """Go on after `stop`; raises as `pause` does, for one that is paused."""
        return await self._want(name, RUNNING, of=frozenset({STOPPED}), timeout=timeout)

    async def restart(self, name: str, *, timeout: float = ANSWER_S) -> ConsumerChange:  # as above
        """Stop and start: partitions are given up and claimed anew, one that halted begins again.

        If an instance does not stop in time the consumer is started all the same. Raises as `pause` does.
        """
        stopped = await self.stop(name, timeout=timeout)
        if not stopped.instances.complete:
            await self._want(name, RUNNING, of=frozenset({STOPPED}), timeout=0.0)
            return msgspec.structs.replace(stopped, state=RUNNING)
        return await self._want(name, RUNNING, of=frozenset({STOPPED}), renew=True, timeout=timeout)

    async def workers(self, name: str, count: int, *, timeout: float = ANSWER_S) -> ConsumerWorkers:  # as above
        """Call so many activities at once in each instance, from now on and over restarts; 0: as many as are declared.

        Calls that run end as they are.

        Raises:
            UnknownMessage: there is no such consumer here.
            ConfigurationError: it calls no activities, or the count is not from 0 to 10,000.
            StoreUnavailable: the store cannot be written; nothing has changed.
        """
        if not 0 <= count <= WORKERS_MAX:
            raise ConfigurationError(f"{count} workers; choose from 0 (as declared) to {WORKERS_MAX:,}")
        host, processor, _ = await self._find(name)
        group = self._app.group_of(host.service.name, processor)
        modes = {each.name: each.mode for each in host.service.processors(self._app.catalogue)}
        if modes.get(processor) is not Mode.OUTSIDE:
            raise ConfigurationError(f"{group} calls no activities, so it has no workers: its functions run inside the transaction")
        change = _Workers(processor, count)
        host.writer.submit(change)
        await change.finished
        return ConsumerWorkers(group, change.before, count, await self._call(host, processor, renew=False, timeout=timeout))

    async def close_breaker(self, name: str, *, timeout: float = ANSWER_S) -> BreakerClosed:  # as above
        """Close the breaker of a consumer, and so of all that share it in the service: everything waiting is tried at once.

        If the dependency is still down it opens again.

        Raises:
            UnknownMessage: there is no such consumer here.
            ConfigurationError: it has no breaker.
            StoreUnavailable: the store cannot be written; nothing has changed.
        """
        host, processor, _ = await self._find(name)
        group = self._app.group_of(host.service.name, processor)
        breakers = {each.name: each.breaker for each in host.service.processors(self._app.catalogue)}
        if (breaker := breakers.get(processor)) is None:
            raise ConfigurationError(f"{group} has no breaker: none of its handlers is declared with breaker=")
        change = _Close(breaker.name)
        host.writer.submit(change)
        await change.finished
        reason = change.before.reason if change.before is not None else None
        return BreakerClosed(group, breaker.name, reason, await self._call(host, processor, renew=False, timeout=timeout))

    async def reset(self, name: str, *, to: str, dry_run: bool = False, timeout: float = ANSWER_S) -> ConsumerMove:  # as above
        """Go on at the first record there is (`earliest`), or behind the last (`latest`), whatever the consumer's state is.

        What is passed over counts as skipped, what is read again is delivered to functions declared replayable, and to any where it was
        never delivered; else it is a duplicate. One transaction with a new fencing token: a turn in hand is refused.

        Raises:
            UnknownMessage: there is no such consumer here.
            ConfigurationError: `to` is something else.
            StoreUnavailable: log or store cannot be used; nothing has moved.
        """
        if to not in {EARLIEST, LATEST}:
            raise ConfigurationError(f"{to!r} is no place to go on; choose from {EARLIEST}, {LATEST}")
        return await self._move(name, to, dry_run=dry_run, timeout=timeout)

    async def rewind(self, name: str, *, to: str, dry_run: bool = False, timeout: float = ANSWER_S) -> ConsumerMove:  # as above
        """Go back to the first record that was appended at a moment (RFC 3339) or later; nothing is passed over. Raises as `reset` does."""
        return await self._move(name, parse_moment(to, now=datetime.now(UTC)), dry_run=dry_run, timeout=timeout)

    async def _want(self, name: str, state: str, *, of: frozenset[str], timeout: float, renew: bool = False) -> ConsumerChange:
        host, processor, _ = await self._find(name)
        change = _Change(processor, state, of=of)
        host.writer.submit(change)
        await change.finished
        if not change.allowed:
            verb = {PAUSED: "resume", STOPPED: "start", RUNNING: "pause or stop"}[change.before]
            raise ConsumerRefused(f"{self._app.group_of(host.service.name, processor)} is {change.before}; {verb} it first")
        heard = await self._call(host, processor, renew=renew, timeout=timeout)
        return ConsumerChange(self._app.group_of(host.service.name, processor), state, heard)

    async def _move(self, name: str, to: str | datetime, *, dry_run: bool, timeout: float) -> ConsumerMove:
        host, processor, topics = await self._find(name)
        group = self._app.group_of(host.service.name, processor)
        targets = await find_targets(self._app.parts, topics, to)
        if dry_run:
            return ConsumerMove(group, True, tuple(await preview(host.store.reader, processor, targets)))
        move = Move(processor, targets)
        host.writer.submit(move)
        await move.finished
        heard = await self._call(host, processor, renew=True, timeout=timeout)
        return ConsumerMove(group, False, tuple(move.shifts), heard)

    async def _call(self, host: Host, processor: str, *, renew: bool, timeout: float) -> InstanceAnswers:
        order = Call(uuid.uuid4().hex, host.service.name, processor, renew)
        return await call(self._app.parts, self._app.instances, order, timeout=timeout)

    async def _find(self, name: str) -> tuple[Host, str, Sequence[str]]:
        found = [(host.service, host.store) for host in self._app.hosts.values()]
        service, processor, topics = await find_consumer(self._app, name, found)
        return self._app.hosts[service.name], processor, topics


async def find_consumer(app: Application, name: str, stores: Sequence[tuple[Service, Store]]) -> tuple[Service, str, Sequence[str]]:
    """Return service, processor and topics of a consumer.

    Raises:
        UnknownMessage: there is none; the error lists what there is.
    """
    names: list[str] = []
    for service, store in stores:
        declared = await declared_processors(app, service, store)
        views = {build.name: processor_of(build) for build in await store.reader.views.list() if build.state == SERVING}
        for processor, topics in declared.items():
            group = app.group_of(service.name, processor)
            if name == group or (views.get(processor.partition("@")[0]) == processor and name == group.partition("@")[0]):
                return service, processor, topics
            names.append(group)
    raise UnknownMessage(f"there is no consumer {name!r}; there are {', '.join(sorted(names)) or 'none'}")


@asynccontextmanager
async def operating(app: Application, name: str) -> AsyncGenerator[Consumers]:
    """Open what an operator needs to change a consumer, beside running processes or without any; nothing runs here.

    Args:
        app: the application, not started.
        name: of the consumer.

    Raises:
        UnknownMessage: there is no such consumer.
        StoreUnavailable: log or store is not there.
    """
    async with Inspection(app) as inspection:
        service, *_ = await find_consumer(app, name, list(inspection.services()))
    await app.operate(service)
    try:
        yield Consumers(app)
    finally:
        await app.stop()


__all__ = ["BreakerClosed", "ConsumerChange", "ConsumerMove", "ConsumerWorkers", "Consumers", "find_consumer", "operating"]
