"""A log on a real Kafka, ready to be held to the promises together with the stores of another engine.

The cluster's address is `MILLRACE_TEST_KAFKA=host:port`; `servers` says what happens without it. Every test has topics and groups of its
own names; they are deleted when it has ended, in the background.

Neighbours: implements the log side of `EngineKit`; `split_kit` puts stores beside it.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from millrace.engines.kafka import KafkaEngine, KafkaSettings
from millrace.engines.kafka.client import Client
from millrace.engines.kafka.driver import Codes, NewTopic, OffsetSpec, TopicPartition, broker_resource
from millrace.engines.kafka.fetcher import Place, headers_of
from millrace.engines.kafka.leases import KafkaLeases
from millrace.engines.kafka.log import KafkaLog
from millrace.engines.kafka.producer import Outgoing, RowProducer
from millrace.engines.kafka.scanning import scan
from millrace.errors import StoreUnavailable
from millrace.ports import JournalRow, LogParts, Record
from millrace.testing.conformance.kit import Faults
from millrace.testing.conformance.servers import KAFKA, server

SHORTEST_S = 1.0
_cleaning: list[threading.Thread] = []


def address() -> str:
    """Return where the cluster for tests is, or skip the test."""
    return server(KAFKA).removeprefix("kafka://")


class FaultyKafkaLog(KafkaLog):
    """Asks before each append whether it may."""

    faults: Faults

    async def append(self, source: str, epoch: int, rows: Sequence[JournalRow], *, after: int) -> int:
        """Append, wait or fail."""
        if rows:
            await self.faults.before_commit("log")
        return await super().append(source, epoch, rows, after=after)

    async def put(self, topic: str, rows: Sequence[tuple[str | None, bytes]], *, partition: int | None = None) -> None:
        """Append, wait or fail."""
        await self.faults.before_commit("log")
        await super().put(topic, rows, partition=partition)

    async def take(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        """Append, wait or fail."""
        await self.faults.before_commit("log")
        await super().take(topic, partition, records)


class FaultyKafkaEngine(KafkaEngine):
    """The engine with a kit's faults."""

    def __init__(self, settings: KafkaSettings, faults: Faults) -> None:
        super().__init__(settings)
        self._faults = faults
        self._mortal: list[KafkaLog | KafkaLeases] = []

    def log(self) -> LogParts:
        """Return the log of this installation."""
        self._log = log = FaultyKafkaLog(self._client)
        log.faults = self._faults
        self._mortal.append(log)
        return LogParts(log, log, log)

    def leases(self, instance: str) -> KafkaLeases:
        """Return the leases of this process."""
        leases = super().leases(instance)
        self._mortal.append(leases)
        return leases

    def die(self) -> None:
        """End as a killed process does."""
        for each in self._mortal:
            each.sever()


