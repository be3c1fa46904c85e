"""What operators see of a log on Kafka: settings, lag in Kafka's own groups, owners, findings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from millrace.application import Application
from millrace.engines.kafka import KafkaEngine, KafkaSettings
from millrace.engines.kafka.client import Client
from millrace.engines.kafka.driver import Codes, NewTopic
from millrace.engines.sqlite import SqliteEngine
from millrace.errors import ConfigurationError, StoreUnavailable
from millrace.leasing import GroupSpec
from millrace.ports import TopicSpec
from millrace.split import SplitEngine
from millrace.testing import settled
from millrace.testing.conformance.lab import balanced, foreign
from millrace.testing.conformance.sample import APPLICATION, Add, Added, Behaviour, counter, teller
from tests.engines.kafka_places import PARTITIONS, TOPIC, Places, moved, two_transactions


@pytest_asyncio.fixture
async def app(places: Places, tmp_path: Path) -> AsyncIterator[Application]:
    """An application with its log on Kafka."""
    engine = SplitEngine(log=places.engine(), stores=SqliteEngine(tmp_path))
    async with Application(APPLICATION, [teller(), counter(Behaviour())], engine=engine) as found:
        yield found


async def test_kafkas_tools_see_the_lag(app: Application, places: Places) -> None:
    """A second after records were handled, the group of their processor has the positions that the store has."""
    for n in range(1, 8):
        await app.execute(Add(name=f"n{n}", n=n))
    await settled(app, timeout=20)
    rows = await app.hosts["counter"].store.reader.positions.load("handlers")
    wanted = {(row.topic, row.partition): row.offset for row in rows}
    assert sum(offset for (topic, _), offset in wanted.items() if topic == "tally") == 7
    until = time.monotonic() + 20
    while await places.committed("counter.handlers", wanted) != wanted:
        assert time.monotonic() < until, await places.committed("counter.handlers", wanted)
        await moved(app.parts.feed)


async def test_transactions_of_others_are_accounted_for(app: Application, places: Places) -> None:
    """Markers and aborted records of a foreign producer move the position, count as ignored, and the ledger balances."""
    await app.execute(Add(name="a"))
    gone, kept = (foreign(app, Added(name="a", n=n), id=str(n)) for n in (8, 9))
    await asyncio.to_thread(two_transactions, places, gone, kept)
    await app.parts.log.topics()
    await settled(app, timeout=20)
    rows = [row for row in await app.hosts["counter"].store.reader.positions.load("handlers") if row.topic == "tally"]
    assert sum(row.handled for row in rows) == 2
    assert [(row.duplicate, row.ignored) for row in rows if row.partition == 0] == [(1, 4)]
    await balanced(app)


async def test_owners_are_known_to_who_only_looks(app: Application, places: Places) -> None:
    """Who holds which partition is asked of the coordinator, without taking part."""
    leases = places.engine().reading().leases("")
    assert await leases.owners("counter.handlers") == dict.fromkeys(range(PARTITIONS), app.instance)
    assert await leases.owners("nobody.here") == {}


def lasting_name(places: Places) -> KafkaEngine:
    """Return an engine under a name that lasts."""
    namespace = places.settings.namespace
    return KafkaEngine(KafkaSettings(places.settings.brokers, namespace=namespace, replication=1, instance="pod-0", session_s=30.0))


async def test_a_name_that_lasts_keeps_its_partitions(places: Places) -> None:
    """A process that died and returns under its name within the session owns its partitions at once."""
    lasting = lasting_name(places)
    groups = {"a.b": GroupSpec(3, (), "a")}
    first = lasting.leases("one")
    await first.join(groups)
    assert (await first.refresh())["a.b"] == {0, 1, 2}
    first.sever()
    second = lasting.leases("two")
    await second.join(groups)
    async with asyncio.timeout(10):
        assert (await second.refresh())["a.b"] == {0, 1, 2}
    await second.leave()


async def test_a_name_that_lasts_may_come_with_other_services(places: Places) -> None:
    """A process that returns under its name within the session and runs other services gets the partitions of those."""
    log = await places.open()
    lasting = lasting_name(places)
    one, two = GroupSpec(3, (), "a"), GroupSpec(2, (), "c")
    for services in ({"a.b": one}, {"a.b": one, "c.d": two}, {"c.d": two}):
        leases = lasting.leases("some")
        await leases.join(services)
        async with asyncio.timeout(20):
            while {name: len(owned) for name, owned in (await leases.refresh()).items()} != {n: s.partitions for n, s in services.items()}:
                await moved(log)
        await leases.leave()


async def test_what_is_not_as_it_should_be_is_found(places: Places) -> None:
    """`check` names settings that may lose records or stop relays, with what to change; topics that exist are never changed."""
    config = {"max.message.bytes": "1000", "retention.ms": "60000"}
    futures = places.client.admin.create_topics([NewTopic(places.settings.topic("small"), 1, 1, config=config)])
    await places.client.answers(futures, what="creating")
    log: Any = await places.open()
    await log.ensure([TopicSpec("small", 5, None)])
    found = {what: (well, text) for what, well, text in await log.check()}
    assert not found["max.message.bytes"][0]
    assert "small" in found["max.message.bytes"][1]
    assert "tally" not in found["max.message.bytes"][1]
    assert not found["message.timestamp.type"][0]
    assert all(found[what][0] for what in ("brokers", "replication", "auto.create.topics", "unclean.leader.election", "marks of relays"))
    (info,) = [info for info in await log.topics() if info.name == "small"]
    assert (len(info.ranges), info.retention_s) == (1, 60)


async def test_a_moment_stays_as_it_was(places: Places) -> None:
    """What a reading log shows is the moment of its opening, whatever is appended afterwards."""
    log = await places.open()
    await log.put(TOPIC, [("a", b"1")], partition=0)
    look = places.engine().reading().log().log
    await look.open()
    await log.put(TOPIC, [("a", b"2")], partition=0)
    (info,) = await look.topics()
    assert info.ranges[0] == (0, 1)
    assert [record.value for record in await look.read(TOPIC, 0, offset=0, limit=1)] == [b"1"]
    await look.close()


def test_a_url_names_everything(tmp_path: Path) -> None:
    """Brokers, properties from a file, namespace and copies come from the URL."""
    file = tmp_path / "client.properties"
    file.write_text("# rights\nsecurity.protocol=SASL_SSL\nsasl.password = s3cret=x\n\n")
    settings = KafkaSettings.of(f"kafka://one:9092,two:9092?properties={file}&namespace=shop.&replication=3&session=10")
    assert (settings.brokers, settings.namespace, settings.replication, settings.session_s) == ("one:9092,two:9092", "shop.", 3, 10.0)
    assert settings.properties == {"security.protocol": "SASL_SSL", "sasl.password": "s3cret=x"}


def test_secrets_are_never_printed() -> None:
    """Neither settings nor engine nor an error about a property show a value of a property."""
    settings = KafkaSettings("one:9092", properties={"sasl.password": "s3cret", "sasl.mechanism": "NONSENSE-s3cret"})
    assert "s3cret" not in repr(settings) + repr(KafkaEngine(settings)) + str(settings)


@pytest.mark.parametrize(
    "url",
    [
        "one:9092",
        "kafka://",
        "kafka://user:password@one:9092",
        "kafka://one:9092?colour=red",
        "kafka://one:9092?replication=many",
        "kafka://one:9092?namespace=a/b",
        "kafka://one:9092?properties=/nowhere/at/all",
    ],
)
def test_urls_that_cannot_work_are_refused(url: str) -> None:
    """What is wrong is named, a password is not repeated."""
    with pytest.raises(ConfigurationError) as found:
        KafkaSettings.of(url)
    assert "password" not in str(found.value)


def test_lines_of_properties_are_not_repeated(tmp_path: Path) -> None:
    """A line that cannot be read is named by its number, for it may hold a secret."""
    file = tmp_path / "client.properties"
    file.write_text("security.protocol=SSL\nsasl.password s3cret\n")
    with pytest.raises(ConfigurationError, match="line 2") as found:
        KafkaSettings.of(f"kafka://one:9092?properties={file}")
    assert "s3cret" not in str(found.value)


@pytest.mark.parametrize("code", [Codes.AUTHENTICATION, Codes.SSL])
def test_refused_credentials_end_every_wait(code: int) -> None:
    """A refusal, which librdkafka tells its error callback only, is raised with its text to whoever waits."""
    refusal: Any = SimpleNamespace(code=lambda: code, str=lambda: "verify failed")
    client = Client(KafkaSettings("one:9092"))
    client.check()
    client.configuration()["error_cb"](refusal)
    with pytest.raises(StoreUnavailable, match="verify failed") as found:
        client.check()
    assert found.value.reason == "unauthorized"


async def test_a_wrong_protocol_ends_the_start(places: Places) -> None:
    """What librdkafka tells its error callback only is part of the failure of the start, within seconds."""
    settings = KafkaSettings(places.settings.brokers, properties={"security.protocol": "ssl"})
    log = KafkaEngine(settings).log().log
    async with asyncio.timeout(9):
        with pytest.raises(StoreUnavailable, match=r"(?i)ssl") as found:
            await log.open()
    assert found.value.reason == "unreachable"


def test_secret_values_are_blotted_out() -> None:
    """Whatever the library says about a property, its secret value is not repeated."""
    settings = KafkaSettings("one:9092", properties={"sasl.password": "s3cret", "security.protocol": "ssl"})
    assert settings.without_secrets("no s3cret over ssl") == "no *** over ssl"
    with pytest.raises(ConfigurationError) as found:
        Client(KafkaSettings("one:9092", properties={"ssl.key.password": "s3cret", "no.such.name": "s3cret"})).admin  # noqa: B018
    assert "s3cret" not in str(found.value)
    assert "no.such.name" in str(found.value)
