"""Two processes on one store: what both want to change is changed by one after the other, never from the same old value."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from millrace.clock import SystemClock
from millrace.engines.postgres import PostgresEngine
from millrace.engines.postgres.session import Timeouts
from millrace.engines.postgres.store import PostgresStore
from millrace.errors import Conflict, StoreUnavailable
from millrace.ports import JournalEntry, StoredAnswer, StoreTransaction
from millrace.serialization import Catalogue
from millrace.testing.conformance.postgres_kit import server_address
from millrace.unit_of_work import Saying, UnitOfWork
from millrace.writer import Waiting, Writer


async def count_up(transaction: StoreTransaction, key: str, *, by: int = 1) -> None:
    """Read a number and write it back increased."""
    found = await transaction.states.load("n", [key])
    await transaction.states.save([("n", key, b"%d" % (int(found.get(key, b"0")) + by))])


class Add(Waiting):
    """Counts keys up, in the order given."""

    def __init__(self, *keys: str) -> None:
        super().__init__()
        self._keys = keys

    async def run(self, unit: UnitOfWork) -> None:
        """Lock and change one key after the other."""
        for key in self._keys:
            await count_up(unit.transaction, key)


def writer_of(store: PostgresStore) -> Writer:
    """Return a running writer on a store."""
    saying = Saying("s", "/t/s", 1, Catalogue("t", services=["s"]), lambda _: 1, {})
    writer = Writer(store, saying, clock=SystemClock(), committed=lambda _: None)
    writer.start()
    return writer


async def numbers(store: PostgresStore, *keys: str) -> list[int]:
    """Return what was counted."""
    found = await store.reader.states.load("n", keys)
    return [int(found.get(key, b"0")) for key in keys]


async def test_loaded_rows_wait_for_each_other(store: PostgresStore, other: PostgresStore) -> None:
    """The second to load a row waits for the first, and reads what it has written."""
    one = await store.begin()
    await one.states.save([("n", "a", b"1")])
    await one.commit()

    one, two = await store.begin(), await other.begin()
    assert await one.states.load("n", ["a"]) == {"a": b"1"}
    loading = asyncio.ensure_future(two.states.load("n", ["a"]))
    await one.states.save([("n", "a", b"2")])
    done, _ = await asyncio.wait([loading], timeout=0.2)
    assert not done
    await one.commit()
    assert await loading == {"a": b"2"}
    await two.rollback()


async def test_only_one_adds_an_absent_row(store: PostgresStore, other: PostgresStore) -> None:
    """Two that found a row absent cannot both write it: the second is a conflict, and nothing of it has happened."""
    one, two = await store.begin(), await other.begin()
    for transaction in (one, two):
        assert await transaction.states.load("n", ["a"]) == {}
        await transaction.states.save([("n", "a", b"1"), ("n", f"{id(transaction)}", b"1")])
    await one.commit()
    with pytest.raises(Conflict):
        await two.commit()
    assert len(await store.reader.states.page("n", after="", limit=10)) == 2


async def test_absence_that_was_built_on_is_held_to(store: PostgresStore, other: PostgresStore) -> None:
    """Of two transactions that each write what the other has found absent, one is a conflict."""
    for table in ("states", "documents"):
        one, two = await store.begin(), await other.begin()
        for transaction, reads, writes in ((one, "x", "y"), (two, "y", "x")):
            if table == "states":
                assert await transaction.states.load("n", [reads, writes]) == {}
                await transaction.states.save([("n", writes, b"1")])
            else:
                assert await transaction.documents.load(1, [reads, writes]) == {}
                await transaction.documents.save(1, [(writes, b"1")])
        ended = await asyncio.gather(one.commit(), two.commit(), return_exceptions=True)
        assert sorted(type(each).__name__ for each in ended) == ["Conflict", "NoneType"], table


async def test_streams_answers_and_foreign_ids_have_one_winner(store: PostgresStore, other: PostgresStore) -> None:
    """A version of a stream, an idempotency key, a foreign id: the second to add it is a conflict."""

    async def append(transaction: StoreTransaction) -> None:
        position = await transaction.journal.reserve(1)
        await transaction.journal.append([JournalEntry(position, "t", 0, "k", "stream", 1, b"")])

    async def answer(transaction: StoreTransaction) -> None:
        await transaction.answers.add([("scope", "key", StoredAnswer("f", b"", 1))])

    async def remember(transaction: StoreTransaction) -> None:
        await transaction.answers.remember("p", [("/a", "1")], now_micros=1)

    for add in (append, answer, remember):
        one, two = await store.begin(), await other.begin()
        await add(one)
        await one.commit()
        await add(two)
        with pytest.raises(Conflict):
            await two.commit()


async def test_positions_are_seen_in_order(store: PostgresStore, other: PostgresStore) -> None:
    """Who reserves waits until the positions below are visible, or were given back."""
    one, two = await store.begin(), await other.begin()
    assert await one.journal.reserve(3) == 1
    reserving = asyncio.ensure_future(two.journal.reserve(1))
    done, _ = await asyncio.wait([reserving], timeout=0.2)
    assert not done
    await one.rollback()
    assert await reserving == 1
    await two.rollback()


async def test_deadlocks_are_broken_and_repeated(store: PostgresStore, other: PostgresStore) -> None:
    """Writers of two processes that lock in opposite orders all get through, and every change is counted once."""
    one, two = writer_of(store), writer_of(other)
    for round_ in range(12):
        works = [(one, Add("a", "b")), (two, Add("b", "a"))]
        for writer, work in works:
            writer.submit(work)
        await asyncio.gather(*(work.finished for _, work in works))
        assert await numbers(store, "a", "b") == [2 * round_ + 2] * 2
    await one.stop()
    await two.stop()


async def test_contended_rows_lose_nothing(store: PostgresStore, other: PostgresStore) -> None:
    """Hundreds of changes of few rows by two processes at once, absent at first: each is counted once, none fails."""
    writers, keys = (writer_of(store), writer_of(other)), "abcde"
    works = [Add(*keys[n % 5 :], *keys[: n % 5]) for n in range(200)]
    for writer, work in zip(itertools.cycle(writers), works, strict=False):
        writer.submit(work)
    await asyncio.gather(*(work.finished for work in works))
    assert await numbers(store, *keys) == [200] * 5
    for writer in writers:
        await writer.stop()


async def test_a_lock_is_not_waited_for_for_ever(store: PostgresStore, namespace: str) -> None:
    """Whoever waits longer than `lock` seconds hears `locked`."""
    engine = PostgresEngine(server_address(), namespace=namespace, timeouts=Timeouts(lock=0.1))
    impatient = engine.store("s")
    await impatient.open()
    one, two = await store.begin(), await impatient.begin()
    await one.journal.reserve(1)
    with pytest.raises(StoreUnavailable) as locked:
        await two.journal.reserve(1)
    assert locked.value.reason == "locked"
    await two.rollback()
    await one.rollback()
    await impatient.close()
    await engine.stop()


async def test_long_statements_end(store: PostgresStore, namespace: str) -> None:
    """A statement of the application's that runs too long is its message's failure, and the transaction can be undone."""
    engine = PostgresEngine(server_address(), namespace=namespace, timeouts=Timeouts(statement=0.1))
    strict = engine.store("s")
    await strict.open()
    transaction = await strict.begin()

    async def work() -> None:
        await transaction.execute("select pg_sleep(10)")

    with pytest.raises(StoreUnavailable, match="statement timeout") as ended:
        await transaction.savepoint(work)
    assert ended.value.reason == "failed"
    assert await transaction.execute("select 1") == [(1,)]
    await transaction.rollback()
    await strict.close()
    await engine.stop()


async def test_commits_are_heard_in_other_processes(store: PostgresStore, namespace: str) -> None:
    """A hint arrives in the other process after a commit, and not in the one that has committed."""
    engines = [PostgresEngine(server_address(), namespace=namespace) for _ in range(2)]
    mine, theirs = (engine.store("s") for engine in engines)
    heard = {name: asyncio.Event() for name in ("mine", "theirs")}
    for name, each, engine in (("mine", mine, engines[0]), ("theirs", theirs, engines[1])):
        await each.open()
        each.on_change(heard[name].set)
        await engine.start()
        await asyncio.wait_for(heard[name].wait(), 10)  # all are called once when the connection stands
        heard[name].clear()
    async with asyncio.timeout(10):
        while not heard["theirs"].is_set():
            transaction = await mine.begin()
            await transaction.states.save([("k", "a", b"1")])
            await transaction.commit()
            await asyncio.wait([asyncio.ensure_future(heard["theirs"].wait())], timeout=1)
    assert not heard["mine"].is_set()
    for each, engine in ((mine, engines[0]), (theirs, engines[1])):
        await each.close()
        await engine.stop()
