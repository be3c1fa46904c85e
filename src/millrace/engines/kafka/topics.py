"""The topics of an installation: made as declared, described as found, with the ends that are known.

A topic that exists is never changed: what differs from its declaration is told by `doctor`. Its identity is the id that Kafka gave it, so a
topic of the same name that was deleted and made again is another one.

`ends` says what is known without asking: acknowledgements, marks of relays, records and answers of brokers raise it. It may be late for
partitions that nobody here reads and only foreign producers write, by `ENDS_S`.

Neighbours: `log` asks; `client` waits for the answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from millrace.engines.kafka.client import ANSWER_S, DESCRIBE, Client
from millrace.engines.kafka.driver import Codes, NewTopic, OffsetSpec, TopicCollection, TopicPartition, topic_resource
from millrace.engines.kafka.fetcher import Place
from millrace.errors import ConfigurationError, StoreUnavailable
from millrace.ports import TopicInfo, TopicSpec

ENDS_S = 1.0
RECORD_BYTES = str(2 << 20)
"""What a topic of ours takes at most: the toolkit's limit with its envelope, batch and key."""
CLOCK = "LogAppendTime"
"""Who dates records: one clock per partition; a producer's may be wrong."""
COPIES = 3
INSYNC = 2


class Topics:
    """See the module.

    Args:
        client: the brokers.
        moved: called when an end has moved.
    """

    def __init__(self, client: Client, *, moved: Callable[[], None]) -> None:
        self._client = client
        self._settings = client.settings
        self._moved = moved
        self._retention: dict[str, int | None] = {}
        self._flight = asyncio.Lock()
        self._begun = 0
        self._found_by = 0
        self._found: list[TopicInfo] = []
        self.known: dict[str, int] = {}
        self.internal: set[str] = set()
        self.ends: dict[Place, int] = {}

    async def load(self) -> None:
        """Find out which topics there are."""
        await self.describe()

    async def ensure(self, specs: Sequence[TopicSpec], *, clock: str = CLOCK) -> None:
        """Create what does not exist."""
        absent = [spec for spec in specs if spec.name not in self.known]
        if not absent:
            return
        settings = {spec.name: _settings_of(spec) | {"message.timestamp.type": clock} for spec in absent}
        await self.create(settings, {spec.name: spec.partitions for spec in absent})
        until = time.monotonic() + ANSWER_S
        while missing := [spec.name for spec in absent if spec.name not in self.known]:
            if time.monotonic() > until:
                raise self._client.silent(f"waiting for topics {missing}")
            await self.describe()

    async def create(self, settings: Mapping[str, dict[str, str]], partitions: Mapping[str, int], *, internal: bool = False) -> None:
        """Create topics; one that another process has just made is well."""
        copies = await self._copies()
        insync = {"min.insync.replicas": str(min(INSYNC, max(1, copies - 1)))} if copies > 1 else {}
        named = self._settings.internal if internal else self._settings.topic
        new = [NewTopic(named(name), partitions[name], copies, config=config | insync) for name, config in settings.items()]
        futures = self._client.admin.create_topics(new, operation_timeout=ANSWER_S)
        await self._client.answers(futures, what="creating topic", allowed=[Codes.TOPIC_EXISTS], right="CREATE on topic {}")

    async def _copies(self) -> int:
        if self._settings.replication is not None:
            return self._settings.replication
        return COPIES if len((await self._client.cluster()).brokers) >= COPIES else 1

    async def describe(self) -> list[TopicInfo]:
        """Return all topics with their ranges; those who ask at once share the answer, of a look that began after they asked."""
        asked = self._begun
        async with self._flight:
            if self._found_by <= asked:  # the look that was waited for may have failed, and what was found before is old
                self._begun = number = self._begun + 1
                self._found = await self._describe()
                self._found_by = number
            return self._found

    async def _describe(self) -> list[TopicInfo]:
        names = await self.names()
        described = await self._client.answers(
            self._client.admin.describe_topics(TopicCollection([self._settings.topic(name) for name in names])) if names else {},
            what="describing topic",
            allowed=[Codes.UNKNOWN_TOPIC],
            right=DESCRIBE,
        )
        counts = {name: len(described[topic].partitions) for name in names if (topic := self._settings.topic(name)) in described}
        await self._load_retention(counts)
        places = [(name, partition) for name, count in counts.items() for partition in range(count)]
        first, end = await asyncio.gather(self.offsets(places, OffsetSpec.earliest()), self.offsets(places, OffsetSpec.latest()))
        await self._forget_deleted(counts, {topic for topic, _ in places if any((topic, p) not in end for p in range(counts[topic]))})
        self.known = counts
        self.move(end)
        return [
            TopicInfo(
                name=name,
                identity=str(described[self._settings.topic(name)].topic_id),
                retention_s=self._retention.get(name),
                ranges=tuple((first[name, p], end[name, p]) for p in range(count)),
            )
            for name, count in counts.items()
        ]

    async def _forget_deleted(self, counts: dict[str, int], unanswered: set[str]) -> None:
        """Leave topics out that were deleted meanwhile; a range is never guessed, for a reader would take its place for lost.

        Raises:
            StoreUnavailable: one is there and has no leader.
        """
        if unanswered & set(await self.names() if unanswered else ()):
            raise self._client.silent(f"asking for offsets of {sorted(unanswered)}")
        for name in unanswered:
            del counts[name]

    async def names(self) -> list[str]:
        """Return the names of the installation's topics that exist."""
        found = await self._client.cluster(what="listing topics")
        self.internal = {topic for topic in found.topics if topic.startswith(self._settings.internal(""))}
        return sorted(name for topic in found.topics if (name := self._settings.declared(topic)) is not None)

    async def _load_retention(self, names: Iterable[str]) -> None:
        fresh = {name: self._settings.topic(name) for name in names if name not in self._retention}
        for name, config in (await self.configurations(fresh)).items():
            retention = int(config.get("retention.ms", "-1"))
            self._retention[name] = None if retention < 0 or "delete" not in config.get("cleanup.policy", "delete") else retention // 1000

    async def configurations(self, topics: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """Return the settings of topics (name -> name on the brokers)."""
        if not topics:
            return {}
        asked = {topic: name for name, topic in topics.items()}
        futures = self._client.admin.describe_configs([topic_resource(topic) for topic in asked])
        answers = await self._client.answers(
            {resource.name: future for resource, future in futures.items()},
            what="describing the settings of topic",
            allowed=[Codes.UNKNOWN_TOPIC, Codes.TOPIC_REFUSED],
        )
        return {asked[topic]: {name: entry.value for name, entry in found.items()} for topic, found in answers.items()}

    async def offsets(self, places: Sequence[Place], which: Any, *, refused: set[str] | None = None) -> dict[Place, int]:
        """Return an offset of each partition: the first, the end, or that of a time; see `Client.offsets`."""
        if not places:
            return {}
        asked = {TopicPartition(self._settings.topic(topic), partition): which for topic, partition in places}
        prefix = len(self._settings.namespace)
        found = await self._client.offsets(asked, refused=refused)
        return {(each.topic[prefix:], each.partition): offset for each, offset in found.items()}

    async def look(self) -> None:
        """Ask for the ends of all topics.

        Raises:
            StoreUnavailable: some could not be asked for; the others have moved.
        """
        refused: set[str] = set()
        places = [(name, p) for name, count in self.known.items() for p in range(count)]
        self.move(await self.offsets(places, OffsetSpec.latest(), refused=refused))
        if refused:
            needs = f"{self._settings.principal} needs the right {DESCRIBE.format(', '.join(sorted(refused)))}"
            raise StoreUnavailable(self._client.name, reason="unauthorized", detail=f"asking for offsets: {needs}")

    def move(self, ends: Mapping[Place, int]) -> None:
        """Take note of ends; those that are known to be higher stay."""
        moved = False
        for place, end in ends.items():
            if end > self.ends.get(place, -1):
                self.ends[place] = end
                moved = True
        if moved:
            self._moved()

    def place(self, topic: str, partition: int) -> Place:
        """Return a place.

        Raises:
            ConfigurationError: there is no such partition.
        """
        if not 0 <= partition < self.partitions(topic):
            raise ConfigurationError(f"topic {topic!r} has no partition {partition}; it has {self.known[topic]}")
        return topic, partition

    def partitions(self, topic: str) -> int:
        """Return the number of partitions.

        Raises:
            ConfigurationError: there is no such topic.
        """
        if topic not in self.known:
            raise ConfigurationError(f"topic {topic!r} does not exist; topics are created at start from what services declare")
        return self.known[topic]


def _settings_of(spec: TopicSpec) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(-1 if spec.retention_s is None else spec.retention_s * 1000),
        "max.message.bytes": RECORD_BYTES,
    }


__all__ = ["ENDS_S", "Topics"]
