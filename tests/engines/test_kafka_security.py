"""Rights on a real broker with TLS: users by password, by certificate and by token, and what each of them may do."""

from __future__ import annotations

import asyncio
import logging
import shlex
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from confluent_kafka.admin import AclBinding, AclBindingFilter, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from deploy.servers.kafka import java
from deploy.servers.secure import ADMIN, SecureKafka
from millrace.access import rights_on_log
from millrace.application import Application
from millrace.engines.kafka import KafkaEngine, KafkaSettings, read_properties
from millrace.engines.kafka.client import Client
from millrace.engines.kafka.driver import Codes, KafkaException, Producer, failure_of
from millrace.engines.sqlite import SqliteEngine
from millrace.errors import StoreUnavailable
from millrace.rights import Right
from millrace.split import SplitEngine
from millrace.testing.conformance.kafka_kit import delete_topics
from millrace.testing.conformance.sample import APPLICATION, Add, Behaviour, Total, counter, teller
from tests.engines.kafka_places import jars, moved

TELLER, COUNTER = "teller", "counter"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """A broker of this module's own, with a user per service."""
    cluster = SecureKafka(tmp_path_factory.mktemp("secure"), jars=jars(), users=[TELLER, COUNTER])
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


class Guarded:
    """An application on a broker with rights, in a namespace of its own; its administrator grants and revokes."""

    def __init__(self, broker: SecureKafka, folder: Path) -> None:
        self.broker = broker
        self.folder = folder
        self.namespace = f"s{time.time_ns()}."
        self.admin = Client(self.settings(ADMIN))
        self.started: list[Application] = []

    def settings(self, user: str, *, by: str = "scram", **changes: str) -> KafkaSettings:
        """Settings of a user who logs in by password (scram) or certificate (mtls)."""
        address = self.broker.address if by == "scram" else self.broker.address_by_certificate
        properties = read_properties(self.broker.folder / f"{user}.{by}.properties") | changes
        return KafkaSettings(address, properties=properties, namespace=self.namespace, replication=1, session_s=1.0)

    def application(self, user: str, *, by: str = "scram", **changes: str) -> Application:
        """The application as the process of one service runs it, not started."""
        engine = SplitEngine(log=KafkaEngine(self.settings(user, by=by, **changes)), stores=SqliteEngine(self.folder))
        return Application(APPLICATION, [teller(), counter(Behaviour())], engine=engine, hosted=[user])

    async def start(self, user: str, *, by: str = "scram") -> Application:
        """Start the process of one service."""
        app = self.application(user, by=by)
        await app.start()
        self.started.append(app)
        return app

    def rights(self, user: str) -> list[Right]:
        """Return what the application says that a service needs."""
        return [right for right in rights_on_log(self.application(user)) if right.service == user]

    async def grant(self, rights: Sequence[Right]) -> None:
        """Grant."""
        bindings = [binding for right in rights for binding in _bindings(right, AclBinding)]
        await self.admin.answers(self.admin.admin.create_acls(bindings), what="granting")
        everything = AclBindingFilter(ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY)
        while not {*bindings} <= {*await asyncio.to_thread(lambda: self.admin.admin.describe_acls(everything).result())}:
            pass  # brokers take a right over a moment after it was granted

    async def revoke(self, rights: Sequence[Right]) -> None:
        """Take back."""
        filters = [binding for right in rights for binding in _bindings(right, AclBindingFilter)]
        await self.admin.answers(self.admin.admin.delete_acls(filters), what="revoking")

    async def close(self) -> None:
        """Stop what runs, delete what is left."""
        for app in self.started:
            await app.stop()
        await asyncio.to_thread(delete_topics, self.settings(ADMIN))


def _bindings(right: Right, kind: Any) -> list[Any]:
    resource, pattern = ResourceType[right.resource.upper()], ResourcePatternType[right.pattern.upper()]
    return [
        kind(resource, right.name, pattern, right.principal, "*", AclOperation[operation], AclPermissionType.ALLOW)
        for operation in right.operations
    ]


@pytest_asyncio.fixture
async def guarded(broker: SecureKafka, tmp_path: Path) -> AsyncIterator[Guarded]:
    """An application whose users have no right yet."""
    found = Guarded(broker, tmp_path)
    yield found
    await found.close()


