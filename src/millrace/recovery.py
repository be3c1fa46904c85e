"""Going on after a restore: what does not fit together, what is lost, what repeats, and the changes that let everything run again.

Theory. Stores and log are restored apart, so one may be older than the other. Whoever starts then stops with a `Recovery`; an operator who
cannot restore the newer side has it recovered here, while no process of the application runs.

    a store is older than the log     The log has facts of its source that the store never gave, or a later epoch of it. The journal gets a
                                      new epoch, in which its positions go on: what it says next is new to every reader. Those facts are
                                      named as lost. What its processors had read since the copy they read again, and say again.
    the log is older than a store     Readers go back to the end of the log. The relays publish anew what the log has lost, from the
                                      journals; readers drop what they have seen, by its sequence.
    a topic was created anew          Readers begin at its start. The journals that wrote there get a new epoch; where a reader had not seen
                                      all of their rows, it begins before the first of these, so that the relays publish them again.
    a place was removed by retention  The reader goes on at the first record that is there. What lay between is named as missed.

What a reader has counted stays: `start`, from where its records are counted, moves with its offset. Messages that it holds keep their
order in front of what will be read, under offsets below those of the log, so none takes the place of another.

    killed before the log knows the new epoch     nothing happened
    killed before a store's commit                the next recovery opens one epoch more; the one in between holds nothing
    killed between two stores                     the next recovery does the other one

Neighbours: `cli` shows a plan and asks; `relay` and `runtime` notice; `epoch` says what engines do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

import msgspec

from millrace.application import Application
from millrace.epoch import JournalEpochs, SourceEpochs
from millrace.errors import ConfigurationError, DecodeError, StoreUnavailable
from millrace.held import HeldRow
from millrace.inspection import Inspection
from millrace.ledger import refused_by_log
from millrace.ports import LogParts, PositionRow, Record, Store, StoreTransaction, TopicInfo
from millrace.rebuild import processor_of
from millrace.serialization import open_envelope

PATIENCE_S = 10.0
LOOK_S = 0.2
SILENT_S = 0.6
"""For so long nobody may have held a partition: who was only slow has said so by then."""
READ = 1000
LISTED = 10
"""How many lost facts are shown in words."""
Place = tuple[str, int]


class LostFact(msgspec.Struct, frozen=True):
    """A fact that is in the log and that the store of its source does not know any more."""

    topic: str
    partition: int
    offset: int
    key: str
    type: str
    id: str


class SourceRecovery(msgspec.Struct, frozen=True):
    """A journal that needs a new epoch.

    `head` is the last position of the journal, `published` that of the log in the journal's epoch; the new epoch publishes what is above
    `resumes`, of which `again` rows had been published before. Of what is up to there, `rows` rows count as published.
    """

    service: str
    source: str
    epoch: int
    new_epoch: int
    head: int
    published: int
    resumes: int
    rows: int
    again: int
    lost: tuple[LostFact, ...]


class ReaderRecovery(msgspec.Struct, frozen=True):
    """A processor that has to go on elsewhere: `missed` records are gone unread, `again` are there and are read (again)."""

    service: str
    processor: str
    topic: str
    partition: int
    offset: int
    resumes: int
    why: str
    missed: int
    again: int


class RecoveryPlan(msgspec.Struct, frozen=True):
    """What a recovery changes, and what that means."""

    sources: tuple[SourceRecovery, ...] = ()
    readers: tuple[ReaderRecovery, ...] = ()

    @property
    def needed(self) -> bool:
        """Return whether something has to change."""
        return bool(self.sources or self.readers)


def in_words(plan: RecoveryPlan) -> list[str]:
    """Return what a plan changes and what that means, a line each."""
    return [line for each in plan.sources for line in _source_in_words(each)] + [_reader_in_words(each) for each in plan.readers]


def _source_in_words(each: SourceRecovery) -> list[str]:
    lines = [
        (
            f"{each.source}: epoch {each.epoch} -> {each.new_epoch}; the store has {each.head} positions, the log {each.published}; "
            f"publishes from position {each.resumes + 1} on, {each.again} rows once more"
        )
    ]
    if each.lost:
        lines.append(f"  lost: {len(each.lost)} facts that the log has and the store does not know; --json lists all")
        lines += [f"    {fact.topic}/{fact.partition} at {fact.offset}: {fact.type} of {fact.key}" for fact in each.lost[:LISTED]]
    return lines


def _reader_in_words(each: ReaderRecovery) -> str:
    place = f"{each.service}.{each.processor} on {each.topic}/{each.partition}"
    missed = f"; {each.missed} records are gone unread" if each.missed else ""
    return f"{place}: {each.why}; goes on at {each.resumes} instead of {each.offset}, {each.again} records are there to read{missed}"


async def plan_recovery(app: Application) -> RecoveryPlan:
    """Return what a recovery would do; changes nothing, and works beside running processes.

    Args:
        app: the application, not started.

    Raises:
        StoreUnavailable: log or a store cannot be read. One that is gone counts as empty.
    """
    async with Inspection(app, tolerant=True) as inspection:
        for problem in inspection.problems:
            if problem.reason not in {"lost", "absent"}:
                raise problem
        stores = {service.name: inspection.stores.get(service.name) for service in app.services}
        return await _Survey(app, inspection.parts, stores).plan()


async def recover(app: Application, *, agree: Callable[[RecoveryPlan], bool]) -> RecoveryPlan:
    """Change what has to change, so that everything can be started again; returns what was planned.

    Args:
        app: the application, not started; it is used up.
        agree: is asked once, before anything is changed; False leaves all as it is. Not asked where nothing has to change.

    Raises:
        StoreUnavailable: `locked` while a process of the application runs; or log or a store cannot be used.
        ConfigurationError: the engine cannot do it.
    """
    plan = await plan_recovery(app)
    if not plan.needed or not agree(plan):
        return plan
    await wait_until_unused(app)
    try:
        await app.open(services=app.services)
        stores: dict[str, Store | None] = {name: host.store for name, host in app.hosts.items()}
        plan = await _Survey(app, app.parts, stores).plan()  # topics that were missing are there now
        infos = await _topics(app.parts)
        for name, store in stores.items():
            if store is not None:
                await _apply(plan, app.parts, store, name=name, infos=infos)
    finally:
        await app.stop()
    return plan


async def wait_until_unused(app: Application) -> None:
    """Wait for sessions of processes that have just ended.

    Raises:
        StoreUnavailable: a process still runs.
    """
    until, silent_since = time.monotonic() + PATIENCE_S, None
    while silent_since is None or time.monotonic() - silent_since < SILENT_S:
        if owners := await _owners(app):
            silent_since = None
            if time.monotonic() > until:
                detail = f"these processes use it: {', '.join(sorted(owners))}; stop them first"
                raise StoreUnavailable(app.name, reason="locked", detail=detail)
        elif silent_since is None:
            silent_since = time.monotonic()
        await asyncio.sleep(LOOK_S)


async def _owners(app: Application) -> set[str]:
    async with Inspection(app, tolerant=True) as inspection:
        found: set[str] = set()
        for service, store in inspection.services():
            declared = {processor.name for processor in service.processors(app.catalogue)}
            for processor in declared | set(await store.reader.positions.processors()):
                found |= set((await inspection.leases.owners(app.group_of(service.name, processor))).values())
        return found


async def _topics(parts: LogParts | None) -> dict[str, TopicInfo]:
    return {info.name: info for info in await parts.log.topics()} if parts is not None else {}


class _Survey:
    """Compares stores with the log.

    Args:
        app: whose.
        parts: the log, open; None for one that is not there.
        stores: by service; None for one that is not there.
    """

    def __init__(self, app: Application, parts: LogParts | None, stores: Mapping[str, Store | None]) -> None:
        self._app = app
        self._parts = parts
        self._stores = stores
        self._infos: dict[str, TopicInfo] = {}
        self._sources: list[tuple[str, int, int, int]] = []
        self._wanted: dict[str, int] = {}

    async def plan(self) -> RecoveryPlan:
        self._infos = await _topics(self._parts)
        self._sources = await self._parts.administration.sources() if self._parts is not None else []
        readers = [reader for name, store in self._stores.items() if store is not None for reader in await self._readers(name, store)]
        found = [await self._source(name, store) for name, store in self._stores.items()]
        sources = [each for each in found if each is not None]
        lost = await self._lost({each.source: each for each in sources if each.published > each.head or self._newest(each) > each.epoch})
        sources = [msgspec.structs.replace(each, lost=tuple(lost.get(each.source, ()))) for each in sources]
        return RecoveryPlan(tuple(sources), tuple(readers))

    def _newest(self, each: SourceRecovery) -> int:
        return max((epoch for source, epoch, _, _ in self._sources if source == each.source), default=0)

    def _published(self, name: str) -> dict[int, int]:
        """Return the last position of a service's source that the log has, per epoch."""
        return {epoch: position for source, epoch, position, _ in self._sources if source == f"/{self._app.name}/{name}"}

    async def _source(self, name: str, store: Store | None) -> SourceRecovery | None:
        source, published = f"/{self._app.name}/{name}", self._published(name)
        if store is None and not published:
            return None
        epoch = await store.epoch() if store is not None else 1
        head = await store.reader.journal.head() if store is not None else 0
        reached, newest = published.get(epoch, 0), max(published, default=0)
        resumes = min(head, reached, self._wanted.get(name, reached))
        if reached <= head and newest <= epoch and name not in self._wanted:
            return None
        before = await _counted(store, resumes)
        again = 0 if store is None else (await store.reader.journal.counts(min(reached, head)))[3]
        return SourceRecovery(
            service=name,
            source=source,
            epoch=epoch,
            new_epoch=max(newest, epoch) + 1,
            head=head,
            published=reached,
            resumes=resumes,
            rows=before[0],
            again=again - before[1],
            lost=(),
        )

    async def _readers(self, name: str, store: Store) -> list[ReaderRecovery]:
        declared = {
            processor.name
            for service in self._app.services
            if service.name == name
            for processor in service.processors(self._app.catalogue)
        }
        known = declared | {processor_of(build) for build in await store.reader.views.list()}
        found: list[ReaderRecovery] = []
        for processor in await store.reader.positions.processors():
            for row in await store.reader.positions.load(processor) if processor in known else ():
                reader = self._reader(name, row)
                if reader is not None:
                    found.append(reader)
                    if reader.why == ANEW:
                        await self._want_unseen(row)
        return found

    def _reader(self, name: str, row: PositionRow) -> ReaderRecovery | None:
        if row.topic.startswith("@"):
            return None
        info = self._infos.get(row.topic)
        there = info is not None and row.partition < len(info.ranges)
        first, end = info.ranges[row.partition] if info is not None and there else (0, 0)
        if info is None or row.identity != info.identity or not there:
            why, resumes, missed = ANEW, first, 0
        elif row.offset > end:
            why, resumes, missed = OLDER, end, 0
        elif row.offset < first:
            why, resumes, missed = REMOVED, first, first - row.offset
        else:
            return None
        return ReaderRecovery(name, row.processor, row.topic, row.partition, row.offset, resumes, why, missed, end - resumes)

    async def _want_unseen(self, row: PositionRow) -> None:
        """Note from where journals have rows for a place that its reader has not seen; or only that they have written there.

        What a log remembers of a source, such as where its rows ended, is not true of a topic of that name that was created anew.
        """
        for name, store in self._stores.items():
            if store is None:
                continue
            epoch = await store.epoch()
            seen = row.sources.get(f"/{self._app.name}/{name}@{epoch}", 0)
            reached = self._published(name).get(epoch, 0)
            first = await _first_row(store, (row.topic, row.partition), after=seen, until=reached)
            if first is not None or seen:
                resumes = reached if first is None else first - 1
                self._wanted[name] = min(self._wanted.get(name, resumes), resumes)

    async def _lost(self, behind: Mapping[str, SourceRecovery]) -> dict[str, list[LostFact]]:
        """Return the facts of these sources that their stores do not know, in the order of the log; reads all of it."""
        found: dict[str, list[LostFact]] = {}
        if not behind or self._parts is None:
            return found
        for info in self._infos.values():
            for partition, (first, end) in enumerate(info.ranges):
                offset = first
                while offset < end and (records := await self._parts.log.read(info.name, partition, offset=offset, limit=READ)):
                    for record in records:
                        _note_lost(found, behind, (info.name, partition), record)
                    offset = records[-1].offset + 1
        return found


