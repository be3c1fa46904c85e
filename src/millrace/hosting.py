"""A service as it runs in a process: store, writer, relay, loops, builds of its views.

Neighbours: `application` starts one `Host` per service; everything that is declared in a `Service` becomes something that runs here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

import msgspec

from millrace.aggregate import Aggregate
from millrace.alarm import CONSUMER, Clear, load_alarms
from millrace.broadcast import Broadcast
from millrace.circuits import Circuits, Gate
from millrace.clock import Clock, to_micros
from millrace.consumer_state import STOPPED, Wish, load_wishes
from millrace.detached import NotePartitions
from millrace.due_times import TimerCount
from millrace.errors import ConfigurationError, StoreUnavailable
from millrace.handler import AsyncHandler
from millrace.intake import Intake
from millrace.lag_clock import LagClock
from millrace.leasing import GroupSpec
from millrace.ledger_watch import Watch
from millrace.letter_watch import ForgetClosed, Pile, measure
from millrace.message import Message
from millrace.pace import Pace
from millrace.ports import LogParts, Store, ViewInfo
from millrace.position_check import check_positions
from millrace.processor import Mode, Pattern, Processor
from millrace.rebuild import BUILDING, SERVING, EnsureBuilds, Swap, find_definition, processor_of
from millrace.relay import Relay, RelayElsewhere
from millrace.retention import trim_journal
from millrace.retry import RetryPolicy
from millrace.role import Role
from millrace.runtime import BATCH_MAX, QUIET_S, Loop
from millrace.saga_watch import SagaWatch
from millrace.scheduling import ArmSchedules
from millrace.serialization import Catalogue
from millrace.service import Service
from millrace.tracing import Tracing
from millrace.trouble import Troubles
from millrace.unit_of_work import Saying, UnitOfWork
from millrace.view import ViewPattern
from millrace.writer import Waiting, Writer

log = logging.getLogger("millrace")


class Installation(msgspec.Struct, frozen=True):
    """What all hosts of a process share.

    Args:
        application: first part of types and sources.
        catalogue: every message class.
        parts: the log.
        clock: business time.
        partitions: number of partitions per topic.
        policy: retries.
        batch_max: records per turn.
        group: makes the name of a consumer group from (service, processor).
        pace: of the relays.
        troubles: what the process has said about its stores.
        role: what the hosts do for their services.
        tracing: who is told what they do, if anybody is.
    """

    application: str
    catalogue: Catalogue
    parts: LogParts
    clock: Clock
    partitions: Callable[[str], int]
    policy: RetryPolicy
    group: Callable[[str, str], str]
    pace: Pace
    troubles: Troubles
    role: Role
    batch_max: int = BATCH_MAX
    tracing: Tracing | None = None


class Clean(Waiting):
    """Forgets old answers."""

    def __init__(self, before: int) -> None:
        super().__init__()
        self._before = before

    async def run(self, unit: UnitOfWork) -> None:
        """Remove the rows."""
        await unit.transaction.answers.expire(before=self._before)


class Host:
    """One running service.

    Args:
        service: what was declared.
        store: its store, not yet open.
        installation: what it shares with others.
        regroup: called when the set of its consumer groups has changed.
        shift: where its followers' beat begins, from 0 to 1.
    """

    def __init__(  # what a host is made of
        self,
        service: Service,
        store: Store,
        installation: Installation,
        *,
        regroup: Callable[[], Awaitable[None]],
        shift: float = 0.0,
    ) -> None:
        self.service = service
        self.store = store
        self.changed = Broadcast()
        self.loops: dict[str, Loop] = {}
        self.builds: dict[int, ViewInfo] = {}
        self.lags = LagClock()
        self.timers = TimerCount()
        self.sagas = SagaWatch(service.sagas)
        self.aggregates: dict[type, Aggregate] = {}
        self.commands: dict[type[Message], tuple[Processor, Pattern]] = {}
        self._installation = installation
        self._regroup = regroup
        self._pace = Pace(QUIET_S, shift=shift)
        self._only: str | None = None
        self._wishes: dict[str, Wish] = {}
        self._looking = asyncio.Lock()
        self._alarms_checked = False
        self._processors: list[Processor] = []
        self.pile = Pile()
        self._unsubscribe: dict[str, Callable[[], None]] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._stale = Broadcast()
        self.saying: Saying
        self.circuits: Circuits
        self.writer: Writer
        self.relay: Relay | RelayElsewhere
        self.watch: Watch

    def alarm(self) -> str | None:
        """Return in words which bounds the dead letters pass, by when they were measured last; None where they pass none."""
        return self.pile.beyond(self.service.letter_bounds, now_micros=to_micros(self._installation.clock.now()))

    @property
    def source(self) -> str:
        """Return the source of its messages."""
        return f"/{self._installation.application}/{self.service.name}"

    async def open(self) -> None:
        """Open the store, make the parts; nothing runs yet."""
        installation = self._installation
        await self.store.open()
        self.saying = Saying(self.service.name, self.source, await self.store.epoch(), installation.catalogue, installation.partitions, {})
        self.writer = Writer(self.store, self.saying, clock=installation.clock, committed=self._committed, troubles=installation.troubles)
        if installation.role.relaying:
            self.relay = Relay(
                self.store, installation.parts, self.saying, writer=self.writer, pace=installation.pace, tracing=installation.tracing
            )
        else:
            self.relay = RelayElsewhere(self.store, installation.parts.log, self.saying, compares=installation.role.consuming)
        self.watch = Watch(self.service.name, self.writer, published=self._published, holes=lambda: self.relay.holes)
        self._processors = self.service.processors(installation.catalogue)
        self.circuits = Circuits(self.writer, wake=self._wake)
        for breaker in filter(None, [processor.breaker for processor in self._processors]):
            self.circuits.of(breaker)  # before anything runs, so that one that is open is known to be
        self._check_timers()
        for processor in self._processors:
            for cls, pattern in processor.routes.items():
                self.commands.setdefault(cls, (processor, pattern))
                if isinstance(pattern, Aggregate):
                    self.aggregates[pattern.state] = pattern

    def _published(self) -> int | None:
        """Return up to where the journal is in the log, None where another process publishes it."""
        return self.relay.published if self.relay.here else None

    def _check_timers(self) -> None:
        """See that the timers of what follows from an activity have an owner: set in its partitions, they fire in another processor."""
        partitions = {processor.name: self.partitions_of(processor.topics()) for processor in self._processors}
        for processor in self._processors:
            for pattern in processor.routes.values():
                owner = pattern.then.processor if isinstance(pattern, AsyncHandler) and pattern.then is not None else processor.name
                if partitions[owner] < partitions[processor.name]:
                    raise ConfigurationError(
                        f"{self.service.name}.{processor.name} reads {partitions[processor.name]} partitions, and the timers it sets "
                        f"fire in {owner!r}, which reads {partitions[owner]}; give their topics the same number"
                    )

    async def check(self) -> None:
        """Compare the store with the log, before anything is published that could hide a difference.

        Raises:
            Recovery: one of the two was restored or replaced.
        """
        await self.relay.check()
        if not self._installation.role.consuming:
            return
        infos = {info.name: info for info in await self._installation.parts.log.topics()}
        builds = [processor_of(build) for build in await self.store.reader.views.list()]
        known = {processor.name for processor in self._processors} | set(builds)
        for processor in await self.store.reader.positions.processors():
            if processor not in known:
                continue  # a handler or view that is no longer declared reads nothing
            rows = await self.store.reader.positions.load(processor)
            await check_positions(rows, self._installation.parts.log, before=infos, reader=f"{self.service.name}.{processor}")

    async def start(self) -> None:
        """Start writer, relay and loops, as far as they run here."""
        self.writer.start()
        ensure = EnsureBuilds(self.service.views)
        self.writer.submit(ensure)
        await ensure.finished
        if self._installation.role.consuming:
            await self._look_at_wishes()
            await self._arm_schedules()
            for processor in self._processors:
                self._add_loop(processor, processor.name)
            await self._load_builds()
        self.pile = await measure(self.store.reader)
        self._follow_changes()
        self.relay.start()
        self.relay.wake()
        self.watch.start()

    async def _arm_schedules(self) -> None:
        if self.service.schedules:
            arm = ArmSchedules(self.service.schedules.values())
            self.writer.submit(arm)
            await arm.finished

    def start_relay(self) -> None:
        """Start the relay and nothing else, in a process of its own."""
        self.writer.start()
        self._follow_changes()
        self.relay.start()
        self.relay.wake()
        self.watch.start()

    async def note_partitions(self, partitions: Mapping[str, int]) -> None:
        """Note in the store how many partitions topics have, for processes without the log."""
        note = NotePartitions(partitions)
        self.writer.submit(note)
        await note.finished

    async def start_builds(self, view: str) -> None:
        """Start the loops of new builds of one view and nothing else; for operators, beside a server or without one."""
        self._only = view
        self.writer.start()
        await self._look_at_wishes()
        await self._load_builds()
        self._follow_changes()

    async def obey(self, processor: str, *, renew: bool) -> str | None:
        """Do what operators want of a processor now; returns what that is when the turn in hand has ended, None where it does not run here.

        With `renew`, its positions were moved: partitions are claimed anew, and one that halted begins again.
        """
        await self._look_at_wishes()
        loop = self.loops.get(processor)
        if loop is None:
            return None
        if renew:
            loop.order(loop.orders.state, renew=True)
        await loop.obeyed()
        await self._regroup()
        return loop.orders.state

    async def _look_at_wishes(self) -> None:
        async with self._looking:  # what is read later is newer, so the last to be read is obeyed
            await self.circuits.look()
            self._wishes = await load_wishes(self.store.reader)
            for name, loop in self.loops.items():
                wish = self._wishes.get(name, Wish())
                loop.want_workers(wish.workers)
                loop.order(wish.state)

    def gave_up(self, processor: str) -> str:
        """Return why a processor has stopped itself; empty where it has not."""
        return self._wishes.get(processor, Wish()).reason

    def _wake(self) -> None:
        for loop in self.loops.values():
            loop.wake()

    def _follow_changes(self) -> None:
        self.store.on_change(self._stale.call)
        self._refreshing = asyncio.create_task(self._refresh_forever(), name=f"refresh {self.service.name}")

    def _add_loop(self, processor: Processor, name: str) -> None:
        if name in self.loops:
            raise ConfigurationError(
                f"service {self.service.name!r} has two processors named {name!r}; rename a handler, aggregate or view"
            )
        installation = self._installation
        loop: Loop | None = None

        def note(error: Exception) -> None:
            if loop is not None:
                loop.note(error)

        intake = Intake(
            processor,
            name=name,
            service_source=self.source,
            catalogue=installation.catalogue,
            policy=installation.policy,
            rejection=self.service.rejection,
            failed=note,
        )
        circuit = self.circuits.of(processor.breaker) if processor.breaker is not None else None
        gate = Gate(name, circuits=self.circuits, circuit=circuit, clock=installation.clock, stopped=self._look_at_wishes)
        intake.group, intake.tracing = installation.group(self.service.name, name), installation.tracing
        loop = Loop(
            intake=intake,
            gate=gate,
            writer=self.writer,
            parts=installation.parts,
            clock=installation.clock,
            batch_max=installation.batch_max,
            pace=self._pace,
        )
        wish = self._wishes.get(name, Wish())
        loop.want_workers(wish.workers)
        loop.orders.give(wish.state)
        self.loops[name] = loop
        self._unsubscribe[name] = installation.parts.feed.on_change(loop.log_changed)
        loop.start()

    def groups(self) -> dict[str, GroupSpec]:
        """Return its consumer groups but those that are stopped; a build that does not serve yet is a unit of its own.

        Operators may run such a build elsewhere.
        """
        building = {processor_of(build) for build in self.builds.values() if build.state == BUILDING}
        return {
            self._installation.group(self.service.name, name): GroupSpec(
                self.partitions_of(loop.topics), loop.topics, "" if name in building else self.service.name
            )
            for name, loop in self.loops.items()
            if loop.orders.state != STOPPED or loop.orders.open
        }

    def progress(self) -> dict[str, dict[tuple[str, int], int]]:
        """Return how far this process has read, per consumer group."""
        return {self._installation.group(self.service.name, name): loop.offsets() for name, loop in self.loops.items()}

    def partitions_of(self, topics: Iterable[str]) -> int:
        """Return the number of partitions of a processor: of its widest topic, or of the service's own where it reads none."""
        partitions = self._installation.partitions
        return max([partitions(topic) for topic in topics], default=partitions(self.service.name))

    def assign(self, owned: Mapping[str, frozenset[int]]) -> None:
        """Tell the loops which partitions this process holds."""
        for name, loop in self.loops.items():
            loop.own(owned.get(self._installation.group(self.service.name, name), frozenset()))

    def _committed(self, unit: UnitOfWork) -> None:
        self.relay.take(unit.journalled)
        for row in unit.timers_set():
            loop = self.loops.get(row.processor)
            if loop is not None:
                loop.timer_set(row.partition, row.due)
        self.changed.call()

    async def _refresh_forever(self) -> None:
        """Follow what other processes do to the store, and swap builds that have caught up."""
        troubles, who = self._installation.troubles, f"refresh {self.service.name}"
        while True:
            seen = self._stale.calls
            try:
                await self._refresh()
                troubles.over(who)
            except StoreUnavailable as error:
                troubles.met(who, error)
            except Exception:
                log.exception("%s: looking at the store failed; trying again", self.service.name)
            await self._stale.wait(seen, 1.0)

    async def _refresh(self) -> None:
        self.relay.wake()
        self.changed.call()
        if not self._installation.role.consuming:
            return
        await self._look_at_wishes()
        self.lags.note(time.monotonic(), self._installation.parts.feed.ends(), [loop.offsets() for loop in self.loops.values()])
        for loop in list(self.loops.values()):
            await loop.refresh()
        changes = (self.writer.commits, self._stale.calls)
        await self.timers.look(self.store.reader.timers, changes=changes)
        await self.sagas.look(self.store.reader.states, changes=changes)
        for build in [build for build in self.builds.values() if build.state == BUILDING]:
            swap = Swap(build)
            self.writer.submit(swap)
            await swap.finished
        await self._load_builds()
        if not self._alarms_checked:
            await self._clear_alarms()

    async def _load_builds(self) -> None:
        found = {build.id: build for build in await self.store.reader.views.list()}
        versions = {d.name: d.kind.version for d in self.service.views if self._only in {None, d.name}}
        gone = [build for number, build in self.builds.items() if number not in found]
        mine = {number: build for number, build in found.items() if versions.get(build.name) == build.version}
        new = [build for number, build in mine.items() if number not in self.builds]
        self.builds = mine  # a build of another version belongs to another release: its function is not ours to run
        for build in gone:
            await self._drop_loop(processor_of(build))
        for build in new:
            if self._only is not None and build.state == SERVING:
                continue
            definition = find_definition(self.service.views, build.name)
            processor = Processor(processor_of(build), mode=Mode.PURE)
            processor.add(ViewPattern(definition, build=build.id), retry=definition.retry)
            self._add_loop(processor, processor_of(build))
        self._alarms_checked = self._alarms_checked and not gone
        if gone or new:
            await self._regroup()

    async def _clear_alarms(self) -> None:
        """Say of consumers that had stopped themselves that it is over, where they are gone with their builds."""
        wishes = await load_wishes(self.store.reader)
        for alarm in await load_alarms(self.store.reader):
            if alarm.about == CONSUMER and not wishes.get(alarm.where, Wish()).reason:
                clear = Clear(alarm)
                self.writer.submit(clear)
                await clear.finished
        self._alarms_checked = True

    async def _drop_loop(self, name: str) -> None:
        loop = self.loops.pop(name, None)
        if loop is not None:
            self._unsubscribe.pop(name)()
            await loop.stop()

    async def serving(self, view: str) -> int:
        """Return the build that answers queries for a view, as the store says now: a swap elsewhere counts at once."""
        return next(build.id for build in await self.store.reader.views.list() if build.name == view and build.state == SERVING)

    async def clean(self, *, now: int, answers_before: int) -> None:
        """Forget answers and foreign ids from before a time (microseconds), and what the service wants to be kept no longer.

        That is closed letters, and published rows of its journal.
        """
        work = Clean(answers_before)
        self.writer.submit(work)
        await work.finished
        if (closed_kept := self.service.letter_bounds.closed_kept) is not None:
            forget = ForgetClosed(closed_kept)
            self.writer.submit(forget)
            await forget.finished
        self.pile = await measure(self.store.reader)
        if (kept := self.service.journal_kept) is not None:
            published = await self._installation.parts.log.published(self.source, self.saying.epoch)
            await trim_journal(self.writer, now=now, kept_s=kept.total_seconds(), published=published)

    async def stop(self) -> None:
        """Finish what is in hand: loops, what is queued, what is to be published."""
        await self.watch.stop()
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        await asyncio.gather(*(loop.stop() for loop in self.loops.values()))
        await self.writer.drain()
        await self.relay.stop()
        await self.writer.stop()

    async def close(self) -> None:
        """Close the store."""
        await self.store.close()
