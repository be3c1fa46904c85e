"""`millrace doctor` beside three real brokers that are set up badly: each thing that is wrong is named, with what to change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, ResourceType

from deploy.servers.kafka import KafkaCluster, KafkaNode
from millrace.engines.kafka import KafkaSettings
from millrace.engines.kafka.client import Client
from millrace.engines.kafka.driver import NewTopic, Producer
from tests.e2e.running_shop import RunningShop, run
from tests.engines.kafka_places import jars

pytestmark = [pytest.mark.soak, pytest.mark.timeout(240)]
CARELESS = {"unclean.leader.election.enable": "true", "auto.create.topics.enable": "true"}
MARKS = "__millrace.relays"
AHEAD_S = 120


class CarelessKafka(KafkaCluster):
    """Three nodes that may lose records and make topics of misspelt names."""

    def _properties(self, node: KafkaNode, controller: int, voters: str) -> str:
        careless = "".join(f"{name}={value}\n" for name, value in CARELESS.items())
        return super()._properties(node, controller, voters) + careless


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of three nodes of this module's own."""
    cluster = CarelessKafka(tmp_path_factory.mktemp("careless"), nodes=3, jars=jars())
    try:
        yield Client(KafkaSettings(cluster.start()))
    finally:
        cluster.stop()


async def alter(client: Client, topic: str, **settings: str) -> None:
    """Change settings of a topic, dots written as underscores."""
    entries = [ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET) for name, value in settings.items()]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    await client.answers(client.admin.incremental_alter_configs([resource]), what="altering")


def append_from_the_future(client: Client, topic: str) -> None:
    """Append a record as a producer does whose clock is ahead."""
    producer = client.made(Producer)
    producer.produce(topic, b"x", partition=0, timestamp=int((time.time() + AHEAD_S) * 1000))
    assert producer.flush(20) == 0


async def spoil(client: Client) -> None:
    """Change on the brokers whatever doctor looks at."""
    await alter(client, "orders", min_insync_replicas="1", message_timestamp_type="CreateTime")
    await alter(client, "payments", min_insync_replicas="3", max_message_bytes="1000")
    await alter(client, "inventory", retention_ms="3600000")
    await alter(client, MARKS, cleanup_policy="delete")
    await client.answers(client.admin.create_partitions([NewPartitions("shipping", 5)]), what="adding partitions")
    await asyncio.to_thread(append_from_the_future, client, "orders")


def examined(data: Path, places: Mapping[str, str]) -> dict[str, list[Any]]:
    """Return what doctor finds wrong, by what it is."""
    ran = run("millrace", "--app", "parcomolo", "doctor", "--json", data=data, **places)
    findings = [each for each in ran.json if each["state"] == "wrong"]
    assert ran.status == 1, ran
    assert all(each["advice"] for each in findings), findings
    found: dict[str, list[Any]] = {}
    for each in findings:
        found.setdefault(each["what"], []).append(each)
    return found


async def test_whatever_is_wrong_is_named(client: Client, tmp_path: Path) -> None:
    """Brokers, copies, sizes, clocks, marks and drift: what was made badly before the shop came, and what was changed behind its back."""
    new = NewTopic("rewards", 3, 1, config={"max.message.bytes": str(2 << 20), "message.timestamp.type": "LogAppendTime"})
    await client.answers(client.admin.create_topics([new]), what="creating")
    data, places = tmp_path / "data", {"log": f"kafka://{client.settings.brokers}"}
    with RunningShop(data, **places) as shop:
        shop.process.terminate()
        assert shop.process.wait() == 0

    before = examined(data, places)
    assert {what: len(each) for what, each in before.items()} == {
        "unclean.leader.election": 3,
        "auto.create.topics": 3,
        "replication": 1,
        "min.insync.replicas": 1,
        "settings": 1,
    }
    assert "rewards" in before["replication"][0]["found"]
    assert "rewards: no broker may be away" in before["min.insync.replicas"][0]["found"]
    assert before["settings"][0]["where"] == "topic rewards"

    await spoil(client)
    found = examined(data, places)
    told = {what: " ".join(f"{one['where']}: {one['found']}" for one in each) for what, each in found.items()}
    assert set(found) - set(before) == {"max.message.bytes", "message.timestamp.type", "marks of relays", "clock"}, told
    assert "1 on orders" in told["min.insync.replicas"]
    assert "as many as copies on payments, rewards" in told["min.insync.replicas"]
    assert "payments" in told["max.message.bytes"]
    assert "orders" in told["message.timestamp.type"]
    assert "in the future" in told["clock"]
    drift = {each["where"]: each["found"] for each in found["settings"]}
    assert drift["topic shipping"] == "3 partitions declared, 5 found"
    assert drift["topic inventory"] == "retention_s=None declared, 3600 found"
