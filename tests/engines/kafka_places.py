"""Where tests of the Kafka engine work: names of their own on the cluster for tests, logs that stop or die.

Neighbours: `conftest` hands these out.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from millrace.engines.kafka import KafkaEngine, KafkaSettings
from millrace.engines.kafka.client import ANSWER_S, Client
from millrace.engines.kafka.driver import Consumer, KafkaException, Producer, TopicPartition
from millrace.engines.kafka.log import KafkaLog
from millrace.ports import JournalRow, Record, TopicSpec
from millrace.serialization import Envelope, pack_sequence, seal
from millrace.testing.conformance.kafka_kit import delete_topics
from millrace.testing.conformance.servers import missing

JARS = Path(__file__).parents[2] / "build" / "servers" / "kafka" / "jars"
SOURCE = "/test/teller"
TOPIC = "tally"
PARTITIONS = 3


def jars() -> Path:
    """Return the folder of Kafka's own programs; without it, skip the test or fail it."""
    if not any(JARS.glob("*.jar")):
        missing("needs the jars of Kafka; `make servers` fetches them")
    return JARS


def rows_of(first: int, last: int, *, text: str = "") -> list[JournalRow]:
    """Rows of a journal, spread over the partitions."""
    return [JournalRow(n, TOPIC, n % PARTITIONS, f"k{n}", _sealed(n, text)) for n in range(first, last + 1)]


def _sealed(position: int, text: str) -> bytes:
    return seal(Envelope(f"teller-1-{position}", SOURCE, "test.tally.added.v1", subject=text, sequence=pack_sequence(position), epoch="1"))


class Places:
    """Logs on topics of one test."""

    def __init__(self, brokers: str) -> None:
        self.settings = KafkaSettings(brokers, namespace=f"e{os.urandom(5).hex()}.", replication=1, properties={"fetch.wait.max.ms": "20"})
        self.client = Client(self.settings)
        self._logs: list[KafkaLog] = []

    def engine(self) -> KafkaEngine:
        """An engine for one more process."""
        return KafkaEngine(self.settings)

    async def open(self) -> Any:
        """One more process's log, with the topic."""
        log = KafkaLog(Client(self.settings))
        await log.open()
        await log.ensure([TopicSpec(TOPIC, PARTITIONS)])
        self._logs.append(log)
        return log

    async def committed(self, group: str, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the offsets that Kafka has for a group on some partitions.

        Asked as a consumer of the group: where a coordinator has just started and knows no group yet, librdkafka 2.16 ends the process
        when its client for administration asks (`list_consumer_group_offsets` looks at a group of its own then, and has none).
        """
        consumer = self.client.made(Consumer, group_id=self.settings.topic(group), enable_auto_commit=False)
        asked = [TopicPartition(self.settings.topic(topic), partition) for topic, partition in places]
        try:
            found: Any = await asyncio.to_thread(consumer.committed, asked, timeout=ANSWER_S)
        except KafkaException as error:
            raise self.client.unavailable(error, what="asking for offsets of a group") from error
        finally:
            await asyncio.to_thread(consumer.close)
        prefix = len(self.settings.namespace)
        return {(each.topic[prefix:], each.partition): each.offset for each in found if each.offset >= 0}

    async def close(self) -> None:
        """Stop what runs, delete the topics."""
        for log in self._logs:
            await log.close()
        self.client.close()
        await asyncio.to_thread(delete_topics, self.settings)


def two_transactions(places: Places, gone: bytes, kept: bytes) -> None:
    """Let a foreign producer abort one transaction and commit another, two records each; blocks."""
    producer = places.client.made(Producer, transactional_id=places.settings.namespace, retry_backoff_ms=2, retry_backoff_max_ms=20)
    producer.init_transactions(20)
    for value in (gone, kept):
        producer.begin_transaction()
        for _ in range(2):
            producer.produce(places.settings.topic(TOPIC), value, partition=0)
        producer.flush(10)
        (producer.commit_transaction if value == kept else producer.abort_transaction)(20)


async def moved(log: Any, *, timeout_s: float = 0.2) -> None:
    """Wait until something is appended, or for a while."""
    change = asyncio.Event()
    forget = log.on_change(change.set)
    waiting = asyncio.ensure_future(change.wait())
    await asyncio.wait([waiting], timeout=timeout_s)
    waiting.cancel()
    forget()


async def all_records(log: Any) -> list[list[Record]]:
    """Return every record, per partition."""
    (info,) = [info for info in await log.topics() if info.name == TOPIC]
    found: list[list[Record]] = []
    for partition, (first, end) in enumerate(info.ranges):
        records: list[Record] = []
        while not records or records[-1].offset + 1 < end:
            more = await log.read(TOPIC, partition, offset=records[-1].offset + 1 if records else first, limit=10_000)
            if not more:
                break
            records += more
        found.append(records)
    return found


async def positions(log: Any) -> list[list[int]]:
    """Return every journal position, per partition, in the order of the log."""
    return [[record.position for record in records] for records in await all_records(log)]


def first_seen(found: Sequence[int]) -> list[int]:
    """Return what a reader handles that drops whatever is not newer."""
    kept: list[int] = []
    for position in found:
        if not kept or position > kept[-1]:
            kept.append(position)
    return kept
