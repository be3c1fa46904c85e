"""A log on Kafka that is filled with the records of another log.

Topics of ours carry the brokers' time of appending. While one is filled it takes the time that is handed over, so that records come in the
order in which they were appended elsewhere and expire when they would have expired there; `complete` gives the clock back to the brokers.

A batch is acknowledged as a whole, in order and without a gap, so after a kill a partition holds the first so many of its records.

Neighbours: has an ability of the toolkit's `transfer` for `log`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from millrace.engines.kafka.client import Client
from millrace.engines.kafka.driver import topic_setting
from millrace.engines.kafka.fetcher import HEADER
from millrace.engines.kafka.producer import Dated, DatedProducer
from millrace.engines.kafka.topics import CLOCK, Topics
from millrace.ports import Record, TopicSpec


class Filling:
    """Fills topics.

    Args:
        client: the brokers.
        topics: of the installation.
    """

    def __init__(self, client: Client, topics: Topics) -> None:
        self._client = client
        self._settings = client.settings
        self._topics = topics
        self._producer = DatedProducer(client)

    async def receive(self, topics: Sequence[TopicSpec]) -> None:
        """Make topics; one that is there is one that was begun."""
        await self._topics.ensure(topics, clock="CreateTime")

    async def take(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        """Append records with their times and the journal positions that their relays gave them."""
        name = self._settings.topic(topic)
        rows = [
            Dated(
                name,
                partition,
                None if record.key is None else record.key.encode(),
                record.value,
                [(HEADER, b"%d" % record.position)] if record.position else None,
                record.at // 1000,
            )
            for record in records
        ]
        ends = await self._producer.send(rows)
        self._topics.move(dict.fromkeys([(topic, partition)], max(ends.values())))

    async def complete(self, topics: Sequence[str]) -> None:
        """Let the brokers date what is appended from now on."""
        asked = [topic_setting(self._settings.topic(name), "message.timestamp.type", CLOCK) for name in topics]
        if asked:
            futures: dict[Any, Any] = self._client.admin.incremental_alter_configs(asked)
            await self._client.answers({each.name: future for each, future in futures.items()}, what="changing the clock of topic")

    def stop(self) -> None:
        """Give up what is under way."""
        self._producer.stop()


__all__ = ["Filling"]