ANEW = "the topic was created anew"
OLDER = "the log is older"
REMOVED = "its place was removed"


def _note_lost(found: dict[str, list[LostFact]], behind: Mapping[str, SourceRecovery], place: Place, record: Record) -> None:
    if record.position <= 0:
        return
    try:
        envelope = open_envelope(record.value, bytes_max=None)
    except DecodeError:
        return
    each = behind.get(envelope.source)
    if each is None or not envelope.epoch.isdecimal():
        return
    epoch = int(envelope.epoch)
    if epoch > each.epoch or (epoch == each.epoch and record.position > each.head):
        fact = LostFact(*place, record.offset, record.key or "", envelope.type, envelope.id)
        found.setdefault(envelope.source, []).append(fact)


async def _counted(store: Store | None, position: int) -> tuple[int, int]:
    """Return how many rows up to a position count as published, and how many are for the log."""
    if store is None:
        return 0, 0
    rows = (await store.reader.journal.counts(position))[3]
    return rows - await refused_by_log(store, position), rows


async def _first_row(store: Store, place: Place, *, after: int, until: int) -> int | None:
    while after < until:
        rows, upto = await store.reader.journal.tail(after, limit=READ)
        if upto == after:
            return None
        for row in rows:
            if (row.topic, row.partition) == place and row.position <= until:
                return row.position
        after = upto
    return None


