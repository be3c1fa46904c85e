"""What programs see that know nothing of the toolkit: Kafka's Java client and tools, and the CloudEvents SDK."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from deploy.servers.kafka import java
from millrace.application import Application
from millrace.engines.kafka.driver import Consumer, NewTopic, Producer, TopicPartition
from millrace.engines.sqlite import SqliteEngine
from millrace.split import SplitEngine
from millrace.testing import settled
from millrace.testing.conformance.lab import balanced
from millrace.testing.conformance.sample import APPLICATION, Add, Behaviour, Total, counter, teller
from tests.engines.kafka_places import PARTITIONS, TOPIC, Places, jars, moved

PROGRAM = Path(__file__).with_name("ForeignClient.java")
TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
KEYS = ["a", "b", "order-1", "order-2", "0199f3c2-7a1b-7c3d-8e4f-5a6b7c8d9e0f", "Käse", "食べ物", "🍔", " ", "x" * 300]
CONTENT = "application/cloudevents+json; charset=UTF-8"


@pytest_asyncio.fixture
async def app(places: Places, tmp_path: Path) -> AsyncIterator[Application]:
    """An application with its log on Kafka that has said something of every key."""
    engine = SplitEngine(log=places.engine(), stores=SqliteEngine(tmp_path))
    async with Application(APPLICATION, [teller(), counter(Behaviour())], engine=engine) as found:
        for n, key in enumerate(KEYS):
            await found.execute(Add(name=key, n=n))
        await settled(found, timeout=20)
        yield found


async def run_java(*arguments: str) -> list[list[str]]:
    """Run a program on Kafka's jars and return the cells of what it printed."""

    def run() -> str:
        command = [java(), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dfile.encoding=UTF-8", "-Dsun.jnu.encoding=UTF-8"]
        environment = {"LC_ALL": "C.UTF-8", "LOG_DIR": "/dev/null"}
        whole = [*command, "-cp", f"{jars()}/*", *arguments]
        found = subprocess.run(whole, capture_output=True, text=True, timeout=90, env=environment, check=False)
        assert found.returncode == 0, found.stdout + found.stderr
        return found.stdout

    return [line.split("\t") for line in (await asyncio.to_thread(run)).splitlines() if "\t" in line or " " in line]


async def make_topic(places: Places, name: str) -> str:
    """Make a topic beside those of the application; return its name on the brokers."""
    topic = places.settings.topic(name)
    await places.client.answers(places.client.admin.create_topics([NewTopic(topic, PARTITIONS, 1)]), what="creating topic")
    return topic


@pytest.mark.slow
async def test_java_reads_what_was_said(app: Application, places: Places) -> None:
    """Kafka's Java client reads every record with its key, as CloudEvents in structured mode."""
    rows = await run_java(str(PROGRAM), "read", places.settings.brokers, places.settings.topic(TOPIC))
    told = {key: (content, msgspec.json.decode(value)) for _, key, content, value in rows}
    assert sorted(told) == sorted(KEYS)
    for n, key in enumerate(KEYS):
        content, event = told[key]
        assert content == CONTENT
        assert (event["specversion"], event["type"], event["partitionkey"]) == ("1.0", "sample.tally.added.v1", key)
        assert (event["data"]["name"], event["data"]["n"]) == (key, n)


@pytest.mark.slow
async def test_java_puts_a_key_into_the_same_partition(app: Application, places: Places) -> None:
    """Java's default partitioner and ours agree on every key, whatever letters it has: a foreign command meets its key's owner."""
    ours = {key: int(partition) for partition, key, _, _ in await run_java(str(PROGRAM), "read", *_topic(places, TOPIC))}
    topic = await make_topic(places, "java")
    theirs = {key: int(partition) for partition, key in await run_java(str(PROGRAM), "write", places.settings.brokers, topic, *KEYS)}
    assert theirs == ours
    assert set(theirs.values()) == set(range(PARTITIONS))


def _topic(places: Places, name: str) -> tuple[str, str]:
    return places.settings.brokers, places.settings.topic(name)


async def described(places: Places, group: str, *options: str) -> list[dict[str, str]]:
    """Return what `kafka-consumer-groups --describe` says of a group, a row each."""
    name = places.settings.topic(group)
    found = await run_java(TOOL, "--bootstrap-server", places.settings.brokers, "--describe", "--group", name, *options)
    rows = [cells[0].split() for cells in found]
    head = next((row for row in rows if row[0] == "GROUP"), [])
    return [dict(zip(head, row, strict=False)) for row in rows if row[0] == name]


async def committed(app: Application, places: Places) -> None:
    """Wait until Kafka has been told how far the handlers have read."""
    wanted = {(row.topic, row.partition): row.offset for row in await app.hosts["counter"].store.reader.positions.load("handlers")}
    until = time.monotonic() + 20
    while await places.committed("counter.handlers", wanted) != wanted:
        assert time.monotonic() < until
        await moved(app.parts.feed)


@pytest.mark.slow
async def test_kafkas_own_tool_shows_offsets_members_and_lag(app: Application, places: Places) -> None:
    """`kafka-consumer-groups` shows of a processor each offset and the lag, none and then some, and of the leases who holds what."""
    await committed(app, places)
    rows = [row for row in await described(places, "counter.handlers") if row["TOPIC"] == places.settings.topic(TOPIC)]
    assert sum(int(row["CURRENT-OFFSET"]) for row in rows) == sum(int(row["LOG-END-OFFSET"]) for row in rows) == len(KEYS)
    assert {row["LAG"] for row in rows} == {"0"}
    members = await described(places, "__millrace.leases", "--members")
    assert [(row["CLIENT-ID"], int(row["#PARTITIONS"])) for row in members] == [(app.instance, 2 * PARTITIONS)]

    await app.stop()
    await asyncio.to_thread(append, places, 4)
    rows = [row for row in await described(places, "counter.handlers") if row["TOPIC"] == places.settings.topic(TOPIC)]
    assert sum(int(row["LAG"]) for row in rows) == 4
    assert await described(places, "__millrace.leases", "--members") == []


def append(places: Places, count: int) -> None:
    """Append records as anybody does."""
    producer = Producer({"bootstrap.servers": places.settings.brokers})
    for n in range(count):
        producer.produce(places.settings.topic(TOPIC), b"{}", f"k{n}")
    assert producer.flush(10) == 0


async def test_the_sdk_reads_what_was_said(app: Application, places: Places) -> None:
    """The CloudEvents SDK for Python takes each record for an event in structured mode, valid in every attribute."""
    events = {event.get_extension("partitionkey"): event for event in await asyncio.to_thread(read_all, places)}
    assert sorted(events) == sorted(KEYS)
    for n, key in enumerate(KEYS):
        event = events[key]
        assert (event.get_type(), event.get_source(), event.get_subject()) == ("sample.tally.added.v1", "/sample/teller", key)
        assert event.get_time().tzinfo is not None
        assert (event.get_data()["name"], event.get_data()["n"]) == (key, n)


def read_all(places: Places) -> list[CloudEvent]:
    """Read a topic as a user of the SDK does."""
    consumer = Consumer({"bootstrap.servers": places.settings.brokers, "group.id": "sdk", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(places.settings.topic(TOPIC), partition, 0) for partition in range(PARTITIONS)])
    found: list[CloudEvent] = []
    while len(found) < len(KEYS):
        message = consumer.poll(10)
        found.append(from_kafka_event(KafkaMessage(dict(message.headers()), message.key(), message.value())))
    consumer.close()
    return found


async def test_what_the_sdk_writes_is_read(app: Application, places: Places) -> None:
    """Events that the SDK writes, in binary mode and in structured mode, are handled like our own."""
    events = [_event(1), _event(2)]
    await asyncio.to_thread(send, places, [to_binary_event(events[0]), to_structured_event(events[1])])
    async with asyncio.timeout(20):
        while sum(end for (topic, _), end in app.parts.feed.ends().items() if topic == TOPIC) < len(KEYS) + 2:
            await app.parts.log.topics()
    await settled(app, timeout=20)
    found = await app.states(Total).get("sdk")
    assert found is not None
    assert sorted(found.seen) == [1, 2]
    await balanced(app)


def _event(n: int) -> CloudEvent:
    attributes = {"id": str(n), "source": "/sdk", "type": "sample.tally.added.v1", "partitionkey": "sdk", "subject": "sdk"}
    return CloudEvent(attributes | {"specversion": "1.0", "datacontenttype": "application/json"}, {"name": "sdk", "n": n})


def send(places: Places, messages: list[KafkaMessage]) -> None:
    """Send what the SDK has made."""
    producer = Producer({"bootstrap.servers": places.settings.brokers})
    for message in messages:
        producer.produce(places.settings.topic(TOPIC), message.value, message.key, headers=list(message.headers.items()))
    assert producer.flush(10) == 0
