"""The crash harness on Kafka and PostgreSQL: what is durable when the process dies is what its steps say, and nothing else."""

import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.engines.kafka import KafkaSettings
from millrace.testing.conformance.kafka_kit import address, delete_topics
from millrace.testing.conformance.postgres_kit import PostgresDamage, server_address
from millrace.testing.crash import Process, Step, Trap, Zygote
from tests.crash.counted_on_servers import OF_EACH, PARTITIONS, SERVICE, records_in, rows_in

pytestmark = [pytest.mark.crash, pytest.mark.slow]
ENTRY = "tests.crash.counted_on_servers:main"
ROWS = 6
RELAY = "millrace-relay"


@pytest.fixture
def namespace() -> Iterator[str]:
    """Names of its own on the servers."""
    name = f"h{uuid.uuid4().hex[:10]}"
    yield name
    delete_topics(KafkaSettings(address(), namespace=f"{name}."))
    PostgresDamage(server_address(), name).run("forget_schemas")


def started(zygote: Zygote, folder: Path, trap: Trap, namespace: str) -> Process:
    """Start the program, arm the trap when it is ready, and let it write."""
    process = zygote.start(ENTRY, [str(ROWS), address(), server_address(), namespace], trap=trap, log=folder / "log")
    assert process.line() == "ready"
    trap.arm()
    process.send(signal.SIGUSR1)
    return process


def told(steps: list[Step]) -> tuple[int, set[str]]:
    """Return how many rows and which records these steps have made durable."""
    published = {operation for step in steps if step.service == RELAY for operation in step.operations}
    return sum(step.service == SERVICE for step in steps), {operation.removeprefix("publish ") for operation in published}


@pytest.mark.parametrize("at", range(10))
async def test_it_dies_right_after_a_step(at: int, zygote: Zygote, tmp_path: Path, namespace: str) -> None:
    """Killed at n while rows and records are written at the same time, exactly what n steps name is durable."""
    trap = Trap(steps=tmp_path / "steps", at=at)

    assert started(zygote, tmp_path, trap, namespace).wait() == -signal.SIGKILL
    assert [step.number for step in trap.read()] == list(range(1, at + 1))
    assert (rows_in(server_address(), namespace), await records_in(address(), namespace)) == told(trap.read())


@pytest.mark.parametrize("service", [SERVICE, RELAY])
async def test_it_dies_before_a_step(service: str, zygote: Zygote, tmp_path: Path, namespace: str) -> None:
    """Killed early at the third step of a service, two of them are durable."""
    trap = Trap(steps=tmp_path / "steps", at=3, early=True, service=service)

    assert started(zygote, tmp_path, trap, namespace).wait() == -signal.SIGKILL
    rows, records = told(trap.read())
    assert len(trap.read()) == 2
    if service == SERVICE:
        assert rows_in(server_address(), namespace) == rows
    else:
        assert await records_in(address(), namespace) == records


async def test_a_whole_run(zygote: Zygote, tmp_path: Path, namespace: str) -> None:
    """Every commit that wrote is a step, one that wrote nothing or was undone is none; records to two partitions are never one step."""
    trap = Trap(steps=tmp_path / "steps")

    assert started(zygote, tmp_path, trap, namespace).wait() == ROWS
    steps = trap.read()
    rows, records = told(steps)
    assert rows == ROWS == rows_in(server_address(), namespace)
    assert {step.operations for step in steps if step.service == SERVICE} == {("insert fact",)}
    assert len(records) == ROWS * PARTITIONS * OF_EACH
    assert records == await records_in(address(), namespace)
    assert all(len({name.split("-")[1] for name in step.operations}) == 1 for step in steps if step.service == RELAY)
