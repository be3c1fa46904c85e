"""Appending rows: acknowledged by all copies that must have them, in order, without a gap.

One idempotent producer per process, shared by its relays. Only the last row per partition of an append carries a callback: rows of a
partition are acknowledged in order, so what is before it is there as well.

    a delivery fails            `enable.gapless.guarantee`: nothing after it in that partition is delivered either, the producer is done for
    no answer                   rows never time out by themselves (that would leave a gap); the append gives up, the producer is purged
    crash                       some partitions may have their rows, others not

An append lingers for a millisecond before it leaves. Without that the library sends the first rows of it alone, and each of the others in
requests of a few, which costs a third of the brokers' work and half of its own.

In each case the rows of an append may be there in part, in every partition up to some row without a gap. `relaying` finds out how far.

Rejected: transactions, which would make an append one thing. They cost a marker per partition and append, so offsets are not dense and
lag means nothing; a round through the coordinator each (5 ms on one node, 20 on three, beside 2); and one process that stops in the
middle holds up every reader of those partitions. What they would save is done once per take-over instead.

Neighbours: `relaying` appends journals, `log` what foreign producers would put.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from millrace.engines.kafka.client import RECORD_MAX, Client, reason_of
from millrace.engines.kafka.driver import Failure, KafkaException, Message, Producer
from millrace.engines.kafka.fetcher import Place
from millrace.errors import StoreUnavailable

DELIVERED_S = 30.0
"""How long an append waits; a change of leader takes up to ten."""
LINGER_MS = 1
LOOK_S = 0.25
BREATH = 64
"""Rows after which the event loop may do something else."""

Headers = list[tuple[str, bytes]]


class Outgoing(NamedTuple):
    """A record to append."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes
    headers: Headers | None


