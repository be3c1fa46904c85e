"""Reading: one fetch of a partition serves every processor of this process that reads it.

Theory. Processors ask for records from an offset on, each from its own, and most of them from the newest. A `Stream` holds consecutive
records of one partition, from `first` up to `next`; it grows at the end as the brokers answer and loses what lies far behind. A `Fetcher`
is a consumer in a thread of its own, without a group, with at most one stream per partition. There are two:

    front    follows the readers that are furthest; a reader asks it first
    back     serves whoever has fallen out of the front's memory, moved to wherever it is asked for: new builds, slow processors

A stream fetches no further than `AHEAD` of what was asked for, then its partition is paused, so a slow processor costs a bounded
memory and no rebalance: there is no group. All streams share `MEMORY`.

Offsets need not be dense: transactions of foreign producers leave markers, compaction leaves gaps. A hole is told, not implied: as a
`Record` without value at its last offset, with minus its size as position. So every offset is accounted for, and a record that somebody
swallows is missed by the ledger. The end of a partition is a hole too, where nothing but markers comes before it.

Committed records only (`isolation.level=read_committed`).

Crash points: none, nothing here is durable. When the brokers are away, streams stand still and go on by themselves.

Rejected: one consumer per processor (each would fetch and decode the same bytes), a group per processor for reading (positions of truth
are in the stores), `consume(n, timeout)` (it waits for n or the timeout, whichever comes late: poll one, then drain).

Neighbours: `log` reads through `Reader`; threads tell the event loop by `call_soon_threadsafe` only.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable

from millrace.engines.kafka.client import RECORD_MAX, Client
from millrace.engines.kafka.driver import Codes, Consumer, Failure, KafkaException, Message, TopicPartition
from millrace.errors import Recovery
from millrace.ports import Record
from millrace.serialization import CONTENT_TYPE, cut_by_bytes

Place = tuple[str, int]
HEADER = "millrace"
"""The header of a record that a relay appended: its journal position in digits."""
_CONTENT = ("content-type", CONTENT_TYPE.encode())
"""By this header CloudEvents' Kafka binding tells structured mode, and with it any SDK."""

MEMORY = 96 << 20
STREAM_MIN = 512 << 10
AHEAD = 20_000
READ_BYTES_MAX = 8 << 20
POLL_S = 0.02
PATIENCE_S = 5.0
METADATA_S = 2.0
UNREAD_S = 60.0
"""A partition that nobody has read for so long, and nobody here owns, is fetched no more."""

log = logging.getLogger("millrace")


