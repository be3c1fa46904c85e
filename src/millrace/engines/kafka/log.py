"""The log of an installation on Kafka.

Theory. Records, order, copies and retention are the brokers'. Three things are ours, each in a module that opens with its own theory:
`relaying` (which process publishes a source, how far, and how nothing comes twice or not at all), `fetcher` (one fetch of a partition for
all who read it) and `topics` (made as declared, never changed). Nothing here blocks the event loop: clients live in threads.

A record's journal position is a header that relays of the toolkit set. Foreign producers set none; one that is allowed to write a topic
and forges the header could make real records look like repeats, so on a cluster that others use too, rights decide who may write: a
service alone its own topics, and whoever commands it its topic of commands.

    brokers away              appends and reads raise `unreachable` after a few seconds and are tried again by who asked
    one of three away         the client moves to the new leader; an append waits meanwhile
    a right is missing        `unauthorized`, with the broker's text
    credentials wrong         `unauthorized` at `open`

Neighbours: implements `Log`, `LogFeed` and `LogAdministration` of `ports`; `engine` makes it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from millrace.engines.kafka.check import check_cluster
from millrace.engines.kafka.client import Client
from millrace.engines.kafka.driver import Codes, OffsetSpec, TopicPartition
from millrace.engines.kafka.fetcher import Place, Reader
from millrace.engines.kafka.outage import Outage
from millrace.engines.kafka.producer import Outgoing, RowProducer
from millrace.engines.kafka.relaying import MARKS, Reach, Relays
from millrace.engines.kafka.scanning import scan
from millrace.engines.kafka.topics import ENDS_S, Topics
from millrace.engines.kafka.transfer import Filling
from millrace.errors import StoreUnavailable
from millrace.partitioning import partition_of
from millrace.ports import JournalRow, Record, TopicInfo, TopicSpec

log = logging.getLogger("millrace")

FRESH_S = 10.0
MARK_SETTINGS = {
    "cleanup.policy": "compact",
    "segment.bytes": str(4 << 20),
    "min.cleanable.dirty.ratio": "0.1",
    "message.timestamp.type": "LogAppendTime",
}


class KafkaLog:
    """The log of an installation.

    Args:
        client: the brokers.
        reading: only look: create and publish nothing, and show the moment of `open`.
    """

    def __init__(self, client: Client, *, reading: bool = False) -> None:
        self._client = client
        self._settings = client.settings
        self._reading = reading
        self._marks: Place = (self._settings.internal(MARKS), 0)
        self._marks_read = 0
        self._outage = Outage()
        self._trouble: str | None = None
        self._marks_trouble: str | None = None
        self._said = ""
        self._marks_moved = asyncio.Event()
        self._watchers: list[Callable[[], None]] = []
        self._looker: asyncio.Task[None] | None = None
        self._moment: list[TopicInfo] | None = None
        self._opened = False
        self._kept: frozenset[Place] = frozenset()
        self._topics = Topics(client, moved=self._tell)
        self._producer = RowProducer(client)
        self._filling = Filling(client, self._topics)
        self._reader: Reader | None = None
        reach = Reach(
            fresh=self._fresh, ends=lambda: self._topics.ends, ask=self._ask_ends, scan=self._scan, acknowledged=self._topics.move
        )
        self._relays = Relays(self._settings, self._producer, reach)

    async def open(self) -> None:
        """Find the brokers and what they have.

        Raises:
            StoreUnavailable: they cannot be reached, refuse us, or (only looking) have nothing of this installation.
        """
        if not self._reading:
            self._producer.start()
        await self._topics.load()
        first = await self._first_mark()
        reader = self._reader = Reader(self._client, arrived=self._arrived)
        self._marks_read = first
        reader.front.ask(self._marks, first)
        self._keep()
        reader.start()
        if not self._reading:
            self._relays.start()
        await self._fresh()
        self._opened = True
        self._outage = Outage()
        if self._reading:
            self._moment = await self._topics.describe()
        else:
            self._looker = asyncio.create_task(self._look_forever(), name="kafka ends")

    async def _first_mark(self) -> int:
        """Return where the marks begin; makes their topic where it is absent."""
        if self._marks[0] in self._topics.internal:
            return await self._mark_offset(OffsetSpec.earliest())
        if self._reading:
            detail = "there is nothing of this installation; the application makes it at its first start"
            raise StoreUnavailable(self._client.name, reason="absent", detail=detail)
        await self._topics.create({MARKS: MARK_SETTINGS}, {MARKS: 1}, internal=True)
        return 0

    async def _mark_offset(self, which: Any) -> int:
        return max((await self._client.offsets({TopicPartition(*self._marks): which})).values(), default=0)

    async def _fresh(self) -> None:
        """Wait until the marks that are there now were folded."""
        if self._moment is not None:
            return
        end = await self._mark_offset(OffsetSpec.latest())
        began = time.monotonic()
        while self._marks_read < end:
            self._client.check(since=began)
            if time.monotonic() > began + FRESH_S:
                raise self._client.silent("reading the marks of relays")
            moved = asyncio.ensure_future(self._marks_moved.wait())
            await asyncio.wait([moved], timeout=0.25)
            moved.cancel()

    def _arrived(self) -> None:
        """There are new records in memory."""
        if self._moment is not None or self._reader is None:
            return
        try:
            while found := self._reader.front.take(self._marks, self._marks_read, 5000):
                self._marks_read = found[-1][0] + 1
                ends = self._relays.fold(found)
                if self._opened:  # marks from before may tell of topics that were created anew since; their ends were asked for
                    self._topics.move(ends)
                self._marks_moved.set()
                self._marks_moved = asyncio.Event()
            self._marks_trouble = None
        except StoreUnavailable as error:  # streams go on by themselves; who waits for marks is told by `_fresh`
            self._marks_trouble = str(error)
        self._topics.move(self._reader.front.reached(self._settings.namespace))

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        """Create the topics that do not exist."""
        await self._topics.ensure(topics)

    async def append(self, source: str, epoch: int, rows: Sequence[JournalRow], *, after: int) -> int:
        """Append rows of a source; see the port. Of no rows: return from which position on a relay has to go on."""
        for _, topic, partition, _, _ in rows:
            self._topics.place(topic, partition)
        return await self._relays.append(f"{source}@{epoch}", rows, after=after)

    async def published(self, source: str, epoch: int) -> int:
        """Return the last position up to which everything of a source is here."""
        return (await self._relays.published(f"{source}@{epoch}"))[0]

    async def first_since(self, topic: str, *, micros: int) -> tuple[int, ...]:
        """Return per partition where the records of a time and later begin, as the brokers know it, to the millisecond."""
        places = [(topic, partition) for partition in range(self._topics.partitions(topic))]
        found = await self._topics.offsets(places, OffsetSpec.for_timestamp(-(-micros // 1000)))
        ends = await self._topics.offsets(places, OffsetSpec.latest())
        return tuple(found[place] if found.get(place, -1) >= 0 else ends[place] for place in places)

    async def sources(self) -> list[tuple[str, int, int, int]]:
        """Return every source with its epoch, position and number of rows."""
        await self._fresh()
        found: list[tuple[str, int, int, int]] = []
        for key in sorted(self._relays.standings):
            source, _, epoch = key.rpartition("@")
            found.append((source, int(epoch), *self._relays.known(key)))
        return found

    async def begin_epoch(self, source: str, epoch: int, *, position: int, rows: int) -> None:
        """Let a source go on above a journal position; see `epoch`."""
        await self._relays.begin(f"{source}@{epoch}", position, rows)

    async def read(self, topic: str, partition: int, *, offset: int, limit: int) -> list[Record]:
        """Return the next records of a partition, and holes where offsets hold none."""
        place = self._topics.place(topic, partition)
        if limit <= 0 or offset >= self._topics.ends.get(place, 0) or self._reader is None:
            return []
        return await self._reader.read((self._settings.topic(topic), partition), offset, limit)

    async def topics(self) -> list[TopicInfo]:
        """Return all topics with their ranges."""
        return await self._topics.describe() if self._moment is None else self._moment

    async def put(self, topic: str, rows: Sequence[tuple[str | None, bytes]], *, partition: int | None = None) -> None:
        """Append records of a foreign producer."""
        count = self._topics.partitions(topic)
        outgoing = [
            Outgoing(
                self._settings.topic(topic),
                partition if partition is not None else partition_of(key or "", count),
                None if key is None else key.encode(),
                value,
                None,
            )
            for key, value in rows
        ]
        if outgoing:
            self._acknowledged(await self._producer.send(outgoing))

    async def receive(self, topics: Sequence[TopicSpec]) -> None:
        """Make topics to be filled; see `transfer`."""
        await self._filling.receive(topics)

    async def take(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        """Append records of another log."""
        await self._filling.take(topic, partition, records)

    async def complete(self, topics: Sequence[str]) -> None:
        """Let topics be what others are."""
        await self._filling.complete(topics)

    def _acknowledged(self, ends: Mapping[Place, int]) -> None:
        prefix = len(self._settings.namespace)
        self._topics.move({(topic[prefix:], partition): end for (topic, partition), end in ends.items()})

    async def expire(self, *, now_micros: int) -> int:
        """Remove what is older than its topic's retention at once; brokers do it by themselves, a segment at a time."""
        gone = 0
        for info in await self._topics.describe():
            if info.retention_s is None:
                continue
            cutoff = max(0, now_micros // 1000 - info.retention_s * 1000)
            places = [(info.name, partition) for partition in range(len(info.ranges))]
            kept = await self._topics.offsets(places, OffsetSpec.for_timestamp(cutoff))
            ends = {place: (end if kept.get(place, -1) < 0 else kept[place]) for place, (_, end) in zip(places, info.ranges, strict=True)}
            old = {place: end for place, end in ends.items() if end > info.ranges[place[1]][0]}
            if old and await self._delete(old):
                gone += sum(end - info.ranges[place[1]][0] for place, end in old.items())
        return gone

    async def _delete(self, ends: Mapping[Place, int]) -> bool:
        asked = [TopicPartition(self._settings.topic(topic), partition, end) for (topic, partition), end in ends.items()]
        refused = [Codes.TOPIC_REFUSED, Codes.POLICY_VIOLATION]
        done = await self._client.answers(self._client.admin.delete_records(asked), what="removing old records", allowed=refused)
        return bool(done)  # without the right to it, the brokers do it later

    async def counts(self) -> dict[tuple[str, int], int]:
        """Return how many offsets of each partition are there, holes included; reads everything to prove it (for the ledger)."""
        ranges: dict[Place, tuple[int, int]] = {}
        for info in await self.topics():
            ranges |= {(self._settings.topic(info.name), p): found for p, found in enumerate(info.ranges)}
        await scan(self._client, ranges, _drop)
        prefix = len(self._settings.namespace)
        return {(topic[prefix:], p): end - first for (topic, p), (first, end) in ranges.items()}

    async def check(self) -> Iterable[tuple[str, bool, str]]:
        """Return findings about brokers and topics."""
        return await check_cluster(self._client, self._topics)

    async def _ask_ends(self, places: Iterable[Place]) -> dict[Place, int]:
        return await self._topics.offsets(list(places), OffsetSpec.latest())

    async def _scan(self, floors: Mapping[Place, int]) -> dict[Place, list[Record]]:
        """Read partitions from offsets on, up to their ends."""
        ends = await self._ask_ends(floors)
        found: dict[Place, list[Record]] = {place: [] for place in floors}
        prefix = len(self._settings.namespace)
        ranges = {(self._settings.topic(topic), p): (offset, ends.get((topic, p), 0)) for (topic, p), offset in floors.items()}
        await scan(self._client, ranges, lambda place, record: found[place[0][prefix:], place[1]].append(record))
        return found

    def follow(self, places: Iterable[Place]) -> None:
        """Fetch these partitions though nobody has read them yet: they are owned here."""
        kept = frozenset((topic, p) for topic, p in places if p < self._topics.known.get(topic, 0))
        if kept != self._kept:
            self._kept = kept
            self._keep()

    def _keep(self) -> None:
        if self._reader is None:
            return
        front = self._reader.front
        named = {(self._settings.topic(topic), p): self._topics.ends.get((topic, p), 0) for topic, p in self._kept}
        front.keep(frozenset(named) | {self._marks})
        for place, end in named.items():
            if front.reach(place) is None:
                front.ask(place, end)

    def ends(self) -> Mapping[tuple[str, int], int]:
        """Return the newest known end offset per (topic, partition)."""
        return self._topics.ends

    def current(self) -> bool:
        """Return whether the brokers answer, and have not just come back."""
        return self._outage.over

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back whenever `ends` moved, until the returned function is called."""
        self._watchers.append(callback)
        return lambda: self._watchers.remove(callback)

    def _tell(self) -> None:
        for watcher in list(self._watchers):
            watcher()

    async def _look_forever(self) -> None:
        """Ask for the ends, for what foreign producers append to partitions that nobody here reads."""
        while True:
            await asyncio.sleep(ENDS_S)
            began = time.monotonic()
            try:
                await self._topics.look()
                self._outage.seen(began)
                self._trouble = None
            except StoreUnavailable as error:
                self._trouble = str(error)
                log.debug("looking at the ends: %s", error)
            if self._producer.refused is not None:
                await self._relays.repeat()
            self._say_refusal()
            self._tell()

    def _say_refusal(self) -> None:
        """Say once in the log that a right is missing which nobody else would be told of."""
        found = self.trouble() or ""
        if "unauthorized" in found and found != self._said:
            log.warning("%s; trying again", found)
        self._said = found

    def trouble(self) -> str | None:
        """Return what kept the last look at the topics from being had, or the marks of relays from being read or written."""
        return "; ".join(filter(None, [self._trouble, self._marks_trouble, self._producer.refused])) or None

    async def close(self) -> None:
        """Let go of the sources and end the threads."""
        await self._relays.stop()
        await self._end()

    async def _end(self) -> None:
        if self._looker is not None:
            self._looker.cancel()
            await asyncio.gather(self._looker, return_exceptions=True)
        self.sever()
        if self._reader is not None:
            await asyncio.to_thread(self._reader.join)

    def sever(self) -> None:
        """End without a word, as a killed process does."""
        self._relays.forget()
        self._producer.stop()
        self._filling.stop()
        if self._reader is not None:
            self._reader.stop()


def _drop(place: Place, record: Record) -> None:
    """Read a record and forget it."""


__all__ = ["KafkaLog"]