@pytest_asyncio.fixture
async def running(guarded: Guarded) -> tuple[Application, Application]:
    """Both services, each with the rights that are printed for it: one logs in by password, one by certificate."""
    await guarded.grant(guarded.rights(TELLER) + guarded.rights(COUNTER))
    return await guarded.start(TELLER), await guarded.start(COUNTER, by="mtls")


async def until(app: Application, condition: Callable[[], Any], *, seconds: float = 40) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if await found if asyncio.iscoroutine(found) else found:
            return
        assert time.monotonic() < end, app.health()
        await moved(app.parts.feed)


def seen(app: Application, name: str, *numbers: int) -> Callable[[], Any]:
    """Return a condition: these were counted under a name."""

    async def holds() -> bool:
        found = await app.states(Total).get(name)
        return found is not None and found.seen == numbers

    return holds


def ailing(app: Application, *words: str) -> Callable[[], bool]:
    """Return a condition: health is bad and one entry's error has all of these words."""

    def holds() -> bool:
        health = app.health()
        errors = [entry.last_error or "" for entry in health.entries if entry.state != "ok"]
        return health.status == "failing" and any(all(word in error for word in words) for error in errors)

    return holds


def well(app: Application) -> Callable[[], bool]:
    """Return a condition: all is well."""
    return lambda: app.health().status == "ok"


async def test_services_work_with_the_rights_that_are_printed(running: tuple[Application, Application], guarded: Guarded) -> None:
    """Each service does its work, and writes how far it has read for Kafka's tools, with its rights and no other."""
    says, counts = running
    for n in range(1, 6):
        await says.execute(Add(name="a", n=n))
    await until(counts, seen(counts, "a", 1, 2, 3, 4, 5))
    await until(counts, lambda: counts.hosts[COUNTER].relay.published == 5)
    await until(counts, lambda: counts._membership._told > 0)
    assert [app.health().status for app in running] == ["ok", "ok"], [app.health() for app in running]


async def refusal_of_writing(settings: KafkaSettings, topic: str) -> int:
    """Return with which code a producer is refused, 0 if it is not."""
    codes: list[int] = []

    def write() -> None:
        producer = Client(settings).made(Producer)
        producer.produce(settings.topic(topic), b"x", on_delivery=lambda error, _: codes.append(error.code() if error else 0))
        producer.flush(10)

    await asyncio.to_thread(write)
    return codes[0]


async def refusal_of_reading(settings: KafkaSettings, topic: str) -> int:
    """Return with which code a reader is refused, 0 if it is not."""
    client = Client(settings)
    try:
        found = await asyncio.to_thread(lambda: client.admin.list_topics(settings.topic(topic), timeout=10))
    except KafkaException as error:
        failure = failure_of(error)
        return failure.code() if failure else -1
    error = found.topics[settings.topic(topic)].error
    return error.code() if error else 0


async def test_no_service_writes_or_reads_what_is_others(running: tuple[Application, Application], guarded: Guarded) -> None:
    """The broker refuses a service the topics that it does not say anything in, and those that it does not read."""
    says, counts = guarded.settings(TELLER), guarded.settings(COUNTER, by="mtls")
    assert await refusal_of_writing(says, "tally") == 0
    assert await refusal_of_writing(counts, "tally") == Codes.TOPIC_REFUSED
    assert await refusal_of_writing(says, "counts") == Codes.TOPIC_REFUSED
    assert await refusal_of_reading(counts, "tally") == 0
    assert await refusal_of_reading(counts, "tally.commands") == Codes.TOPIC_REFUSED