async def _apply(plan: RecoveryPlan, parts: LogParts, store: Store, *, name: str, infos: Mapping[str, TopicInfo]) -> None:
    """Change one store, and what the log knows of its source, which goes first."""
    source = next((each for each in plan.sources if each.service == name), None)
    readers = [each for each in plan.readers if each.service == name]
    if source is None and not readers:
        return
    if source is not None:
        if not isinstance(parts.administration, SourceEpochs):
            raise ConfigurationError("this log cannot begin a new epoch of a source; restore the newer store instead")
        await parts.administration.begin_epoch(source.source, source.new_epoch, position=source.resumes, rows=source.rows)
    transaction = await store.begin()
    try:
        for processor in {reader.processor: None for reader in readers}:
            await _move(transaction, processor, [reader for reader in readers if reader.processor == processor], infos)
        if source is not None:
            if not isinstance(transaction, JournalEpochs):
                raise ConfigurationError("this store cannot give its journal a new epoch; restore the newer store instead")
            await transaction.open_epoch(source.new_epoch)
    except BaseException:
        await transaction.rollback()
        raise
    await transaction.commit()


async def _move(transaction: StoreTransaction, processor: str, readers: Iterable[ReaderRecovery], infos: Mapping[str, TopicInfo]) -> None:
    """Let a processor go on elsewhere, under new tokens: an owner that was only stopped is refused."""
    wanted = {(reader.topic, reader.partition): reader for reader in readers}
    places = [(t, p, reader.resumes, infos[t].identity if t in infos else "") for (t, p), reader in wanted.items()]
    rows = await transaction.positions.claim(processor, places)
    held = await transaction.held.load(processor)
    for row in rows:
        reader = wanted[row.topic, row.partition]
        row.start += reader.resumes - row.offset
        if reader.resumes < row.offset or reader.why == ANEW:
            await _put_before(
                transaction, [each for each in held if (each.topic, each.partition) == (row.topic, row.partition)], row.offset
            )
        row.offset = reader.resumes
        row.identity = infos[row.topic].identity if row.topic in infos else row.identity
    await transaction.positions.advance(rows)


async def _put_before(transaction: StoreTransaction, held: list[HeldRow], offset: int) -> None:
    """Give held messages offsets below those of the log."""
    if held:
        below = max(offset, 1 + max(row.offset for row in held))
        await transaction.held.remove(held)
        await transaction.held.save([msgspec.structs.replace(row, offset=row.offset - below) for row in held])


__all__ = ["LostFact", "ReaderRecovery", "RecoveryPlan", "SourceRecovery", "in_words", "plan_recovery", "recover", "wait_until_unused"]
