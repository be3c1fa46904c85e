"""Stores behind a pooler that hands each transaction another connection: every promise holds, and what does not work is said."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from millrace.engines.postgres import PostgresEngine
from millrace.engines.postgres.session import OwnSql, Session, Timeouts
from millrace.testing.conformance import (
    Promise,
    each,
    g01_fact_and_announcement,
    g02_effects_once,
    g05_visibility,
    retaining,
    streams,
    views,
)
from millrace.testing.conformance.kit import EngineKit, kit_of
from millrace.testing.conformance.postgres_kit import server_address
from millrace.testing.conformance.servers import POSTGRES
from parcomolo.configuration import SERVICES
from tests.e2e.running_shop import RunningShop, facts_of, is_balanced, millrace, run
from tests.postgres.pooler import pooling
from tests.shop_places import CHOICE

ENOUGH = 2 * len(SERVICES) + 1
SETTINGS = "select current_setting('enable_seqscan'), current_setting('lock_timeout')"
SLOWLY = "select pg_backend_pid() from pg_sleep(0.02)"


@pytest.fixture(scope="module")
def pooler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a pooler in front of the server for tests."""
    with pooling(server_address(), tmp_path_factory.mktemp("pooler")) as url:
        yield url


@pytest.fixture
def pooled_kit(pooler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineKit]:
    """The kit of the conformance suite with its stores behind the pooler."""
    monkeypatch.setenv(POSTGRES, pooler)
    kit = kit_of("sqlite/postgres", tmp_path)
    yield kit
    kit.close()


@pytest.fixture
async def engine(pooler: str) -> AsyncIterator[PostgresEngine]:
    """An engine behind the pooler, with a namespace of its own."""
    found = PostgresEngine(pooler, namespace=f"u{os.urandom(5).hex()}")
    await found.start()
    yield found
    await found.stop()
    with psycopg.connect(server_address(), autocommit=True) as connection:
        connection.execute(f'drop schema if exists "{found.schema_of("s")}" cascade')


@each(g01_fact_and_announcement, g02_effects_once, g05_visibility, retaining, streams, views)
async def test_promise(pooled_kit: EngineKit, promise: Promise) -> None:
    """The promise that the check's docstring states is kept behind the pooler."""
    await promise(pooled_kit)


async def test_a_pooler_is_noticed(pooler: str) -> None:
    """A session knows whether the process that serves it is the one that it was told of."""
    for url, pooled in ((pooler, True), (server_address(), False)):
        session = await Session.connect(url, "s", timeouts=Timeouts())
        assert session.pooled is pooled
        session.close()


async def test_settings_go_with_each_transaction(pooler: str) -> None:
    """Whichever connection serves: ours has our settings, inside a transaction and outside, and leaves none of them to others."""
    sessions = [await Session.connect(pooler, "s", timeouts=Timeouts(lock=7.0)) for _ in range(3)]
    served = set[int]()
    for _ in range(4):
        for ((pid,),), ours in await asyncio.gather(*(session.run([OwnSql(SLOWLY, ()), OwnSql(SETTINGS, ())]) for session in sessions)):
            served.add(pid)
            assert ours == [("off", "7s")]
    assert len(served) > 1, "one connection serves all, which proves nothing"
    with psycopg.connect(pooler, autocommit=True, prepare_threshold=None) as other:
        for _ in range(2 * len(served)):
            assert other.execute(SETTINGS).fetchall() == [("on", "0")]
    for session in sessions:
        session.close()


async def test_log_and_doctor_say_what_does_not_work(engine: PostgresEngine, caplog: pytest.LogCaptureFixture) -> None:
    """Who starts behind a pooler is told once that LISTEN does not get through, and `check` says it with everything else."""
    store = engine.store("s")
    await store.open()
    async with asyncio.timeout(20):
        while not any("LISTEN" in each.getMessage() for each in caplog.records):
            await store.epoch()
    findings = {what: (well, text) for what, well, text in await store.check()}
    assert findings["pooler"][0]
    assert "LISTEN" in findings["pooler"][1]
    assert all(well for well, _ in findings.values()), findings
    await store.close()
    assert [each.levelno for each in caplog.records if "LISTEN" in each.getMessage()] == [logging.WARNING]


def test_a_shop_behind_a_pooler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that share the shop carry orders through, and the command line finds it balanced and sound."""
    data = tmp_path / "data"
    with pooling(server_address(), tmp_path, connections=ENOUGH) as pooler:
        monkeypatch.setenv(POSTGRES, pooler)
        monkeypatch.setenv(CHOICE, "sqlite/postgres")
        with (
            RunningShop(data, services="orders,catalogue,inventory", shipping_delay="0") as one,
            RunningShop(data, services="payments,shipping,checkout,rewards,operations,reports", shipping_delay="0"),
        ):
            order = one.completed(("cheese", 2))
            assert facts_of(order).count("payment-succeeded") == 1
            assert "LISTEN" in one.complaints
            assert {each["state"] for each in millrace(data, "doctor")} <= {"ok", "look"}
        assert is_balanced(data)
        assert run("parcomolo", "reset", "--yes", data=data).status == 0
