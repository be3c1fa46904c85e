"""The embedded log: topics, partitions and records in one file.

Theory. A record's offset is taken from its partition's `next` in the transaction that inserts it, so offsets are dense. The relay's
position per (source, epoch) is a row of the same file, changed in the same transaction: a crash between store and log leaves the
position where the records are, and whoever relays next goes on from there. Two relays of one source are safe, because each names
the position it believes in (`after`) and the append is refused when the file says otherwise.

Appends that arrive together share a commit: they queue, one task takes them all.

Neighbours: implements `Log`, `LogFeed` and `LogAdministration` of `ports`.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from millrace.engines.sqlite.copying import Copier
from millrace.engines.sqlite.database import Database
from millrace.engines.sqlite.queries import LOG as Q
from millrace.engines.sqlite.recent import Recent
from millrace.engines.sqlite.store import SqliteStore
from millrace.errors import ConfigurationError, Recovery
from millrace.partitioning import partition_of
from millrace.ports import JournalRow, Record, Store, TopicInfo, TopicSpec, rows_of
from millrace.serialization import cut_by_bytes

READ_BYTES_MAX = 8 << 20
Append = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class SqliteLog:
    """The log file of an installation."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ids: dict[str, int] = {}
        self._ends: dict[tuple[str, int], int] = {}
        self._partitions: dict[str, int] = {}
        self._inserted: list[tuple[tuple[str, int], list[Record]]] = []
        self._recent = Recent()
        self._copiers: dict[Path, Copier] = {}
        self._places: dict[tuple[str, int], int] = {}
        self._watchers: list[Callable[[], None]] = []
        self._queue: list[Append] = []
        self._wake = asyncio.Event()
        self._flusher: asyncio.Task[None] | None = None
        self._closing = False

    async def open(self) -> None:
        """Open the file."""
        await self._database.open()
        self._database.on_change(self._refresh)
        self._flusher = asyncio.create_task(self._flush_forever(), name="log appends")
        self._load_ids()
        self._refresh()

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        """Create the topics that do not exist."""
        if all(topic.name in self._ids for topic in topics):
            return
        await self._submit(lambda: self._create(topics))
        self._load_ids()
        self._refresh()

    def _create(self, topics: Sequence[TopicSpec]) -> None:
        for topic in topics:
            for (number,) in self._write("add_topic", (topic.name, topic.retention_s)):
                for partition in range(topic.partitions):
                    self._write("add_partition", (number, partition))

    async def append(self, source: str, epoch: int, rows: Sequence[JournalRow], *, after: int) -> int:
        """Append rows of a source if its last position is `after`; see the port."""
        if not rows:
            return after
        return await self._submit(lambda: self._append(source, epoch, rows, after))

    def _append(self, source: str, epoch: int, rows: Sequence[JournalRow], after: int) -> int:
        found = self._write("published", (source, epoch))
        position, count = found[0] if found else (0, 0)
        if position != after:
            return position
        places: dict[tuple[str, int], list[tuple[str | None, bytes, int]]] = {}
        for row_position, topic, partition, key, value in rows:
            records = places.get((topic, partition))
            if records is None:
                records = places[topic, partition] = []
            records.append((key, value, row_position))
        now = time.time_ns() // 1000
        for (topic, partition), records in places.items():
            self._insert(topic, partition, records, now=now)
        last = rows[-1][0]
        self._write("move_relay", (source, epoch, last, count + len(rows)))
        return last

    def _insert(self, topic: str, partition: int, records: Sequence[tuple[str | None, bytes, int]], *, now: int) -> None:
        first, base = self._reserve(topic, partition, len(records))
        rows = rows_of(Record, [(first + i, key, value, now, position, None) for i, (key, value, position) in enumerate(records)])
        self._publish((topic, partition), base, rows)

    def _reserve(self, topic: str, partition: int, count: int) -> tuple[int, int]:
        """Take offsets; return the first, and the place of offset 0."""
        taken = self._write("take_offsets", (count, self._number(topic), partition))
        if not taken:
            raise ConfigurationError(f"topic {topic!r} has no partition {partition}; it has {self._partitions[topic]}")
        end, partition_id = taken[0]
        return end - count, partition_id << 40

    def _publish(self, place: tuple[str, int], base: int, rows: list[Record]) -> None:
        self._database.writer.executemany(Q["publish"], [(base | row[0], *row[1:5]) for row in rows])
        self._inserted.append((place, rows))

    async def copy(self, store: Store, source: str, epoch: int, *, after: int, limit: int) -> int | None:
        """Append a store's journal rows by one statement in a thread; None where that cannot be done."""
        if not isinstance(store, SqliteStore):
            return None
        copier = self._copiers.get(store.path)
        if copier is None:
            copier = self._copiers[store.path] = Copier(self._database.connect(), store.path)
        position = await self._database.apart(lambda: copier.copy(source, epoch, after=after, limit=limit))
        if position is not None:
            self._refresh()
        return position

    async def receive(self, topics: Sequence[TopicSpec]) -> None:
        """Make topics to be filled; see `transfer`."""
        await self.ensure(topics)

    async def take(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        """Append records of another log, with their times."""
        await self._submit(lambda: self._take(topic, partition, records))

    def _take(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        first, base = self._reserve(topic, partition, len(records))
        self._publish((topic, partition), base, [record._replace(offset=first + i) for i, record in enumerate(records)])

    async def complete(self, topics: Sequence[str]) -> None:
        """Nothing: topics that were filled are as others are."""

    def _place(self, topic: str, partition: int) -> int:
        """Return the place of a partition's offset 0."""
        place = self._places.get((topic, partition))
        if place is None:
            raise ConfigurationError(f"topic {topic!r} has no partition {partition}; it has {self._partitions.get(topic, 0)}")
        return place

    def _number(self, topic: str) -> int:
        number = self._ids.get(topic)
        if number is None:
            raise ConfigurationError(f"topic {topic!r} does not exist; topics are created at start from what services declare")
        return number

    async def put(self, topic: str, rows: Sequence[tuple[str | None, bytes]], *, partition: int | None = None) -> None:
        """Append records of a foreign producer."""
        self._number(topic)
        places: dict[int, list[tuple[str | None, bytes, int]]] = {}
        for key, value in rows:
            place = partition if partition is not None else partition_of(key or "", self._partitions[topic])
            places.setdefault(place, []).append((key, value, 0))
        await self._submit(lambda: [self._insert(topic, place, records, now=time.time_ns() // 1000) for place, records in places.items()])

    async def published(self, source: str, epoch: int) -> int:
        """Return the last position of a source that the log has."""
        found = self._read("published", (source, epoch))
        return found[0][0] if found else 0

    async def first_since(self, topic: str, *, micros: int) -> tuple[int, ...]:
        """Return per partition where the records of a time and later begin; looks at few of them, because append times only grow."""
        info = next((info for info in await self.topics() if info.name == topic), None)
        if info is None:
            raise ConfigurationError(f"topic {topic!r} does not exist")
        return tuple(
            bisect_left(range(end), micros, lo=first, key=partial(self._at, self._place(topic, partition)))
            for partition, (first, end) in enumerate(info.ranges)
        )

    def _at(self, place: int, offset: int) -> int:
        """Return when the record at an offset was appended."""
        return self._read("appended_at", (place | offset,))[0][0]

    async def sources(self) -> list[tuple[str, int, int, int]]:
        """Return every source with its epoch, position and number of rows."""
        return [(s, e, p, n) for s, e, p, n in self._read("sources", ())]

    async def begin_epoch(self, source: str, epoch: int, *, position: int, rows: int) -> None:
        """Let a source go on above a journal position; see `epoch`."""
        await self._submit(lambda: self._begin_epoch(source, epoch, position, rows))

    def _begin_epoch(self, source: str, epoch: int, position: int, rows: int) -> None:
        found = self._write("published", (source, epoch))
        if found and found[0] != (position, rows):
            at, count = found[0]
            raise Recovery(f"{source}: epoch {epoch} stands at position {at} with {count} rows, not at {position} with {rows}")
        self._write("move_relay", (source, epoch, position, rows))

    async def read(self, topic: str, partition: int, *, offset: int, limit: int) -> list[Record]:
        """Return the next records of a partition."""
        recent = self._recent.read((topic, partition), offset, limit)
        if recent is not None:
            return recent
        records = rows_of(Record, self._read("read", (self._place(topic, partition), offset, limit)))
        cut_by_bytes(records, READ_BYTES_MAX)
        if records and records[0][0] != offset:
            raise Recovery(f"{topic}/{partition}: offset {offset} is gone, the log goes on at {records[0][0]}")
        return records

    async def topics(self) -> list[TopicInfo]:
        """Return all topics with their ranges."""
        found: dict[str, list[Any]] = {}
        for row in self._read("topics", ()):
            found.setdefault(row[0], []).append(row)
        return [
            TopicInfo(name=name, identity=rows[0][1], retention_s=rows[0][2], ranges=tuple((r[4], r[5]) for r in rows))
            for name, rows in found.items()
        ]

    async def counts(self) -> dict[tuple[str, int], int]:
        """Return how many records each partition really holds (reads everything; for the ledger)."""
        return {(topic, partition): count for topic, partition, count in self._read("count_records", ())}

    async def check(self) -> list[tuple[str, bool, str]]:
        """Return findings about the file's settings and health."""
        return self._database.check()

    async def expire(self, *, now_micros: int) -> int:
        """Remove the records that are older than their topic's retention."""
        return await self._submit(lambda: self._expire(now_micros))

    def _expire(self, now_micros: int) -> int:
        gone = 0
        for partition_id, first, keep in self._write("expired", (now_micros,)):
            if keep > first:
                self._write("expire", (partition_id, keep))
                self._write("move_first", (keep, partition_id))
                gone += keep - first
        self._recent.forget()
        return gone

    def ends(self) -> Mapping[tuple[str, int], int]:
        """Return the newest known end offset per (topic, partition)."""
        return self._ends

    def current(self) -> bool:
        """Return True: a log in a file does not go away."""
        return True

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back whenever `ends` moved, until the returned function is called."""
        self._watchers.append(callback)
        return lambda: self._watchers.remove(callback)

    async def close(self) -> None:
        """Finish the appends in hand and close the file."""
        self._closing = True
        self._wake.set()
        if self._flusher is not None:
            await asyncio.gather(self._flusher, return_exceptions=True)
        for copier in self._copiers.values():
            copier.close()
        await self._database.finish()

    def _load_ids(self) -> None:
        self._ids = dict(self._read("topic_ids", ()))

    def _refresh(self) -> None:
        found = self._read("ends", ())
        self._places = {(topic, partition): number << 40 for topic, partition, _, number in found}
        ends = {(topic, partition): end for topic, partition, end, _ in found}
        if ends == self._ends:
            return
        if len(ends) != len(self._ends):
            self._load_ids()
            self._partitions = {topic: sum(1 for t, _ in ends if t == topic) for topic in self._ids}
        self._ends = ends
        self._tell()

    def _tell(self) -> None:
        for watcher in list(self._watchers):
            watcher()

    async def _submit(self, work: Callable[[], Any]) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append((work, future))
        self._wake.set()
        return await future

    async def _flush_forever(self) -> None:
        while self._queue or not self._closing:
            await self._wake.wait()
            self._wake.clear()
            batch, self._queue = self._queue, []
            if batch:
                await self._flush(batch)

    async def _flush(self, batch: list[Append]) -> None:
        """Run everything in one transaction; when that fails, each alone, so that one bad append fails alone."""
        try:
            results = await self._transact([work for work, _ in batch])
        except Exception as error:  # noqa: BLE001  # whatever it is, the appenders get it
            if len(batch) == 1:
                _settle(batch[0][1], error)
                return
            for one in batch:
                await self._flush([one])
            return
        for (_, future), result in zip(batch, results, strict=True):
            _settle(future, result)
        inserted, self._inserted = self._inserted, []
        if inserted:
            for place, records in inserted:
                self._recent.add(place, records)
                self._ends[place] = records[-1].offset + 1
            self._tell()

    async def _transact(self, works: Sequence[Callable[[], Any]]) -> list[Any]:
        await self._database.begin()
        self._inserted = []
        try:
            with self._database.translated():
                results = [work() for work in works]
        except BaseException:
            self._database.rollback()
            raise
        await self._database.commit()
        return results

    def _write(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        return self._database.writer.execute(Q[query], values).fetchall()

    def _read(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        with self._database.translated():
            return self._database.reader.execute(Q[query], values).fetchall()


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


__all__ = ["SqliteLog"]
