"""The application: services and an engine, put together. It assembles; the parts do the work.

    async with Application("shop", [orders, inventory], engine=SqliteEngine("./data")) as app:
        outcome = await app.execute(PlaceOrder(...))
        await app.wait_for(OrderStatus, outcome.position)

Neighbours: users; `hosting` runs each service, `execution` the commands, `reading` the queries, `health` the reports.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from millrace import retry
from millrace.aggregate import Aggregate, Recorded
from millrace.clock import Clock, SystemClock
from millrace.collector import calm_the_collector
from millrace.control import CONTROL, Call, Control
from millrace.detached import DetachedLog, noted_partitions, noted_topics
from millrace.erasure import Belongings, Erasure
from millrace.errors import ConfigurationError, PositionUnknown, StoreUnavailable, UnknownMessage
from millrace.execution import CommandWork, IdempotencyKey, Order, Outcome
from millrace.health import Health, metrics
from millrace.hosting import Host, Installation
from millrace.keyed import Stream
from millrace.membership import Membership
from millrace.message import Command, declaration
from millrace.pace import Pace
from millrace.ports import Engine, LogParts, TopicSpec
from millrace.position import Position
from millrace.reached import has_reached, keepers
from millrace.reading import StateReader, ViewReader
from millrace.relay import TOGETHER_S
from millrace.retry import RetryPolicy
from millrace.role import Role
from millrace.runtime import BATCH_MAX
from millrace.serialization import Catalogue
from millrace.service import Service, choose_services, retention_of
from millrace.state import State, View, kind_of
from millrace.tail import Tail, cursor_at
from millrace.timekeeping import CLOCK, Timekeeper
from millrace.trouble import LogTrouble, Patience, Troubles, patiently

S = TypeVar("S", bound=State)
V = TypeVar("V", bound=View)
log = logging.getLogger("millrace")

PARTITIONS = 3
CLEAN_EVERY_S = 60.0
ANSWERS_KEPT_S = 7 * 86_400


class Application:
    """Services on an engine.

    Args:
        name: first part of message types and sources.
        services: what belongs to it.
        engine: where log and stores are.
        hosted: names of the services that run in this process, or a `Role` that also says whether they publish and consume here;
            default: all of everything.
        clock: business time; a `VirtualClock` is shared with all processes and moved by `move_clock`.
        policy: retries of handlers.
        batch_max: records per turn of a processor.
    """

    def __init__(  # the assembly of an application, all by keyword
        self,
        name: str,
        services: Sequence[Service],
        *,
        engine: Engine,
        hosted: Iterable[str] | Role | None = None,
        clock: Clock | None = None,
        policy: RetryPolicy | None = None,
        batch_max: int = BATCH_MAX,
    ) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise ConfigurationError(f"application name {name!r}: use lower-case letters, digits and '-'")
        self.name = name
        self.services = tuple(services)
        self.engine = engine
        self.clock = clock or SystemClock()
        self.catalogue = Catalogue(name, services=[service.name for service in services])
        self.instance = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}"
        self._role = hosted if isinstance(hosted, Role) else Role(services=None if hosted is None else tuple(hosted))
        self._hosted = choose_services(self.services, self._role.services)
        self._specs = {spec.name: spec for service in self.services for spec in service.topics}
        self._partitions: dict[str, int] = {}
        self._policy = policy or RetryPolicy()
        self._batch_max = batch_max
        self._leases = engine.leases(self.instance)
        self._troubles = Troubles()
        self._membership = Membership(self._leases, hosts=lambda: list(self.hosts.values()), troubles=self._troubles)
        self._tasks: list[asyncio.Task[Any]] = []
        self._control: Control | None = None
        self._timekeeper = Timekeeper(self.clock, moved=self._wake, instances=self.instances)
        self._opening: asyncio.Task[bool] | None = None
        self._started = False
        self.hosts: dict[str, Host] = {}
        self.parts: LogParts
        for service in self.services:
            self.catalogue.add(sorted(service.message_classes(), key=lambda cls: cls.__name__), service=service.name)

    async def open(self, *, services: Iterable[Service] | None = None) -> None:
        """Open log and stores, of the hosted services unless others are named; enough for queries, nothing runs.

        Raises:
            ConfigurationError: the installation has another kind of clock; or a process without the log lacks what it needs.
            StoreUnavailable: log or stores cannot be used.
        """
        opened = list(self._hosted if services is None else services)
        await self._open_log(opened)
        await self._timekeeper.load(self.parts)
        installation = self._installation()
        for number, service in enumerate(opened):
            await self._open_host(service, installation, shift=number / len(opened))
        if not self.on_log:
            for host in self.hosts.values():
                command = f"millrace relay --services {host.service.name}"
                self._partitions |= await noted_partitions(host.store, [spec.name for spec in self.topics()], relay=command)
                self._timekeeper.check(await noted_topics(host.store), ours=(), on_log=False)

    async def _open_log(self, services: Iterable[Service]) -> None:
        """Open the log, with the topics that these services read and write."""
        self.parts = self.engine.log() if self.on_log else DetachedLog.parts()
        await self.parts.log.open()
        concerned = {CONTROL.name, CLOCK.name}.union(*(service.reads(self.catalogue) | service.writes() for service in services))
        if self.on_log and self._timekeeper.topics:  # before there is its topic
            self._timekeeper.check([info.name for info in await self.parts.log.topics()], ours=[CONTROL.name])
        await self.parts.log.ensure([spec for spec in self.topics() if spec.name in concerned])
        self._partitions = {info.name: len(info.ranges) for info in await self.parts.log.topics()}
        if self.on_log:
            self._timekeeper.check(self._partitions, ours=())

    async def _open_host(self, service: Service, installation: Installation, *, shift: float = 0.0) -> Host:
        store = self.engine.store(service.name)
        host = self.hosts[service.name] = Host(service, store, installation, regroup=self._membership.regroup, shift=shift)
        await host.open()
        return host

    def _installation(self) -> Installation:
        return Installation(
            application=self.name,
            catalogue=self.catalogue,
            parts=self.parts,
            clock=self.clock,
            partitions=self.partitions_of,
            policy=self._policy,
            group=self.group_of,
            pace=Pace(TOGETHER_S),
            troubles=self._troubles,
            role=self._role,
            batch_max=self._batch_max,
        )

    async def start(self) -> None:
        """Open everything and run it; returns when the services' starters have run."""
        try:
            await self.open()
            await self._check()
            self._timekeeper.start()
            for host in self.hosts.values():
                await host.start()
            await self.engine.start()
            self._tasks = [asyncio.create_task(self._clean_forever(), name="clean")]
            if self._role.consuming:
                await self._join()
            await self._run_starters()
        except BaseException:
            await self.stop()
            raise
        calm_the_collector()
        self._started = True

    async def _run_starters(self) -> None:
        """Run what services do at their start; what is said there for the first time is waited for before this process is ready."""
        starters = [starter for host in self.hosts.values() for starter in host.service.starters]
        if not starters:
            return
        before = await self._heads()
        await asyncio.gather(*(starter(self) for starter in starters))
        if self._role.consuming and self._role.relaying and await self._heads() != before:
            self._opening = asyncio.create_task(self.caught_up(timeout=None), name="opening")
            self._tasks.append(self._opening)

    async def _heads(self) -> list[int]:
        return [await host.store.reader.journal.head() for host in self.hosts.values()]

    async def _join(self) -> None:
        """Answer operators, and take a share of the partitions from now on."""
        self._control = Control(self.parts, self._leases.instance, obey=self._obey)
        await self._membership.join()

    async def _check(self) -> None:
        """Compare every store with the log; all at once, so that they share what they ask the brokers."""
        found = await asyncio.gather(*(host.check() for host in self.hosts.values()), return_exceptions=True)
        for error in filter(None, found):
            raise error

    async def start_relays(self, services: Iterable[str] | None, *, patience: Patience) -> None:
        """Run the relays of services, default all, and nothing else, until `stop`: no command, no processor, no starter.

        Safe beside other processes that relay the same services. Notes in each store how many partitions the topics have, for processes
        that run without the log.

        Args:
            services: their names.
            patience: awaited with what is said where a server cannot be reached; then that is tried again.

        Raises:
            ConfigurationError: there is no such service.
            Recovery: the log has positions that a store never gave.
            StoreUnavailable: log or store refuse, for another reason than that they cannot be reached.
        """
        chosen = choose_services(self.services, services)
        self._role = Role(relaying=True, consuming=False)

        async def reopen_log(error: StoreUnavailable) -> None:
            await self.parts.log.close()
            await patience(error)

        try:
            await patiently(lambda: self._open_log(self.services), reopen_log)  # the notes are of all topics
            installation = self._installation()
            for service in chosen:
                host = await patiently(lambda service=service: self._open_host(service, installation), patience)
                await patiently(host.check, patience)
                host.start_relay()
                await patiently(lambda host=host: host.note_partitions(self._partitions), patience)
            await self.engine.start()
        except BaseException:
            await self.stop()
            raise

    async def start_builds(self, service: Service, view: str) -> Host:
        """Run the new builds of one view of a service and nothing else, until `stop`.

        For operators: beside a server both share the work, without one this process does it.
        """
        try:
            await self.open(services=[service])
            host = self.hosts[service.name]
            await host.start_builds(view)
            await self.engine.start()
            await self._join()
        except BaseException:
            await self.stop()
            raise
        return host

    async def operate(self, *services: Service) -> None:
        """Open the stores of services, or the log alone, for an operator's changes and run nothing, until `stop`."""
        try:
            await self.open(services=services)
            for host in self.hosts.values():
                host.writer.start()
            await self.engine.start()
            self._timekeeper.start()
        except BaseException:
            await self.stop()
            raise

    async def instances(self) -> frozenset[str]:
        """Return the processes of the application that run now, as far as is known."""
        return await self._leases.members()

    async def _obey(self, call: Call) -> str | None:
        if call.service == CLOCK.name:
            return await self._timekeeper.followed(call.processor)
        host = self.hosts.get(call.service)
        return await host.obey(call.processor, renew=call.renew) if host is not None else None

    async def move_clock(self, *, by: timedelta | None = None, to: datetime | None = None) -> datetime:
        """Move the clock of the whole installation forward, where it is a `VirtualClock`: by a step, or to a moment.

        What is due by then fires at once, in the order of its due times per partition. The move is kept over every restart.

        Returns:
            The time that every process has now; one that does not answer, because it has just died, is not waited for.

        Raises:
            ClockRefused: the clock is no virtual one, or would go back; nothing has happened.
            StoreUnavailable: the log cannot be used.
        """
        return await self._timekeeper.move(by=by, to=to)

    def _wake(self) -> None:
        """The clock was moved: let everybody look at it."""
        for host in self.hosts.values():
            for loop in host.loops.values():
                loop.wake()

    async def stop(self) -> None:
        """Finish what is in hand, give partitions back, close; safe to call twice."""
        self._started = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._timekeeper.stop()
        await self._membership.rest()
        if self._control is not None:
            await self._control.stop()
            self._control = None
        hosts, self.hosts = self.hosts, {}
        await asyncio.gather(*(host.stop() for host in hosts.values() if hasattr(host, "writer")))
        await self._membership.leave(hosts.values())
        for host in hosts.values():
            await host.close()
        if hasattr(self, "parts"):
            await self.parts.log.close()
        await self.engine.stop()

    async def erase(self, *, dry_run: bool = False) -> list[str]:
        """Delete what the application keeps on servers: its topics, groups and schemas. Files belong to whoever named their folder.

        It must not run, neither here nor elsewhere. With `dry_run` nothing is deleted. Returns what was found, each in words.

        Raises:
            StoreUnavailable: `locked` while a process of it runs; or a server cannot be used.
        """
        if not isinstance(self.engine, Erasure):
            return []
        groups = [self.group_of(s.name, p.name) for s in self.services for p in s.processors(self.catalogue)]
        groups += [self.group_of(s.name, view.name) for s in self.services for view in s.views]
        names = Belongings(
            services=tuple(service.name for service in self.services),
            topics=tuple(sorted({CLOCK.name, *(spec.name for spec in self.topics())})),
            groups=tuple(groups),
        )
        try:
            return await self.engine.erase(names, dry_run=dry_run)
        finally:
            await self.engine.stop()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop."""
        await self.stop()

    async def execute(
        self,
        command: Command,
        *,
        expected_version: int | None = None,
        idempotency: IdempotencyKey | Sequence[IdempotencyKey] = (),
        answer: Callable[[Outcome], bytes] | None = None,
        correlation_id: str = "",
    ) -> Outcome:
        """Execute a command of a service in this process; returns after the durable commit.

        Concurrent callers share one commit. With an idempotency key, a repeat gets the first `answer` again.

        Raises:
            Rejected: the business said no.
            VersionConflict: the stream is not at `expected_version`.
            IdempotencyConflict: the key was used with another fingerprint.
            Overloaded: too many commands wait.
            StoreUnavailable: the store cannot be written now; nothing has happened.
            UnknownMessage: no service in this process takes such a command.
        """
        host = self._host_of(type(command))
        processor, pattern = host.commands[type(command)]
        keys = (idempotency,) if isinstance(idempotency, IdempotencyKey) else tuple(idempotency)
        order = Order(command, expected_version, keys, answer, correlation_id)
        work = CommandWork(order, pattern, partitions=host.partitions_of(processor.topics()))
        host.writer.submit(work, bounded=True)
        return await work.result()

    async def wait_for(
        self, view: type[State], position: Position, *, key: str | None = None, timeout: float = 5.0
    ) -> None:  # part of the public contract
        """Wait until a view, or the handlers that keep a State class, have read up to a position.

        With `key`, also until nothing of that key is held.

        Raises:
            PositionUnknown: source, epoch, topic or partition is not of this application.
            TimeoutError: it did not get there in time.
        """
        host = self._host_with_view(view) if issubclass(view, View) else self._host_with_state(view)
        await self._check_position(position)
        async with asyncio.timeout(timeout):
            while True:
                seen = host.changed.calls
                if await has_reached(host, view, position, key=key):
                    return
                for name in await keepers(host, view):
                    if name in host.loops:
                        host.loops[name].hurry()
                await host.changed.wait(seen, 0.25)

    async def caught_up(self, *, timeout: float | None = 2.0) -> bool:  # part of the public contract
        """Wait until everything said so far by the services here is published, and read by their processors here.

        For a server before it takes requests: what its starters said has reached the other services then. Returns whether it got that
        far in time; a backlog is no reason not to serve.
        """
        try:
            async with asyncio.timeout(timeout):
                for host in self.hosts.values() if self.on_log else ():
                    head = await host.store.reader.journal.head()
                    await self._until(lambda host=host, head=head: host.relay.published >= head)
                ends = dict(self.parts.feed.ends())
                loops = [loop for host in self.hosts.values() for loop in host.loops.values()]
                await self._until(lambda: all(loop.has_read(ends) for loop in loops))
        except TimeoutError:
            return False
        return True

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            for host in self.hosts.values():
                for loop in host.loops.values():
                    loop.hurry()
            await asyncio.sleep(0.005)

    async def _check_position(self, position: Position) -> None:
        if position.source not in {f"/{self.name}/{service.name}" for service in self.services}:
            raise PositionUnknown(f"source {position.source!r} is not of application {self.name!r}")
        host = self.hosts.get(position.source.rsplit("/", 1)[-1])
        if host is not None and host.saying.epoch != position.epoch:
            raise PositionUnknown(f"epoch {position.epoch} of {position.source!r} is not the current one, {host.saying.epoch}")
        for place in position.places:
            topic, _, partition = place.rpartition("/")
            if int(partition) >= self._partitions.get(topic, 0) and (topic, int(partition)) not in self.parts.feed.ends():
                raise PositionUnknown(f"{place!r} is no partition of a topic of application {self.name!r}")

    def views(self, view: type[V]) -> ViewReader[V]:
        """Return the queries of a view of a service in this process."""
        host = self._host_with_view(view)
        name = kind_of(view).name
        return ViewReader(view, host.store.reader, build=lambda: host.serving(name))

    def states(self, state: type[S], *, service: str | None = None) -> StateReader[S]:
        """Return the queries of a State class; `service` is needed when several services keep that class."""
        host = self._host(service) if service else self._host_with_state(state)
        return StateReader(state, host.store.reader)

    async def load(self, state: type[Any], key: str, *, version: int | None = None) -> Stream | None:
        """Return an aggregate (state and version), as of `version` if given; None when it has no events."""
        host, aggregate = self._aggregate(state)
        name = aggregate.stream_of(key)
        stream = (await aggregate.fold(host.store.reader, [name], until=version))[name]
        return stream if stream.version else None

    async def events(self, state: type[Any], key: str) -> list[Recorded]:
        """Return the stored events of an aggregate, oldest first."""
        host, aggregate = self._aggregate(state)
        return await aggregate.history(host.store.reader, key)

    @property
    def on_log(self) -> bool:
        """Return whether this process uses the log."""
        return self._role.on_log

    def tail(self, topics: Iterable[str] | None = None, *, after: str | None = None) -> Tail:
        """Return the records of topics as they come, from a cursor on; without a cursor, from now on.

        Raises:
            StoreUnavailable: this process runs without the log.
        """
        if not self.on_log:
            DetachedLog.refuse()
        public = [topic for topic in self._partitions if not topic.startswith("internal.")]
        return Tail(self.parts, public if topics is None else list(topics), after=after)

    async def cursor_behind(self, view: type[View], topics: Iterable[str], *, key: str | None = None) -> str:
        """Return a cursor for `tail` from which on everything is told that a view, or its document of a key, does not show yet.

        Ask for it before the documents. A view may be a moment behind the log, so the end of the log would not do: what lies between
        would be neither in the document nor told. Nor would its position do, which is past messages that wait for what they stand on.
        What waits behind a dead letter is not gone back for: it may wait for days, and nobody is told when it is dealt with.

        Raises:
            StoreUnavailable: this process runs without the log.
        """
        if not self.on_log:
            DetachedLog.refuse()
        host = self._host_with_view(view)
        (name,) = await keepers(host, view)
        read = {(row.topic, row.partition): row.offset for row in await host.store.reader.positions.load(name)}
        for first in await host.store.reader.held.blocked(name):
            if first.state != retry.DEAD and key in {None, first.key}:
                place = (first.topic, first.partition)
                read[place] = min(read[place], first.offset)
        reads = {topic for topic, _ in read}
        ends = Tail(self.parts, list(topics), after=None).offsets
        return cursor_at({place: read.get(place, 0 if place[0] in reads else end) for place, end in ends.items()})

    def health(self) -> Health:
        """Return what is well and what is not."""
        return Health.of(self.hosts, group=self.group_of, shared=self._shared())

    def _shared(self) -> dict[str, str | None]:
        """Return what all services here depend on, with its error, where the engine can tell."""
        log_of_all = self.parts.log if hasattr(self, "parts") else None
        return {"log": log_of_all.trouble(), "leases": self._membership.error} if isinstance(log_of_all, LogTrouble) else {}

    def metrics(self) -> str:
        """Return the figures of this process as Prometheus text."""
        return metrics(self.hosts)

    def ready(self) -> bool:
        """Return whether this process holds its partitions, its timers are armed, and what its services said first was heard."""
        opened = self._opening is None or self._opening.done()
        return self._started and opened and all(loop.assigned for host in self.hosts.values() for loop in host.loops.values())

    def partitions_of(self, topic: str) -> int:
        """Return the number of partitions of a topic, existing or to be created."""
        found = self._partitions.get(topic)
        if found is None:
            found = self._specs[topic].partitions if topic in self._specs else PARTITIONS
        return found

    def group_of(self, service: str, processor: str) -> str:
        """Return the name of a consumer group."""
        return f"{service}.{processor}"

    def topics(self) -> list[TopicSpec]:
        """Return every topic that the services declare, with its settings, and those of the toolkit itself."""
        names = {topic for cls in self.catalogue.classes() if (topic := declaration(cls).topic)}
        own = {spec.name: spec for spec in (CONTROL, *self._timekeeper.topics)}
        specs = {name: TopicSpec(name, PARTITIONS, retention_of(name)) for name in names} | self._specs | own
        return [specs[name] for name in sorted(specs)]

    async def _clean_forever(self) -> None:
        """Forget old answers and expired records; what nobody waits for may go late."""
        while True:
            await asyncio.sleep(CLEAN_EVERY_S)
            try:
                await self._clean()
            except StoreUnavailable as error:
                self._troubles.met("cleaning", error)
                self._troubles.forget("cleaning")  # the next try is a while from now
            except Exception:
                log.exception("cleaning failed; trying again")

    async def _clean(self) -> None:
        now = time.time_ns() // 1000
        await self.parts.administration.expire(now_micros=now)
        for host in self.hosts.values():
            await host.clean(now=now, answers_before=now - ANSWERS_KEPT_S * 1_000_000)

    def _host(self, service: str) -> Host:
        if service not in self.hosts:
            raise UnknownMessage(f"service {service!r} does not run in this process; these do: {sorted(self.hosts)}")
        return self.hosts[service]

    def _host_of(self, cls: type[Command]) -> Host:
        for host in self.hosts.values():
            if cls in host.commands:
                return host
        raise UnknownMessage(f"no service in this process takes {cls.__name__}; these run: {sorted(self.hosts)}")

    def _host_with_view(self, view: type[View]) -> Host:
        for host in self.hosts.values():
            if any(definition.view is view for definition in host.service.views):
                return host
        raise UnknownMessage(f"no service in this process keeps view {view.__name__}")

    def _host_with_state(self, state: type[State]) -> Host:
        hosts = [host for host in self.hosts.values() if host.service.processors_of(state)]
        if len(hosts) != 1:
            raise UnknownMessage(f"{state.__name__} is kept by {len(hosts)} services in this process; name one with service=")
        return hosts[0]

    def _aggregate(self, state: type[Any]) -> tuple[Host, Aggregate]:
        for host in self.hosts.values():
            if state in host.aggregates:
                return host, host.aggregates[state]
        raise UnknownMessage(f"no service in this process keeps aggregate {state.__name__}")