class Stream:
    """Consecutive records of one partition."""

    __slots__ = ("end", "error", "first", "next", "paused", "read_at", "records", "size", "wanted")

    def __init__(self, offset: int) -> None:
        self.first = self.next = self.wanted = offset
        self.records: list[Record] = []
        self.size = 0
        self.end = -1  # where the partition ended when the broker last said so
        self.paused = False
        self.error: Failure | None = None
        self.read_at = time.monotonic()

    def take(self, offset: int, limit: int) -> list[Record] | None:
        """Return records from an offset on, None when they are not here."""
        if not self.first <= offset <= self.next:
            return None
        self.read_at = time.monotonic()
        at = bisect_left(self.records, offset, key=_offset_of)
        found = self.records[at : at + limit]
        cut_by_bytes(found, READ_BYTES_MAX)
        self.wanted = max(self.wanted, found[-1][0] + 1 if found else offset)
        if found and found[0][4] < 0:
            found[0] = hole(offset, found[0][0] + 1)
        return found

    def add(self, record: Record) -> None:
        """Put a record at the end, and the hole before it."""
        offset = record[0]
        if offset < self.next:
            return
        if offset > self.next:
            self.records.append(hole(self.next, offset))
        self.records.append(record)
        self.size += _size_of(record)
        self.next = offset + 1

    def reach(self, end: int) -> None:
        """There is nothing more before `end`."""
        if end > self.next:
            self.records.append(hole(self.next, end))
            self.next = end
        self.end = end

    def ahead(self) -> int:
        """Return how many records lie beyond what was asked for."""
        return len(self.records) - bisect_left(self.records, self.wanted, key=_offset_of)

    def trim(self, bytes_max: int) -> None:
        """Forget the older half of what was asked for, where there is too much."""
        if self.size <= bytes_max:
            return
        behind = bisect_left(self.records, self.wanted, key=_offset_of)
        gone = self.records[: max(behind // 2, min(behind, 1))]
        if gone:
            del self.records[: len(gone)]
            self.size -= sum(_size_of(record) for record in gone)
            self.first = gone[-1][0] + 1


def _offset_of(record: Record) -> int:
    return record[0]


def _size_of(record: Record) -> int:
    size, headers = len(record[2]) + 200, record[5]
    if headers is not None:
        size += sum(len(name) + len(value or b"") for name, value in headers)
    return size


def hole(first: int, end: int) -> Record:
    """Return what stands for offsets [first, end) that hold no record."""
    return Record(end - 1, None, b"", 0, first - end)


class Fetcher:
    """A consumer in a thread, with a stream per partition that is asked for.

    Args:
        client: the brokers.
        name: of the thread.
        changed: called on the event loop when streams have grown or failed.
    """

    def __init__(self, client: Client, name: str, *, changed: Callable[[], None]) -> None:
        self._client = client
        self._name = name
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._streams: dict[Place, Stream] = {}
        self._asked: dict[Place, int] = {}
        self._orders: deque[tuple[str, Place, int]] = deque()
        self._kept: frozenset[Place] = frozenset()
        self._topics: set[str] = set()
        self._stopping = False
        self._told = False
        self._thread = threading.Thread(target=self._run, name=f"kafka {name}", daemon=True)
        self._consumer = client.made(
            Consumer,
            group_id=f"{client.settings.namespace}__millrace.readers",
            client_id=f"millrace-{name}",
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            enable_partition_eof=True,
            isolation_level="read_committed",
            auto_offset_reset="error",
            fetch_wait_max_ms=100,
            fetch_error_backoff_ms=100,
            fetch_queue_backoff_ms=50,
            queued_min_messages=AHEAD,
            queued_max_messages_kbytes=16384,
            message_max_bytes=RECORD_MAX,
            topic_metadata_refresh_interval_ms=2000,
        )

    def start(self) -> None:
        """Begin to fetch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; the thread closes the consumer."""
        self._stopping = True

    def join(self) -> None:
        """Wait until the thread has ended; blocks."""
        if self._thread.is_alive():
            self._thread.join(10)

    def take(self, place: Place, offset: int, limit: int) -> list[Record] | None:
        """Return records from an offset on, None when this stream does not have them.

        Raises:
            StoreUnavailable: the broker refuses them.
            Recovery: the offset is not there any more.
        """
        with self._lock:
            stream = self._streams.get(place)
            found = None if stream is None else stream.take(offset, limit)
            resumed = stream is not None and stream.paused and found is not None and stream.ahead() < AHEAD // 2
            error = None if found or stream is None or stream.wanted != offset else stream.error
        if resumed:
            self._orders.append(("resume", place, 0))
        if error is not None:
            if error.code() == Codes.NO_OFFSET:
                raise Recovery(f"{place[0]}/{place[1]}: offset {offset} is gone: {error.str()}")
            raise self._client.unavailable(error, what=f"reading {place[0]}/{place[1]}", right=f"READ on topic {place[0]}")
        return found

    def reach(self, place: Place) -> tuple[int, int] | None:
        """Return the next offset of a stream and where the partition ended; None without a stream."""
        stream = self._streams.get(place)
        return None if stream is None else (stream.next, stream.end)

    def reached(self, namespace: str) -> dict[Place, int]:
        """Return the next offset of every stream of a namespace, by the names that services know."""
        prefix = len(namespace)
        with self._lock:
            return {(topic[prefix:], p): stream.next for (topic, p), stream in self._streams.items()}

    def will_have(self, place: Place, offset: int) -> bool:
        """Return whether a stream will come to an offset by itself."""
        stream = self._streams.get(place)
        return stream is not None and not stream.paused and stream.first <= offset < stream.next + AHEAD

    def ask(self, place: Place, offset: int) -> None:
        """Move the stream of a partition to an offset."""
        if self._asked.get(place) != offset:
            self._asked[place] = offset
            self._orders.append(("move", place, offset))

    def keep(self, places: frozenset[Place]) -> None:
        """Say which partitions are to be fetched though nobody has read them for a while."""
        self._kept = places

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._work()
            except Exception:
                log.exception("fetching (%s) failed; trying again", self._name)
                time.sleep(1.0)
        try:
            self._consumer.close()
        except KafkaException:
            log.debug("closing %s", self._name, exc_info=True)

    def _work(self) -> None:
        look_again = time.monotonic() + UNREAD_S / 4
        while not self._stopping:
            while self._orders:
                self._obey(*self._orders.popleft())
            message = self._consumer.poll(POLL_S)
            if message is not None:
                self._take_in([message, *self._consumer.consume(2000, 0)])
            if time.monotonic() > look_again:
                self._drop_unread()
                look_again = time.monotonic() + UNREAD_S / 4

    def _obey(self, order: str, place: Place, offset: int) -> None:
        if order == "resume":
            if place in self._streams:
                self._streams[place].paused = False
                self._consumer.resume([TopicPartition(*place)])
            return
        self._find_leader(place[0])
        if place in self._streams:
            self._consumer.incremental_unassign([TopicPartition(*place)])
        with self._lock:
            self._streams[place] = Stream(offset)
        self._asked.pop(place, None)
        self._consumer.incremental_assign([TopicPartition(place[0], place[1], offset)])
        self._consumer.resume([TopicPartition(*place)])  # what was paused before it was unassigned is assigned paused

    def _find_leader(self, topic: str) -> None:
        """Ask who leads a topic that is new here; left to itself the library does so once a second."""
        if topic not in self._topics:
            try:
                self._consumer.list_topics(topic, timeout=METADATA_S)
            except KafkaException:
                return
            self._topics.add(topic)

    def _take_in(self, messages: list[Message]) -> None:
        touched: set[Place] = set()
        with self._lock:
            for message in messages:
                place = (message.topic(), message.partition())
                stream = self._streams.get(place)
                if stream is None:
                    continue
                error = message.error()
                if error is None:
                    stream.add(record_of(message))
                    stream.error = None
                    touched.add(place)
                elif error.code() == Codes.END:
                    stream.reach(message.offset())
                    stream.error = None
                else:
                    stream.error = error
            budget = max(STREAM_MIN, MEMORY // max(1, len(self._streams)))
            full = [place for place in touched if self._bound(self._streams[place], budget)]
        if full:
            self._consumer.pause([TopicPartition(*place) for place in full])
        if touched:
            self._client.well()
        self._tell()

    @staticmethod
    def _bound(stream: Stream, budget: int) -> bool:
        """Keep a stream within its share of the memory; return whether it has to pause."""
        stream.trim(budget)
        ahead = stream.ahead()
        if stream.paused or (ahead <= AHEAD and ahead * stream.size <= len(stream.records) * budget // 2):
            return False
        stream.paused = True
        return True

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            try:
                self._loop.call_soon_threadsafe(self._hear)
            except RuntimeError:  # the event loop has ended, and so do we
                self._stopping = True

    def _hear(self) -> None:
        self._told = False
        self._changed()

    def _drop_unread(self) -> None:
        before = time.monotonic() - UNREAD_S
        for place, stream in list(self._streams.items()):
            if stream.read_at < before and place not in self._kept:
                self._consumer.incremental_unassign([TopicPartition(*place)])
                with self._lock:
                    del self._streams[place]


def headers_of(position: int) -> list[tuple[str, bytes]]:
    """Return the headers of a record that a relay appends."""
    return [_CONTENT, (HEADER, b"%d" % position)]


def record_of(message: Message) -> Record:
    """Return a message as a record."""
    key = message.key()
    position = 0
    headers = message.headers()
    if headers:
        for name, value in headers:
            if name == HEADER and value is not None and len(value) <= 19 and value.isdigit():
                position = int(value)
    value = message.value()
    return Record(
        message.offset(),
        None if key is None else key.decode("utf-8", "replace"),
        b"" if value is None else value,
        message.timestamp()[1] * 1000,
        position,
        None if position or not headers else headers,
    )


class Reader:
    """What `Log.read` is made of.

    Args:
        client: the brokers.
        arrived: called on the event loop when there may be more to read.
    """

    def __init__(self, client: Client, *, arrived: Callable[[], None]) -> None:
        self._client = client
        self._arrived = arrived
        self._waiting: set[asyncio.Future[None]] = set()
        self.front = Fetcher(client, "front", changed=self._changed)
        self._back: Fetcher | None = None

    def start(self) -> None:
        """Begin to fetch."""
        self.front.start()

    def stop(self) -> None:
        """Stop fetching; does not wait."""
        self.front.stop()
        if self._back is not None:
            self._back.stop()

    def join(self) -> None:
        """Wait until the threads have ended; blocks."""
        self.front.join()
        if self._back is not None:
            self._back.join()

    def _changed(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)
        self._arrived()

    async def read(self, place: Place, offset: int, limit: int) -> list[Record]:
        """Return the next records of a partition that has some; waits for the brokers.

        Raises:
            StoreUnavailable: they do not come.
            Recovery: the offset is not there any more.
        """
        until = time.monotonic() + PATIENCE_S
        while True:
            found = self.front.take(place, offset, limit)
            fetcher = self.front
            if found is None and self._back is not None:
                found, fetcher = self._back.take(place, offset, limit), self._back
            if found:
                return found
            if found is None:
                self._ask(place, offset)
            elif (reached := fetcher.reach(place)) is not None and reached[1] >= offset and time.monotonic() > until - PATIENCE_S / 2:
                return []
            if time.monotonic() > until:
                self._client.check()
                raise self._client.silent(f"reading {place[0]}/{place[1]} from {offset}")
            await self._wait()

    def _ask(self, place: Place, offset: int) -> None:
        reached = self.front.reach(place)
        if reached is None or (offset > reached[0] and not self.front.will_have(place, offset)):
            self.front.ask(place, offset)
        elif offset < reached[0]:
            if self._back is None:
                self._back = Fetcher(self._client, "back", changed=self._changed)
                self._back.start()
            if not self._back.will_have(place, offset):
                self._back.ask(place, offset)

    async def _wait(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await asyncio.wait([future], timeout=0.25)
        finally:
            self._waiting.discard(future)
            future.cancel()


__all__ = ["HEADER", "Fetcher", "Place", "Reader", "headers_of", "hole", "record_of"]
