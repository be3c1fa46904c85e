"""Fixtures of the tests that concern PostgreSQL alone: a namespace on the server for tests, and a server that a test may restart and kill.

Both are skipped without a server, with the reason; `MILLRACE_REQUIRE_ENGINES=1` makes that a failure.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from deploy.servers import postgres
from millrace.engines.postgres import PostgresEngine
from millrace.engines.postgres.store import PostgresStore
from millrace.testing.conformance.postgres_kit import PostgresDamage, server_address
from millrace.testing.conformance.servers import missing

NewEngine = Callable[[], PostgresEngine]


@pytest.fixture
def namespace() -> Iterator[str]:
    """A namespace that is removed at the end."""
    name = f"u{os.urandom(5).hex()}"
    yield name
    PostgresDamage(server_address(), name).run("forget_schemas")


@pytest.fixture
def damage(namespace: str) -> PostgresDamage:
    """Runs statements of the suite on the namespace."""
    return PostgresDamage(server_address(), namespace)


@pytest.fixture
async def new_engine(namespace: str) -> AsyncIterator[NewEngine]:
    """Makes the engine of one more process on the namespace."""
    made: list[PostgresEngine] = []

    def make() -> PostgresEngine:
        made.append(PostgresEngine(server_address(), namespace=namespace))
        return made[-1]

    yield make
    for engine in made:
        await engine.stop()


@pytest.fixture
async def store(new_engine: NewEngine) -> AsyncIterator[PostgresStore]:
    """An open store."""
    found = new_engine().store("s")
    await found.open()
    yield found
    await found.close()


@pytest.fixture
async def other(store: PostgresStore, new_engine: NewEngine) -> AsyncIterator[PostgresStore]:
    """The same store in another process."""
    found = new_engine().store("s")
    await found.open()
    yield found
    await found.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A server of the module's own, running; start it again after ending it."""
    folder = tmp_path_factory.mktemp("server")
    try:
        postgres.binaries()
    except postgres.ServerFailed as error:
        missing(str(error))
    postgres.start(folder)
    yield folder
    postgres.remove(folder)
