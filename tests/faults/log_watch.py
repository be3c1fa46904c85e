"""A reader from outside who follows every topic of a shop from its first record on, through whatever happens to the brokers.

It reads as the contract tells foreign readers to: a record whose sequence is not above the last one of its source in its partition came
before and is dropped. That is only right if each row is met first after all rows before it, so the watch checks that too: what it drops it
must have seen.

Neighbours: `installation` starts one per run; `run` asks it how far orders have come, and what came twice.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Collection
from itertools import pairwise
from typing import Any, Self

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from tests.crash.path import ENDS

POLL_S = 0.1
ASK_S = 5.0


class Head(msgspec.Struct):
    """What the watch needs of a record."""

    id: str = ""
    source: str = ""
    type: str = ""
    partitionkey: str = ""
    sequence: str = ""


class LogWatch:
    """See the module.

    Args:
        brokers: of the cluster.
        namespace: what the shop's topics begin with.
    """

    def __init__(self, brokers: str, namespace: str) -> None:
        self._namespace = namespace
        settings = {"bootstrap.servers": brokers, "group.id": "log-watch", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
        settings |= {"log_level": 0, "reconnect.backoff.max.ms": 1000, "topic.metadata.refresh.interval.ms": 2000, "fetch.wait.max.ms": 50}
        self._consumer = Consumer(settings)
        self._asking = Consumer(settings)  # questions on a client of their own do not hold up the reading
        self._changed = threading.Condition()
        self._stopping = False
        self._seen: defaultdict[tuple[str, int, str], dict[str, int]] = defaultdict(dict)
        self._last: dict[tuple[str, int, str], str] = {}
        self.records = 0
        self.repeats = 0
        self.overtaken: list[Head] = []
        """Rows that a reader would lose, because a later one of their source came before them."""
        self.facts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """Per key how often each fact was told, repeats left out."""
        self.ended: dict[str, float] = {}
        """When the end of an order was read, by `time.monotonic`."""
        self._thread = threading.Thread(target=self._follow, name="log watch", daemon=True)

    def __enter__(self) -> Self:
        """Begin with what there is."""
        found = self.partitions()
        self._consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in found])
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._stopping = True
        self._thread.join()
        self._consumer.close()
        self._asking.close()

    def partitions(self) -> dict[tuple[str, int], Any]:
        """Return what the cluster says of every partition of the services' topics: its leader, who is in sync.

        Raises:
            KafkaException: nobody answers.
        """
        topics = self._asking.list_topics(timeout=ASK_S).topics
        mine = {name: topic for name, topic in topics.items() if name.startswith(self._namespace) and "__" not in name}
        return {(name, number): partition for name, topic in mine.items() for number, partition in topic.partitions.items()}

    def until_cluster(self, condition: Any, what: str, *, seconds: float) -> None:
        """Return when a condition on the partitions holds; a cluster that does not answer is asked again."""
        end = time.monotonic() + seconds
        while True:
            try:
                if condition(self.partitions()):
                    return
            except KafkaException:
                pass
            assert time.monotonic() < end, f"{what}: not within {seconds:g} s"

    def _follow(self) -> None:
        while not self._stopping:
            messages = self._consumer.consume(1000, POLL_S)
            heads = [
                (message.topic(), message.partition(), msgspec.json.decode(message.value(), type=Head))
                for message in messages
                if message.error() is None and message.value()
            ]
            if heads:
                with self._changed:
                    for topic, partition, head in heads:
                        self._take(topic, partition, head)
                    self._changed.notify_all()

    def _take(self, topic: str, partition: int, head: Head) -> None:
        if not head.sequence:
            return  # a foreign producer's, or the toolkit's own
        self.records += 1
        place = (topic, partition, head.source)
        seen = self._seen[place]
        if head.sequence <= self._last.get(place, ""):
            if head.id in seen:
                self.repeats += 1
            else:
                self.overtaken.append(head)
            return
        self._last[place] = head.sequence
        seen[head.id] = 1
        name = head.type.split(".")[-2]
        self.facts[head.partitionkey][name] += 1
        if name in ENDS:
            self.ended.setdefault(head.partitionkey, time.monotonic())

    def until(self, condition: Any, what: str, *, seconds: float) -> None:
        """Return when a condition on what was read holds."""
        with self._changed:
            met = self._changed.wait_for(condition, seconds)
        assert met, f"{what}: not within {seconds:g} s"

    def until_ended(self, orders: Collection[str], *, seconds: float) -> None:
        """Return when all these orders have come to an end."""
        wanted = set(orders)
        with self._changed:
            self._changed.wait_for(lambda: wanted <= self.ended.keys(), seconds)
            open_now = wanted - self.ended.keys()
            told = {order: dict(self.facts[order]) for order in sorted(open_now)[:3]}
        assert not open_now, f"{len(open_now)} of {len(wanted)} orders have not ended within {seconds:g} s; told so far: {told}"

    def open(self, orders: Collection[str]) -> int:
        """Return how many of these orders have not ended."""
        with self._changed:
            return len(set(orders) - self.ended.keys())

    def distinct(self) -> Counter[str]:
        """Return per source how many rows were read, repeats left out."""
        with self._changed:
            found = Counter[str]()
            for (_, _, source), ids in self._seen.items():
                found[source] += len(ids)
            return found

    def longest_pause(self, since: float) -> float:
        """Return for how long, at most, no order ended after a moment."""
        moments = sorted([since, *(at for at in self.ended.values() if at > since)])
        return max((later - sooner for sooner, later in pairwise(moments)), default=0.0)