class KafkaDamage:
    """See `kit.Damage`; what concerns stores is not here."""

    restored = "created anew"

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._copy: dict[str, list[list[Outgoing]]] = {}

    async def lose(self, what: str, service: str) -> None:
        """Delete the oldest record."""
        client = Client(self._settings)
        ranges = await self._ranges(client, await self._topics(client))
        (topic, partition), (first, _) = next(
            (place, found) for place, found in ranges.items() if found[1] > found[0] and place[0].endswith(".tally")
        )
        await client.answers(client.admin.delete_records([TopicPartition(topic, partition, first + 1)]), what="losing a record")

    async def save_copy(self, database: str) -> None:
        """Keep a copy: every record of every topic."""
        client = Client(self._settings)
        self._copy = {topic: await self._records(client, topic) for topic in await self._topics(client)}

    async def restore_copy(self, database: str) -> None:
        """Put the copy back; topics that have changed since are deleted and made again, with other identities."""
        client = Client(self._settings)
        for topic, partitions in self._copy.items():
            if await self._records(client, topic) != partitions:
                await self._delete(client, [topic])
                await self._create(client, topic, len(partitions))
                await _append(client, [row for rows in partitions for row in rows])

    async def recreate_topic(self, topic: str) -> None:
        """Delete a topic."""
        await self._delete(Client(self._settings), [self._settings.topic(topic)])

    async def publish_again(self, topic: str) -> None:
        """Append every record once more."""
        client = Client(self._settings)
        await _append(client, [row for rows in await self._records(client, self._settings.topic(topic)) for row in rows])

    async def empty_journal(self, service: str) -> int:
        """There is no journal here."""
        raise NotImplementedError(service)

    async def forget_snapshots(self, service: str) -> int:
        """There is no stream here."""
        raise NotImplementedError(service)

    async def spoil_stream(self, service: str, stream: str) -> None:
        """There is no stream here."""
        raise NotImplementedError(service, stream)

    async def _topics(self, client: Client) -> list[str]:
        found: Any = await client.call(lambda admin: admin.list_topics(timeout=10), what="listing topics")
        return sorted(topic for topic in found.topics if topic.startswith(self._settings.namespace))

    async def _ranges(self, client: Client, topics: Sequence[str]) -> dict[Place, tuple[int, int]]:
        found: Any = await client.call(lambda admin: admin.list_topics(timeout=10), what="listing topics")
        places = [TopicPartition(topic, partition) for topic in topics for partition in found.topics[topic].partitions]
        first, end = [await client.offsets(dict.fromkeys(places, which)) for which in (OffsetSpec.earliest(), OffsetSpec.latest())]
        return {(place.topic, place.partition): (first[place], end[place]) for place in places}

    async def _records(self, client: Client, topic: str) -> list[list[Outgoing]]:
        ranges = await self._ranges(client, [topic])
        found: list[list[Outgoing]] = [[] for _ in ranges]

        def take(place: Place, record: Record) -> None:
            headers = headers_of(record.position) if record.position else None
            key = None if record.key is None else record.key.encode()
            found[place[1]].append(Outgoing(place[0], place[1], key, record.value, headers))

        await scan(client, ranges, take)
        return found

    async def _delete(self, client: Client, topics: Sequence[str]) -> None:
        """Delete topics and wait until no broker tells of them: the controller answers before the brokers have heard."""
        await client.answers(
            client.admin.delete_topics(list(topics), operation_timeout=10),
            what="deleting topic",
            allowed=[Codes.UNKNOWN_TOPIC],
        )
        async with asyncio.timeout(10):
            while set(topics) & set(await self._topics(client)):
                pass

    async def _create(self, client: Client, topic: str, partitions: int) -> None:
        config = {"cleanup.policy": "compact"} if topic.endswith("relays") else {"retention.ms": "-1"}
        await client.answers(client.admin.create_topics([NewTopic(topic, partitions, 1, config=config)]), what="making topic")


async def _append(client: Client, rows: Sequence[Outgoing]) -> None:
    if rows:
        producer = RowProducer(client)
        await producer.send(rows)
        producer.stop()


class KafkaKit:
    """See `kit.EngineKit`; its engines have no stores."""

    name = "kafka"
    placeholder = ""

    def __init__(self, folder: Path) -> None:
        brokers = address()
        self.patience = 15.0
        self.faults = Faults()
        self.session_s = max(SHORTEST_S, _shortest_session_s(brokers))
        properties = {"fetch.wait.max.ms": "20"}  # who is slow to wait is slow to turn to another partition
        self._settings = KafkaSettings(
            brokers, properties=properties, namespace=f"t{os.urandom(5).hex()}.", replication=1, session_s=self.session_s
        )
        self.damage = KafkaDamage(self._settings)

    def new_engine(self) -> FaultyKafkaEngine:
        """Return an engine on the same topics."""
        return FaultyKafkaEngine(self._settings, self.faults)

    async def kill(self, engine: Any) -> None:
        """End an engine without a goodbye."""
        engine.die()

    def close(self) -> None:
        """Delete topics and groups, in the background."""
        thread = threading.Thread(target=delete_topics, args=(self._settings,), daemon=True)
        _cleaning.append(thread)
        thread.start()


_sessions: dict[str, float] = {}


def _shortest_session_s(brokers: str) -> float:
    """Return the shortest session that the brokers allow, asked once."""
    if brokers not in _sessions:
        client = Client(KafkaSettings(brokers))
        try:
            node = next(iter(client.admin.list_topics(timeout=10).brokers))
            (future,) = client.admin.describe_configs([broker_resource(str(node))]).values()
            _sessions[brokers] = int(future.result(timeout=10)["group.min.session.timeout.ms"].value) / 1000
        except Exception as error:
            raise StoreUnavailable(f"kafka {brokers}", reason="unreachable", detail=f"{KAFKA}: {error}") from error
    return _sessions[brokers]


def delete_topics(settings: KafkaSettings) -> None:
    """Delete every topic of a namespace; what is left behind disturbs nobody."""
    try:
        client = Client(settings)
        topics = [topic for topic in client.admin.list_topics(timeout=10).topics if topic.startswith(settings.namespace)]
        futures: dict[str, Any] = client.admin.delete_topics(topics) if topics else {}
        for future in futures.values():
            future.exception(timeout=20)
    except Exception:  # noqa: BLE001, S110  # as said
        pass


@atexit.register
def _finish_cleaning() -> None:
    for thread in _cleaning:
        thread.join(5)


__all__ = ["KafkaKit", "address", "delete_topics"]