@pytest.mark.parametrize(
    "user, name, operation", [(COUNTER, "counts", "WRITE"), (COUNTER, "tally", "READ"), (TELLER, "__millrace.relays", "WRITE")]
)
async def test_a_missing_right_is_named_until_it_is_granted(
    running: tuple[Application, Application],
    guarded: Guarded,
    caplog: pytest.LogCaptureFixture,
    user: str,
    name: str,
    operation: str,
) -> None:
    """Health and log name operation, resource and user; nothing is lost, and work goes on by itself once the right is there."""
    caplog.set_level(logging.WARNING, logger="millrace")
    says, counts = running
    app = says if user == TELLER else counts
    await says.execute(Add(name="a", n=1))
    await until(counts, seen(counts, "a", 1))
    full = guarded.namespace + name
    taken = [right for right in guarded.rights(user) if right.name == full]
    await guarded.revoke(taken)
    for n in (2, 3):
        await says.execute(Add(name="a", n=n))
    principal = "User:teller" if user == TELLER else "certificate"
    await until(app, ailing(app, "unauthorized", full, principal))
    told = " ".join(entry.last_error or "" for entry in app.health().entries)
    assert operation in told, told
    await until(app, lambda: any("unauthorized" in each.getMessage() and full in each.getMessage() for each in caplog.records))

    await guarded.grant(taken)
    await until(counts, seen(counts, "a", 1, 2, 3))
    for each in running:
        await until(each, well(each))
    assert guarded.broker.passwords[user] not in caplog.text + told


async def test_a_service_without_rights_does_not_start(guarded: Guarded) -> None:
    """The start fails with the first right that is missing."""
    app = guarded.application(TELLER)
    with pytest.raises(StoreUnavailable, match=rf"User:teller needs the right CREATE on topic {guarded.namespace}") as found:
        await app.start()
    assert found.value.reason == "unauthorized"


async def test_a_group_without_the_right_is_named(guarded: Guarded) -> None:
    """The right to share partitions out is named like those on topics."""
    await guarded.grant([right for right in guarded.rights(TELLER) if right.resource == "topic"])
    app = guarded.application(TELLER)
    with pytest.raises(StoreUnavailable, match=rf"User:teller needs the right READ on group {guarded.namespace}__millrace.leases"):
        await app.start()


async def test_wrong_credentials_end_the_start_and_are_not_repeated(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong password is told within seconds, and neither it nor the right one stands anywhere."""
    app = guarded.application(TELLER, **{"sasl.password": "wr0ng-passw0rd"})
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable, match=r"(?i)authentication") as found:
            await app.start()
    assert found.value.reason == "unauthorized"
    shown = " ".join([str(found.value), repr(app.engine.of_log), repr(guarded.settings(TELLER)), caplog.text])
    assert "wr0ng" not in shown
    assert guarded.broker.passwords[TELLER] not in shown


async def test_an_unknown_authority_ends_the_start(guarded: Guarded, tmp_path: Path) -> None:
    """A broker whose certificate cannot be verified is not talked to."""
    other = tmp_path / "other.crt"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null", "-out", str(other), "-subj", "/CN=other"]
    subprocess.run(command, check=True, capture_output=True)
    app = guarded.application(TELLER, **{"ssl.ca.location": str(other)})
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable, match=r"(?i)certificate verify failed"):
            await app.start()


async def test_tokens_pass_through_by_properties(guarded: Guarded) -> None:
    """OAUTHBEARER is a matter of client properties: the broker takes the token's user for the user."""
    trust = {"security.protocol": "SASL_SSL", "ssl.ca.location": str(guarded.broker.folder / "ca.crt"), "sasl.mechanism": "OAUTHBEARER"}
    token = {"enable.sasl.oauthbearer.unsecure.jwt": "true", "sasl.oauthbearer.config": f"principal={COUNTER}"}
    settings = KafkaSettings(guarded.broker.address, properties=trust | token, namespace=guarded.namespace, replication=1)
    log = KafkaEngine(settings).log().log
    with pytest.raises(StoreUnavailable, match="CREATE on topic"):
        await log.open()
    await guarded.grant(guarded.rights(COUNTER))
    log = KafkaEngine(settings).log().log
    await log.open()
    await log.close()


async def test_the_printed_commands_are_kafkas(guarded: Guarded) -> None:
    """What `topics acls` prints runs as it stands, with Kafka's own tool."""
    right = guarded.rights(COUNTER)[-1]
    program, *words = shlex.split(right.command)
    assert program == "kafka-acls"
    words[words.index("admin.properties")] = str(guarded.broker.folder / f"{ADMIN}.java.properties")
    command = [java(), "-XX:TieredStopAtLevel=1", "-cp", f"{jars()}/*", "org.apache.kafka.tools.AclCommand", *words]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    (wanted,) = _bindings(right, AclBindingFilter)
    found = await guarded.admin.answers({"": guarded.admin.admin.describe_acls(wanted)}, what="asking")
    assert len(found[""]) == 1