class Dated(NamedTuple):
    """A record that was appended elsewhere before, at a time in milliseconds."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes
    headers: Headers | None
    at_ms: int


class Delivery:
    """Waits for the last row of each partition of one append."""

    def __init__(self, places: set[Place]) -> None:
        self._loop = asyncio.get_running_loop()
        self._open = places
        self.topic = ""
        self.done: asyncio.Future[dict[Place, int]] = self._loop.create_future()
        self.done.add_done_callback(_hear)
        self._ends: dict[Place, int] = {}
        self._lock = threading.Lock()

    def answer(self, error: Failure | None, message: Message) -> None:
        """Take an acknowledgement, in the producer's thread."""
        place = (message.topic(), message.partition())
        if error is not None:
            self._tell(self._fail, KafkaException(error), message.topic())
            return
        with self._lock:
            self._open.discard(place)
            self._ends[place] = message.offset() + 1
            finished = not self._open
        if finished:
            self._tell(self._succeed)

    def _tell(self, step: Callable[..., None], *values: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended, and nobody waits any more
            self._loop.call_soon_threadsafe(step, *values)

    def _fail(self, error: Exception, topic: str) -> None:
        if not self.done.done():
            self.topic = topic
            self.done.set_exception(error)

    def _succeed(self) -> None:
        if not self.done.done():
            self.done.set_result(self._ends)


def _hear(done: asyncio.Future[dict[Place, int]]) -> None:
    """Take a failure that nobody waits for any more."""
    if not done.cancelled():
        done.exception()


class RowProducer:
    """The producer of this process, made anew when it is done for.

    Args:
        client: the brokers.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.refused: str | None = None
        self._producer: Any = None
        self._thread: threading.Thread | None = None
        self._stopping = False

    def start(self) -> None:
        """Connect now: the first append of a producer waits half a second for its id."""
        self._current()

    async def send(self, rows: Sequence[Outgoing] | Sequence[Dated]) -> dict[Place, int]:
        """Append rows and wait until they are safe; return the next offset of each partition, by name on the brokers.

        Raises:
            StoreUnavailable: they may be there in part.
        """
        last = {(row.topic, row.partition): i for i, row in enumerate(rows)}
        delivery, producer = Delivery(set(last)), self._current()
        finals = set(last.values())
        began = time.monotonic()
        try:
            for i, row in enumerate(rows):
                await self._produce(producer, row, delivery.answer if i in finals else None)
                if i % BREATH == BREATH - 1:
                    await asyncio.sleep(0)
            return await self._await(delivery, began)
        except KafkaException as error:
            self._forget(producer)
            topic = delivery.topic
            raise self._client.unavailable(error, what=f"appending to {topic}", right=f"WRITE on topic {topic}") from error
        except BaseException:
            self._forget(producer)
            raise

    def send_later(self, row: Outgoing) -> None:
        """Append a row without waiting; it follows what was appended before, and may be lost."""
        with contextlib.suppress(BufferError, KafkaException):
            self._current().produce(row.topic, row.value, row.key, row.partition, on_delivery=self._note)

    def _note(self, error: Failure | None, message: Message) -> None:
        """Remember whether what nobody waits for may be written, in the producer's thread."""
        if error is None:
            self.refused = None
        elif reason_of(error.code()) == "unauthorized":
            topic = message.topic()
            self.refused = str(self._client.unavailable(error, what=f"appending to {topic}", right=f"WRITE on topic {topic}"))

    async def _produce(self, producer: Any, row: Any, answer: Any) -> None:
        while True:
            try:
                producer.produce(row.topic, row.value, row.key, row.partition, headers=row.headers, on_delivery=answer)
                return
            except BufferError:
                await asyncio.sleep(0.005)

    async def _await(self, delivery: Delivery, began: float) -> dict[Place, int]:
        while True:
            await asyncio.wait([delivery.done], timeout=LOOK_S)
            if delivery.done.done():
                self._client.well()
                return delivery.done.result()
            self._client.check(since=began)
            if time.monotonic() - began > DELIVERED_S:
                raise self._client.silent("waiting for acknowledgements")

    def _current(self) -> Any:
        if self._stopping:
            raise StoreUnavailable(self._client.name, reason="unreachable", detail="the log is closed")
        if self._producer is None:
            self._producer = self._client.made(
                Producer,
                client_id="millrace-relay",
                acks="all",
                enable_idempotence=True,
                enable_gapless_guarantee=True,
                message_timeout_ms=0,
                linger_ms=LINGER_MS,
                retry_backoff_ms=20,
                message_max_bytes=RECORD_MAX,
                queue_buffering_max_messages=100_000,
                queue_buffering_max_kbytes=256 << 10,
            )
            self._thread = threading.Thread(target=self._serve, args=(self._producer,), name="kafka producer", daemon=True)
            self._thread.start()
        return self._producer

    def _serve(self, producer: Any) -> None:
        fatal = False
        while producer is self._producer and not (fatal and not len(producer)):
            try:
                producer.poll(0.1)
            except KafkaException:  # it is done for, and says so at every call; what it still holds is told to those who wait
                fatal = True
                time.sleep(0.01)
        if producer is self._producer:
            self._producer = None

    def _forget(self, producer: Any) -> None:
        """Drop a producer whose rows may have been lost; what it still holds is never sent."""
        if producer is self._producer:
            self._producer = None
            with contextlib.suppress(KafkaException):
                producer.purge()
                producer.poll(0)

    def stop(self) -> None:
        """Stop; what is under way is given up."""
        self._stopping = True
        if self._producer is not None:
            self._forget(self._producer)


class DatedProducer(RowProducer):
    """A producer of records with the time of their first appending."""

    async def _produce(self, producer: Any, row: Any, answer: Any) -> None:
        while True:
            try:
                producer.produce(row.topic, row.value, row.key, row.partition, headers=row.headers, on_delivery=answer, timestamp=row.at_ms)
                return
            except BufferError:
                await asyncio.sleep(0.005)


__all__ = ["Dated", "DatedProducer", "Headers", "Outgoing", "RowProducer"]
