"""The servers that the cases on Kafka and PostgreSQL use, a namespace for each run, and plain reading of topics.

Addresses come from ``MILLRACE_TEST_KAFKA`` and ``MILLRACE_TEST_POSTGRES``, which ``make servers`` writes into
``.servers.env``. Contract: nothing here uses the toolkit, so a twin stays a program of its own.
"""

import os
import threading
import time
import uuid
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.measure import check, fail, percentile

STARTED = Path(__file__).parents[1] / ".servers.env"
PARTITIONS = 3
WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the servers are, and the name that sets this run apart on them."""

    kafka: str
    postgres: str
    namespace: str

    def topic(self, name: str) -> str:
        """The name of a topic of this run."""
        return f"{self.namespace}.{name}"

    @property
    def schema(self) -> str:
        """A schema of this run."""
        return self.namespace.replace("-", "_")


@contextmanager
def servers() -> Iterator[Servers]:
    """The servers; what was made under the namespace is gone afterwards."""
    found = Servers(_address("MILLRACE_TEST_KAFKA"), _address("MILLRACE_TEST_POSTGRES"), f"bench-{uuid.uuid4().hex[:10]}")
    try:
        yield found
    finally:
        _clean(found)


def _address(variable: str) -> str:
    address = os.environ.get(variable) or _started().get(variable, "")
    if not address:
        fail(f"{variable} names no server: `make servers` starts one and writes its address into {STARTED.name}")
    return address


def _started() -> dict[str, str]:
    lines = STARTED.read_text().splitlines() if STARTED.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _clean(found: Servers) -> None:
    admin = AdminClient({"bootstrap.servers": found.kafka})
    topics = [name for name in admin.list_topics(timeout=WAIT_S).topics if found.namespace in name]
    for deleted in admin.delete_topics(topics).values() if topics else ():
        deleted.result()
    with psycopg.connect(found.postgres, autocommit=True) as connection:
        ours = (f"{found.namespace}%", f"{found.schema}%")
        query = "select nspname from pg_namespace where nspname like %s or nspname like %s"
        for (schema,) in connection.execute(query, ours).fetchall():
            connection.execute(psycopg.sql.SQL("drop schema {} cascade").format(psycopg.sql.Identifier(schema)))


def create(found: Servers, *names: str, partitions: int = PARTITIONS) -> None:
    """Make topics."""
    admin = AdminClient({"bootstrap.servers": found.kafka})
    for made in admin.create_topics([NewTopic(found.topic(name), partitions, 1) for name in names]).values():
        made.result()


def producer(found: Servers, **more: object) -> Producer:
    """A producer whose records are acknowledged by all, in order, once."""
    settings = {"bootstrap.servers": found.kafka, "acks": "all", "enable.idempotence": True, "linger.ms": 1}
    return Producer({**settings, "queue.buffering.max.messages": 1_000_000, "batch.num.messages": 100_000, **more})


class Ends:
    """How many records topics hold, asked of the broker."""

    def __init__(self, found: Servers, *, partitions: int = PARTITIONS) -> None:
        """Connect."""
        self._found = found
        self._partitions = partitions
        self._consumer = Consumer({"bootstrap.servers": found.kafka, "group.id": f"{found.namespace}-ends"})

    def total(self, name: str) -> int:
        """The number of records of a topic."""
        places = [TopicPartition(self._found.topic(name), part) for part in range(self._partitions)]
        return sum(self._consumer.get_watermark_offsets(place, timeout=WAIT_S)[1] for place in places)

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()


def read_all(found: Servers, name: str) -> Iterator[Message]:
    """Every record of a topic, each partition in its order."""
    consumer = Consumer(
        {"bootstrap.servers": found.kafka, "group.id": f"{found.namespace}-read", "enable.partition.eof": True, "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(found.topic(name), part, 0) for part in range(PARTITIONS)])
    left = PARTITIONS
    try:
        while left:
            for message in consumer.consume(5000, 1.0):
                error = message.error()
                if error is None:
                    yield message
                else:
                    check(error.code() == KafkaError._PARTITION_EOF, str(error))
                    left -= 1
    finally:
        consumer.close()


def publish(to: Producer, topic: str, rows: Sequence[tuple[int, str, bytes]]) -> None:
    """Append (partition, key, value) rows and wait until all are acknowledged."""
    batch = [{"partition": part, "key": key, "value": value} for part, key, value in rows]
    for part in {part for part, _, _ in rows}:
        mine = [{"key": one["key"], "value": one["value"]} for one in batch if one["partition"] == part]
        check(to.produce_batch(topic, mine, partition=part) == len(mine), "the producer's queue is full")
    check(to.flush(WAIT_S) == 0, "not everything was acknowledged")


class Arrivals(threading.Thread):
    """Notes when each record of a topic that is empty so far was first seen, by a name that is found in its value.

    It reads one record at a time, because asking for many waits for many.
    """

    def __init__(self, found: Servers, topic: str, *, name_of: Callable[[bytes], Hashable]) -> None:
        super().__init__(daemon=True)
        self.seen: dict[Hashable, float] = {}
        self._name_of = name_of
        self._leaving = False
        self._consumer = Consumer(
            {"bootstrap.servers": found.kafka, "group.id": f"{found.namespace}-seen", "enable.auto.commit": False, "fetch.wait.max.ms": 100}
        )
        self._consumer.assign([TopicPartition(found.topic(topic), part, 0) for part in range(PARTITIONS)])
        self.start()

    def run(self) -> None:
        """Read until told to stop."""
        while not self._leaving:
            message = self._consumer.poll(0.05)
            now = time.perf_counter()
            if message is not None and message.error() is None:
                self.seen.setdefault(self._name_of(message.value()), now)
        self._consumer.close()

    def wait_for(self, names: Collection[Hashable]) -> None:
        """Wait until all have come."""
        end = time.perf_counter() + WAIT_S
        while not self.seen.keys() >= set(names):
            check(time.perf_counter() < end, f"{len(set(names) - self.seen.keys())} of {len(names)} records did not come")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop reading."""
        self._leaving = True
        self.join()


def figures_of(seconds: Sequence[float]) -> dict[str, float]:
    """The latencies as the sides print them."""
    ordered = sorted(seconds)
    return {"p50_ms": percentile(ordered, 0.5) * 1e3, "p99_ms": percentile(ordered, 0.99) * 1e3, "max_ms": ordered[-1] * 1e3}


def slope(ends: Ends, topic: str, n: int, *, share: float, watch: Callable[[], float]) -> tuple[float, float]:
    """Wait until a topic has ``n`` records; answer the rate of those after the first ``share`` and what ``watch`` grew by for each."""
    begin, last, warm = time.perf_counter(), -1, None
    while (done := ends.total(topic)) < n:
        now = time.perf_counter()
        if done != last:
            begin, last = now, done
        check(now - begin < WAIT_S, f"{done} of {n} records, and no more for {WAIT_S:.0f} s")
        if warm is None and done >= share * n:
            warm = (done, now, watch())
        time.sleep(0.02)
    check(warm is not None, "there was nothing to measure")
    assert warm is not None
    return (n - warm[0]) / (time.perf_counter() - warm[1]), (watch() - warm[2]) / (n - warm[0])
