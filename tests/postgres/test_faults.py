"""A real PostgreSQL that is stopped, restarted and killed while work goes on: nothing is lost, nothing happens twice, work resumes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.servers import postgres
from millrace.engines.postgres import PostgresEngine
from millrace.errors import StoreUnavailable
from millrace.execution import IdempotencyKey
from millrace.ports import JournalEntry
from millrace.testing.conformance.kit import kit_of
from millrace.testing.conformance.lab import Lab, balanced, published, totals
from millrace.testing.conformance.sample import Add
from millrace.testing.conformance.servers import POSTGRES
from tests.postgres.proxy import Proxy

NAMES = "abcd"
TIMES = 40

pytestmark = [pytest.mark.slow, pytest.mark.crash]


def port_of(url: str) -> int:
    """Return the port in an address."""
    return int(url.rpartition(":")[2].partition("/")[0])


async def test_a_refused_connection_is_named(server: Path) -> None:
    """Where nobody listens a store is `unreachable`, at its opening, when it writes, when it reads; afterwards it works."""
    url = postgres.start(server)
    engine = PostgresEngine(url, namespace=f"u{os.urandom(4).hex()}")
    store = engine.store("s")
    await store.open()
    await asyncio.to_thread(postgres.stop, server)
    try:
        transaction = await store.begin()
        for attempt in (engine.store("t").open, store.epoch, lambda: transaction.states.load("k", ["a"])):
            with pytest.raises(StoreUnavailable) as refused:
                await attempt()
            assert refused.value.reason == "unreachable"
        await transaction.rollback()
    finally:
        await asyncio.to_thread(postgres.start, server, port_of(url))
    transaction = await store.begin()
    await transaction.states.save([("k", "a", b"1")])
    await transaction.commit()
    assert await store.epoch() == 1
    await store.close()
    await engine.stop()


@pytest.mark.parametrize("end", [postgres.stop, postgres.kill], ids=["restarted", "killed"])
async def test_work_goes_on_after_the_server_has_ended(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Callable[[Path], None]
) -> None:
    """Callers that repeat under one key, and a service that reads them: each number is there once, in order, and the ledger balances."""
    url = postgres.start(server)
    monkeypatch.setenv(POSTGRES, url)
    kit = kit_of("sqlite/postgres", tmp_path)
    kit.patience = 60.0
    done: list[str] = []
    async with Lab(kit) as lab:
        app = await lab.start()

        async def say(name: str) -> None:
            for n in range(1, TIMES + 1):
                while True:
                    try:
                        await app.execute(Add(name=name, n=n), idempotency=IdempotencyKey("test", f"{name}{n}"))
                        break
                    except StoreUnavailable:
                        await app.hosts["teller"].changed.wait(app.hosts["teller"].changed.calls, 0.05)
                done.append(name)

        saying = [asyncio.ensure_future(say(name)) for name in NAMES]
        await lab.eventually(app, lambda: len(done) >= TIMES)
        await asyncio.to_thread(end, server)
        assert len(done) < len(NAMES) * TIMES, "it ended too late to be noticed"
        await asyncio.to_thread(postgres.start, server, port_of(url))
        await asyncio.gather(*saying)
        await lab.settled()
        found = await totals(app)
        odd = {name: [(n, found[name].count(n)) for n in range(1, TIMES + 1) if found[name].count(n) != 1] for name in NAMES}
        assert odd == {name: [] for name in NAMES}, "numbers with how often they were counted"
        assert found == {name: tuple(range(1, TIMES + 1)) for name in NAMES}
        assert len(await published(app, "tally")) == len(NAMES) * TIMES
        await balanced(app)
    kit.close()


@pytest.mark.parametrize("lost, there", [("answer", True), ("question", False)])
async def test_the_outcome_of_a_commit_is_found_out(server: Path, lost: str, there: bool) -> None:
    """A commit whose answer was lost has succeeded; one that never arrived has failed, and the caller hears which."""
    async with Proxy(postgres.start(server)) as proxy:
        engine = PostgresEngine(proxy.url, namespace=f"u{os.urandom(4).hex()}")
        store = engine.store("s")
        await store.open()
        transaction = await store.begin()
        position = await transaction.journal.reserve(1)
        await transaction.journal.append([JournalEntry(position, "t", 0, "k", None, None, b"v")])
        proxy.lose = lost
        if there:
            await transaction.commit()
        else:
            with pytest.raises(StoreUnavailable) as failed:
                await transaction.commit()
            assert failed.value.reason == "unreachable"
        assert await store.reader.journal.head() == int(there)
        await store.close()
        await engine.stop()


async def test_hints_are_heard_again(server: Path) -> None:
    """After a restart of the server a process listens again by itself, and whoever waits is called because it may have missed something."""
    url, namespace = postgres.start(server), f"u{os.urandom(4).hex()}"
    engines = [PostgresEngine(url, namespace=namespace) for _ in range(2)]
    mine, theirs = (engine.store("s") for engine in engines)
    heard = asyncio.Event()
    theirs.on_change(heard.set)
    for store, engine in ((mine, engines[0]), (theirs, engines[1])):
        await store.open()
        await engine.start()
    async with asyncio.timeout(60):
        await heard.wait()
        heard.clear()
        await asyncio.to_thread(postgres.stop, server)
        await asyncio.to_thread(postgres.start, server, port_of(url))
        await heard.wait()
        heard.clear()
        transaction = await mine.begin()
        await transaction.states.save([("k", "a", b"1")])
        with pytest.raises(StoreUnavailable, match="connection"):
            await transaction.commit()  # its connection ended with the server, and a commit is not sent twice
        transaction = await mine.begin()
        await transaction.states.save([("k", "a", b"1")])
        await transaction.commit()
        await heard.wait()
    for store, engine in ((mine, engines[0]), (theirs, engines[1])):
        await store.close()
        await engine.stop()
