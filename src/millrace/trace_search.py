"""Finding the messages of a conversation without an index, in the log and in what is not published yet.

    a fact's id names a row      `<service>-<epoch>-<position>` is the journal's key, so a cause is one look-up, and so is its cause
    a stream has an index        the events of an aggregate are found by its name, which is kind and key
    positions rise in the log    records of one source lie in the order of its journal in each partition: a search by halves finds one
    time rises in the log        what a message has caused was appended after it, so each partition is read from that moment on
    a key has a partition        most messages of a conversation have its key: these partitions are read first

What is read is bounded by a number of records. `Searched` says how many it was, and names the partitions that were not read to their end,
so nobody takes "not found" for "not there".

Neighbours: `message_trace` asks; everything is read through an `Inspection`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from millrace.aggregate import Aggregate
from millrace.errors import DecodeError, Recovery
from millrace.foreign import Original, Reader
from millrace.inspection import Inspection
from millrace.partitioning import partition_of
from millrace.ports import Record, Store, TopicInfo
from millrace.serialization import Envelope, encode_json, open_envelope

LIMIT = 100_000
"""How many records are read unless somebody says otherwise."""
TOGETHER = 1000
WINDOW = 64
SKEW_MICROS = 5_000_000
"""How much clocks of the machines that append may differ."""
FACT = re.compile(r"(?P<service>[a-z][a-z0-9-]*)-(?P<epoch>[0-9]{1,9})-(?P<position>[0-9]{1,18})")


class Found(msgspec.Struct):
    """A message and where it lies: in the log, or at a journal's position only (`offset` None)."""

    envelope: Envelope
    topic: str
    partition: int
    offset: int | None = None
    at: int | None = None
    """When it was appended, in microseconds."""


class Searched(msgspec.Struct, frozen=True):
    """What was looked at: `unread` names the partitions where more may lie, from which offset on."""

    records: int
    complete: bool
    unread: tuple[str, ...] = ()


