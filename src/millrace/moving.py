"""Moving an installation from one pair of engines to another: everything stored, so that the application goes on there where it stopped.

Theory. The source is opened to be looked at and stays as it is; no process may run on it. The target is filled in an order in which a kill
at any point leaves something that can be gone on with, and that nobody can mistake for a whole installation:

    1. the target is looked at: nothing of the application may be there, but what an earlier try of the same move has left
    2. every store of the target is marked as being filled, with an origin that names this very source; a marked store refuses to be opened
    3. topics are made, and records appended in order. How many a partition holds already is how far it has come
    4. both logs are read from end to end and compared. The offsets at the target are dense, so what an offset at the source becomes follows
       from the records before it
    5. each source's standing (epoch, position, rows) is written into the log, so that the relays go on behind it
    6. each store's tables are copied in batches; the mark, changed with each batch, says from where to go on. Read positions and held
       messages get the offsets that their records have at the target
    7. both stores are read from end to end and compared
    8. the marks are changed to say that all is there. Once one has been, the log belongs to the application, and only 8 is repeated

A record that was sent twice by a process that was killed, or taken out by somebody, is found by 4, which then refuses to go on.

What does not travel: the tables that an application made itself with its own SQL. They are named, and refused unless the caller says that
they may stay.

Neighbours: `transfer` says what engines do; whoever knows both engines calls `move`.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Mapping

import msgspec

from millrace.application import Application
from millrace.epoch import SourceEpochs
from millrace.errors import ConfigurationError, Recovery, StoreUnavailable
from millrace.inspection import Inspection
from millrace.ports import Engine, LogParts, PositionRow, Record, Store, TopicInfo, TopicSpec
from millrace.recovery import wait_until_unused
from millrace.retry import RELAY
from millrace.transfer import TABLES, Arrival, RecordTarget, Row, RowSource, RowTarget

READ = 2000
ROWS_MAX = 2000
ROWS_FIRST = 64
BATCH_BYTES = 8 << 20
Place = tuple[str, int]
Identity = tuple[str | None, bytes, int]


class MoveProgress(msgspec.Struct, frozen=True):
    """How far a move is: `stage` is records, records compared, rows or rows compared; `of` is None where nobody counted before."""

    stage: str
    what: str
    done: int
    of: int | None = None


class Moved(msgspec.Struct, frozen=True):
    """What a move has brought to the target.

    Attributes:
        already: it had been finished before; nothing was done.
        records: per topic.
        rows: per service and table.
        sources: how far each source had published, as (source, epoch, position, rows).
    """

    already: bool = False
    records: dict[str, int] = {}
    rows: dict[str, dict[str, int]] = {}
    sources: tuple[tuple[str, int, int, int], ...] = ()


Report = Callable[[MoveProgress], None]


async def move(app: Application, target: Engine, *, report: Report, leave_own_tables: bool = False) -> Moved:
    """Copy everything stored of an application to another engine, or go on with that; compares both sides before it says that all is there.

    Args:
        app: the application at the source, not started.
        target: where to.
        report: called with progress.
        leave_own_tables: tables that the application made itself may stay behind.

    Raises:
        StoreUnavailable: `locked` while a process runs on the source; `not_ours` where the target holds something else.
        Recovery: what is at the target is not what is at the source.
        ConfigurationError: one of the engines cannot do it.
    """
    await wait_until_unused(app)
    async with Inspection(app) as source:
        return await _Move(app, source, target, report=report).run(leave_own_tables=leave_own_tables)


class _Move:
    def __init__(self, app: Application, source: Inspection, target: Engine, *, report: Report) -> None:
        self._app = app
        self._source = source
        self._target = target
        self._report = report
        self._origin = ""
        self._topics: list[TopicInfo] = []

    async def run(self, *, leave_own_tables: bool) -> Moved:
        self._topics = await self._source.log.log.topics()
        self._origin = _origin(self._app.name, self._topics)
        if not leave_own_tables:
            await self._refuse_own_tables()
        arrivals = await self._look()
        if arrivals and all(each is not None and each.finished for each in arrivals.values()):
            return Moved(already=True)
        parts = self._target.log()
        stores = {service.name: self._target.store(service.name) for service, _ in self._source.services()}
        try:
            await parts.log.open()
            if not any(arrivals.values()):
                await self._refuse_topics(parts)  # once more: where nothing of ours is there, who only looks may have seen nothing
            for store in stores.values():
                await _fillable(store).receive(self._origin)
            if not any(each is not None and each.finished for each in arrivals.values()):
                return await self._fill(parts, stores)
            await self._complete(stores)
            return Moved(already=True)
        finally:
            for store in stores.values():
                await store.close()
            await parts.log.close()
            await self._target.stop()

    async def _refuse_own_tables(self) -> None:
        for service, store in self._source.services():
            if own := await _readable(store).own_tables():
                raise ConfigurationError(
                    f"{service.name}: the tables {', '.join(own)} were made by the application itself and cannot be moved; "
                    "move them by other means and say that they may be left"
                )

    async def _look(self) -> dict[str, Arrival | None]:
        """Return how far the stores of the target are filled; None for one that is not there.

        Raises:
            StoreUnavailable: something else is there.
        """
        reading = self._target.reading()
        try:
            arrivals = {service.name: await self._arrival(reading, service.name) for service, _ in self._source.services()}
            if not any(arrivals.values()):
                await self._look_at_log(reading)
        finally:
            await reading.stop()
        return arrivals

    async def _arrival(self, reading: Engine, name: str) -> Arrival | None:
        try:
            store = reading.store(name)
            await store.open()
        except StoreUnavailable as error:
            if error.reason == "absent":
                return None
            raise
        try:
            found, empty = await _readable(store).arrival(), await _is_empty(_readable(store))
        finally:
            await store.close()
        if found is None and empty:
            return None  # an earlier try was killed between making it and marking it
        if found is None:
            raise StoreUnavailable(store.name, reason="not_ours", detail="the target has a store of this name already; name an empty place")
        if found.origin != self._origin:
            raise StoreUnavailable(store.name, reason="not_ours", detail="the target is being filled, or was, from another installation")
        return found

    async def _look_at_log(self, reading: Engine) -> None:
        try:
            parts = reading.log()
            await parts.log.open()
        except StoreUnavailable as error:
            if error.reason == "absent":
                return
            raise
        try:
            await self._refuse_topics(parts)
        finally:
            await parts.log.close()

    async def _refuse_topics(self, parts: LogParts) -> None:
        ours = {info.name for info in self._topics}
        sources = {source for source, _, _, _ in await self._source.log.administration.sources()}
        found = sorted(info.name for info in await parts.log.topics() if info.name in ours)
        found += sorted({source for source, _, _, _ in await parts.administration.sources()} & sources)
        if found:
            detail = f"the target's log has {', '.join(found)} already; name an empty place"
            raise StoreUnavailable("log", reason="not_ours", detail=detail)

    async def _fill(self, parts: LogParts, stores: Mapping[str, Store]) -> Moved:
        log = parts.administration
        if not isinstance(log, RecordTarget) or not isinstance(log, SourceEpochs):
            raise ConfigurationError(f"the log of {self._target.name} cannot be filled")
        await log.receive([TopicSpec(info.name, len(info.ranges), info.retention_s) for info in self._topics])
        records: dict[str, int] = {}
        offsets: dict[Place, Offsets] = {}
        for info in self._topics:
            records[info.name] = await self._copy_topic(info, parts, log)
        for info in self._topics:
            offsets |= await self._compare_topic(info, parts)
        sources = await self._source.log.administration.sources()
        for source, epoch, position, rows in sources:
            await log.begin_epoch(source, epoch, position=position, rows=rows)
        identities = {info.name: info.identity for info in await parts.log.topics()}
        rows_moved: dict[str, dict[str, int]] = {}
        for service, store in self._source.services():
            copying = _StoreCopy(service.name, _readable(store), stores[service.name], Places(offsets, identities), report=self._report)
            rows_moved[service.name] = await copying.run(self._origin)
        await log.complete([info.name for info in self._topics])
        await self._complete(stores)
        return Moved(records=records, rows=rows_moved, sources=tuple(sources))

    async def _complete(self, stores: Mapping[str, Store]) -> None:
        for service, store in self._source.services():
            await _fillable(stores[service.name]).complete(await _readable(store).figures(), origin=self._origin)

    async def _copy_topic(self, info: TopicInfo, parts: LogParts, log: RecordTarget) -> int:
        there = {found.name: found for found in await parts.log.topics()}[info.name]
        if len(there.ranges) != len(info.ranges):
            raise ConfigurationError(
                f"topic {info.name} has {len(there.ranges)} partitions at the target, {len(info.ranges)} at the source"
            )
        done, of = 0, sum(end - first for first, end in info.ranges)
        for partition, (first, end) in enumerate(info.ranges):
            known = there.ranges[partition][1]
            seen = 0
            async for batch, _ in _records(self._source.log, (info.name, partition), first=first, end=end):
                new = batch[max(0, known - seen) :]
                seen += len(batch)
                if new:
                    await log.take(info.name, partition, new)
                self._report(MoveProgress("records", info.name, done + seen, of))
            done += seen
        return done

    async def _compare_topic(self, info: TopicInfo, parts: LogParts) -> dict[Place, Offsets]:
        """Return what offsets become.

        Raises:
            Recovery: the target's records are not those of the source, in their order.
        """
        there = {found.name: found for found in await parts.log.topics()}[info.name]
        offsets: dict[Place, Offsets] = {}
        done = 0
        for partition, (first, end) in enumerate(info.ranges):
            place = (info.name, partition)
            start, stop = there.ranges[partition]
            offsets[place] = Offsets(first)
            here = _identities(_records(self._source.log, place, first=first, end=end), offsets[place])
            copies = _identities(_records(parts, place, first=start, end=stop), None)
            done += await _same(here, copies, skipped=start if info.retention_s is not None else 0, what=f"{info.name}/{partition}")
            self._report(MoveProgress("records compared", info.name, done))
        return offsets


class Offsets:
    """What an offset of a partition becomes where there are no holes and the first record has offset 0.

    Args:
        first: the offset of the first record at the source.
    """

    def __init__(self, first: int) -> None:
        self._first = first
        self._holes: list[int] = []
        self._sums = [0]

    def note_hole(self, upto: int, count: int) -> None:
        """Take note that `count` offsets up to this one hold no record."""
        self._holes.append(upto - count + 1)
        self._sums.append(self._sums[-1] + count)

    def of(self, offset: int) -> int:
        """Return the offset at the target; that of a record that is gone is below 0, in the same order."""
        return offset - self._first - self._sums[bisect_left(self._holes, offset)]


class Places:
    """Where readers go on at the target.

    Args:
        offsets: per place.
        identities: of the target's topics.
    """

    def __init__(self, offsets: Mapping[Place, Offsets], identities: Mapping[str, str]) -> None:
        self._offsets = offsets
        self._identities = identities

    def row(self, table: str, row: Row) -> Row:
        """Return a row as it is at the target."""
        if table == "position":
            return self._position(row)
        if table in {"held", "closed"} and row[0] != RELAY and (row[1], row[2]) in self._offsets:
            return (*row[:3], self._offsets[row[1], row[2]].of(row[3]), *row[4:])
        return row

    def _position(self, row: Row) -> Row:
        offsets = self._offsets.get((row[1], row[2]))
        if offsets is None:
            return row
        body = msgspec.json.decode(row[4], type=PositionRow)
        offset = offsets.of(body.offset)
        body.start, body.offset = body.start + offset - body.offset, offset
        body.identity = self._identities[row[1]]
        return (*row[:4], msgspec.json.encode(body))


class _StoreCopy:
    """Copies one store and compares both."""

    def __init__(self, service: str, source: RowSource, target: Store, places: Places, *, report: Report) -> None:
        self._service = service
        self._source = source
        self._read = _readable(target)
        self._write = _fillable(target)
        self._places = places
        self._report = report

    async def run(self, origin: str) -> dict[str, int]:
        arrival = await self._read.arrival() or Arrival(origin)
        begun = list(TABLES).index(arrival.table) if arrival.table else 0
        for table in list(TABLES)[begun:]:
            after = tuple(arrival.after) if table == arrival.table else TABLES[table].least
            await self._copy(table, after, origin)
        return {table: await self._compare(table) for table in TABLES}

    async def _copy(self, table: str, after: Row, origin: str) -> None:
        done = 0
        async for batch in _rows(self._source, table, after):
            arrival = Arrival(origin, table=table, after=batch[-1][: TABLES[table].keys])
            await self._write.take(table, [self._places.row(table, row) for row in batch], arrival=arrival)
            done += len(batch)
            self._report(MoveProgress("rows", f"{self._service} {table}", done))

    async def _compare(self, table: str) -> int:
        """Return how many rows there are.

        Raises:
            Recovery: those of the target are others.
        """

        async def expected() -> AsyncIterator[Row]:
            async for batch in _rows(self._source, table, TABLES[table].least):
                for row in batch:
                    yield self._places.row(table, row)

        async def found() -> AsyncIterator[Row]:
            async for batch in _rows(self._read, table, TABLES[table].least):
                for row in batch:
                    yield row

        count = await _same(expected(), found(), skipped=0, what=f"{self._service} {table}")
        self._report(MoveProgress("rows compared", f"{self._service} {table}", count, count))
        return count


async def _rows(store: RowSource, table: str, after: Row) -> AsyncIterator[list[Row]]:
    """Yield rows in batches of a size that fits into memory whatever they hold."""
    limit = ROWS_FIRST
    while batch := await store.extract(table, after=after, limit=limit):
        yield batch
        after = batch[-1][: TABLES[table].keys]
        size = sum(len(value) for row in batch for value in row if isinstance(value, bytes | str))
        limit = max(1, limit // 2) if size > BATCH_BYTES else min(ROWS_MAX, limit * 2)


async def _records(parts: LogParts, place: Place, *, first: int, end: int) -> AsyncIterator[tuple[list[Record], list[Record]]]:
    """Yield (records, holes) of a partition in order."""
    offset = first
    while offset < end:
        found = await parts.log.read(*place, offset=offset, limit=READ)
        if not found:
            raise Recovery(f"{place[0]}/{place[1]}: nothing can be read at {offset}, the end is said to be {end}")
        found = [record for record in found if record.offset < end]
        yield [record for record in found if record.position >= 0], [record for record in found if record.position < 0]
        offset = found[-1].offset + 1


async def _identities(batches: AsyncIterator[tuple[list[Record], list[Record]]], offsets: Offsets | None) -> AsyncIterator[Identity]:
    """Yield what a record is wherever it is."""
    async for records, holes in batches:
        if offsets is not None:
            for hole in holes:
                offsets.note_hole(hole.offset, -hole.position)
        for record in records:
            yield record.key, record.value, record.position


async def _same(expected: AsyncIterator[tuple[object, ...]], found: AsyncIterator[tuple[object, ...]], *, skipped: int, what: str) -> int:
    """Return how many there are; the first `skipped` of the expected ones may be gone.

    Raises:
        Recovery: one differs, is missing or too much.
    """
    count = 0
    async for each in expected:
        count += 1
        if count <= skipped:
            continue
        if (other := await anext(found, None)) != each:
            raise _different(what, f"number {count} is {'missing' if other is None else 'another one'}")
    if await anext(found, None) is not None:
        raise _different(what, f"there are more than the {count} of the source")
    return count


def _different(what: str, how: str) -> Recovery:
    return Recovery(f"{what}: the target is not the same as the source: {how}; delete what is at the target and move again")


def _origin(name: str, topics: Iterable[TopicInfo]) -> str:
    """Return what names a source: its topics have identities that no other has."""
    return hashlib.sha256("\n".join([name, *sorted(f"{info.name} {info.identity}" for info in topics)]).encode()).hexdigest()[:32]


async def _is_empty(store: RowSource) -> bool:
    figures = await store.figures()
    return not figures.head and not any([await store.extract(name, after=table.least, limit=1) for name, table in TABLES.items()])


def _readable(store: Store) -> RowSource:
    if not isinstance(store, RowSource):
        raise ConfigurationError(f"the store of {store.name} cannot be read out")
    return store


def _fillable(store: Store) -> RowTarget:
    if not isinstance(store, RowTarget):
        raise ConfigurationError(f"the store of {store.name} cannot be filled")
    return store


__all__ = ["MoveProgress", "Moved", "move"]