class Search:
    """Looks for messages.

    Args:
        inspection: what is stored.
        limit: how many records may be read.
    """

    def __init__(self, inspection: Inspection, *, limit: int = LIMIT) -> None:
        self._inspection = inspection
        self._log = inspection.log.log
        self._reader = Reader(inspection.app.catalogue)
        self._left = limit
        self._read = 0
        self._unread: list[str] = []
        self._infos: dict[str, TopicInfo] = {}

    @property
    def searched(self) -> Searched:
        """Return what was looked at so far."""
        return Searched(self._read, not self._unread, tuple(self._unread))

    async def open(self) -> None:
        """Ask which topics there are."""
        self._infos = {info.name: info for info in await self._log.topics() if not info.name.startswith("__")}

    async def fact(self, name: str) -> Found | None:
        """Return the message of a fact's id from its journal, None where the id is none of a fact or the row is gone."""
        parts = FACT.fullmatch(name)
        store = self._inspection.stores.get(parts["service"]) if parts else None
        if parts is None or store is None:
            return None
        position = int(parts["position"])
        rows, _ = await store.reader.journal.tail(position - 1, limit=1)
        if not rows or rows[0].position != position:
            return None
        envelope = open_envelope(rows[0].value, bytes_max=None)
        if envelope.id != name:
            return None  # another epoch's row
        return Found(envelope, rows[0].topic, rows[0].partition)

    async def stream(self, key: str) -> list[Found]:
        """Return the events of every aggregate of a key, oldest first in each."""
        found: list[Found] = []
        for service, store in self._inspection.services():
            for aggregate in service.build_aggregates(self._inspection.app.catalogue):
                found += await self._events(store, aggregate, key)
        return found

    async def _events(self, store: Store, aggregate: Aggregate, key: str) -> list[Found]:
        rows = await store.reader.journal.streams({aggregate.stream_of(key): 0})
        found: list[Found] = []
        for row in rows:
            envelope = open_envelope(row.value, bytes_max=None)
            fact = await self.fact(envelope.id)
            found.append(fact or Found(envelope, "", 0))
        return found

    async def place(self, found: Found) -> None:
        """Find a message of ours in the log, and note offset and time; nothing is noted where it is not there."""
        info = self._infos.get(found.topic)
        sequence = found.envelope.sequence
        if info is None or not sequence.isdigit() or found.partition >= len(info.ranges):
            return
        wanted, (low, high) = int(sequence), info.ranges[found.partition]
        while low < high:
            middle = (low + high) // 2
            met = await self._first_of(found, middle)
            if met is None or met.position > wanted:
                high = middle
            elif met.position < wanted:
                low = met.offset + 1
            else:
                found.offset, found.at = met.offset, met.at
                return

    async def _first_of(self, found: Found, offset: int) -> Record | None:
        """Return the first record of the same source and epoch in a window from an offset on."""
        for record in await self._records(found.topic, found.partition, offset, WINDOW):
            if record.position > 0:
                envelope = self._open(found.topic, found.partition, record)
                if envelope is not None and (envelope.source, envelope.epoch) == (found.envelope.source, found.envelope.epoch):
                    return record
        return None

    async def _records(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        try:
            records = await self._log.read(topic, partition, offset=offset, limit=limit)
        except Recovery:
            return []  # they have expired while we looked
        self._read += len(records)
        self._left -= len(records)
        return records

    def _open(self, topic: str, partition: int, record: Record) -> Envelope | None:
        try:
            original = Original(record.value, record.headers or (), record.at)
            envelope = self._reader.open(original, topic=topic, place=f"{topic}/{partition}/{record.offset}")
        except DecodeError:
            return None
        if envelope is not None and record.key and not (envelope.partitionkey or envelope.subject):
            envelope.partitionkey = record.key
        return envelope

    async def record(self, topic: str, partition: int, offset: int) -> Found | None:
        """Return the message at a place of the log."""
        info = self._infos.get(topic)
        if info is None or partition >= len(info.ranges) or not info.ranges[partition][0] <= offset < info.ranges[partition][1]:
            return None
        for record in await self._records(topic, partition, offset, 1):
            envelope = self._open(topic, partition, record) if record.position >= 0 else None
            if envelope is not None and record.offset == offset:
                return Found(envelope, topic, partition, offset, record.at)
        return None

    async def mentions(self, text: str, *, key: str, since: int | None) -> list[Found]:
        """Return the messages that name a text as their id, conversation or key, as far as the limit allows.

        Args:
            text: what is looked for.
            key: whose partitions are read first.
            since: append time from which on they are read, in microseconds; None: the newest records, half of what the limit allows.
        """
        first = [(name, partition_of(key, len(info.ranges))) for name, info in self._infos.items() if info.ranges]
        others = [(name, p) for name, info in self._infos.items() for p in range(len(info.ranges)) if (name, p) not in set(first)]
        found: list[Found] = []
        for places in (first, others):
            begins = await self._beginnings(places, since)
            for number, (place, begin) in enumerate(begins.items()):
                share = self._left // 2 // (len(begins) - number) if since is None else self._left
                found += await self._scan(place, begin, text, share)
        return found

    async def _beginnings(self, places: Iterable[tuple[str, int]], since: int | None) -> dict[tuple[str, int], int]:
        offsets: dict[str, tuple[int, ...]] = {}
        if since is not None:
            for topic in {topic for topic, _ in places}:
                offsets[topic] = await self._inspection.log.administration.first_since(topic, micros=since - SKEW_MICROS)
        return {place: offsets[place[0]][place[1]] if place[0] in offsets else -1 for place in places}

    async def _scan(self, place: tuple[str, int], begin: int, text: str, share: int) -> list[Found]:
        """Read a partition from an offset on, or (-1) its last records, as many as it may be."""
        first, end = self._infos[place[0]].ranges[place[1]]
        if begin < 0:
            begin = max(first, end - share)
            if begin > first:
                self._unread.append(f"{place[0]}/{place[1]} before offset {begin}")
        offset, needle, found = max(begin, first), encode_json(text)[1:-1], list[Found]()
        while offset < end:
            if share <= 0 or self._left <= 0:
                self._unread.append(f"{place[0]}/{place[1]} from offset {offset}")
                break
            records = await self._records(*place, offset, min(TOGETHER, share, self._left))
            if not records:
                break
            for record in records:
                if (record.position >= 0 and needle in record.value) or record.headers:
                    envelope = self._open(*place, record)
                    if envelope is not None and text in {envelope.id, envelope.correlationid, envelope.partitionkey or envelope.subject}:
                        found.append(Found(envelope, *place, record.offset, record.at))
            share -= len(records)
            offset = records[-1].offset + 1
        return found

    async def unpublished(self, text: str) -> list[Found]:
        """Return the messages of a conversation, id or key that wait in journals; at most a tenth of the limit is read for each."""
        there = {(source, epoch): position for source, epoch, position, _ in await self._inspection.log.administration.sources()}
        found: list[Found] = []
        for service, store in self._inspection.services():
            after = there.get((self._inspection.source_of(service.name), await store.epoch()), 0)
            found += await self._waiting(store, after, text)
        return found

    async def _waiting(self, store: Store, after: int, text: str) -> list[Found]:
        needle, found, left = encode_json(text)[1:-1], list[Found](), max(1, self._left // 10)
        while True:
            rows, upto = await store.reader.journal.tail(after, limit=min(TOGETHER, left))
            if upto == after:
                return found
            self._read += len(rows)
            self._left -= len(rows)
            left -= upto - after
            for row in rows:
                if needle in row.value:
                    envelope = open_envelope(row.value, bytes_max=None)
                    if text in {envelope.id, envelope.correlationid, envelope.partitionkey}:
                        found.append(Found(envelope, row.topic, row.partition))
            after = upto
            if left <= 0:
                self._unread.append(f"journal of {store.name} from position {after + 1}")
                return found


__all__ = ["LIMIT", "Found", "Search", "Searched"]
