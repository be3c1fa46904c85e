"""The tables of the embedded engine keep every key and value as it is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.engines.sqlite import SqliteEngine
from millrace.engines.sqlite.journal import TAIL_BYTES_MAX
from millrace.engines.sqlite.log import READ_BYTES_MAX
from millrace.engines.sqlite.store import SqliteStore, SqliteTransaction
from millrace.errors import ConfigurationError
from millrace.held import HeldRow
from millrace.ports import JournalEntry, StoredAnswer, TimerRow, TopicSpec

KEYS = st.lists(st.text(), unique=True, min_size=1, max_size=6)
STRANGE = ["", "\x00", "a\x00b", "\"'", "\\", "😀", "\u2028", "ä", "a" * 5000, "null", "1", "[1]"]
ON_ONE_STORE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """An open store."""
    engine = SqliteEngine(tmp_path)
    found = engine.store("s")
    await found.open()
    yield found
    await found.close()
    await engine.stop()


async def test_rows_come_back(store: SqliteStore) -> None:
    """Rows of a kind by key, whatever the key; other kinds are left alone."""
    transaction = await store.begin()
    await transaction.states.save([("kind", key, key.encode()) for key in STRANGE])
    await transaction.states.save([("other", "ä", b"other")])
    assert await transaction.states.load("kind", STRANGE) == {key: key.encode() for key in STRANGE}
    await transaction.states.delete([("kind", key) for key in STRANGE])
    assert await transaction.states.load("kind", STRANGE) == {}
    assert await transaction.states.load("other", ["ä"]) == {"ä": b"other"}
    await transaction.commit()


async def test_streams_come_back(store: SqliteStore) -> None:
    """Events of streams by name, whatever the name, above a version and up to one."""
    transaction = await store.begin()
    entries = [(name, version) for name in STRANGE for version in (1, 2, 3)]
    first = await transaction.journal.reserve(len(entries))
    await transaction.journal.append(
        [JournalEntry(first + i, "t", 0, name, name, version, str(version).encode()) for i, (name, version) in enumerate(entries)]
    )
    rows = await transaction.journal.streams(dict.fromkeys(STRANGE, 1), until=2)
    assert sorted((row[0], row[1], row[2]) for row in rows) == sorted((name, 2, b"2") for name in STRANGE)
    await transaction.commit()


async def test_foreign_ids_come_back(store: SqliteStore) -> None:
    """What was seen is seen, by processor, source and id, whatever they are."""
    transaction = await store.begin()
    ids = [(source, name) for source in ("/a", "/b") for name in STRANGE]
    await transaction.answers.remember("p", ids[: len(STRANGE)], now_micros=1)
    assert await transaction.answers.seen("p", ids) == set(ids[: len(STRANGE)])
    assert await transaction.answers.seen("q", ids) == set()
    await transaction.answers.expire(before=2)
    assert await transaction.answers.seen("p", ids) == set()
    await transaction.commit()


async def test_answers_come_back(store: SqliteStore) -> None:
    """First answers by scope and key."""
    transaction = await store.begin()
    await transaction.answers.add([(scope, key, StoredAnswer("f", key.encode(), 5)) for scope in ("x", "y") for key in STRANGE])
    wanted = [("x", key) for key in STRANGE] + [("z", "a")]
    assert await transaction.answers.find(wanted) == {("x", key): StoredAnswer("f", key.encode(), 5) for key in STRANGE}
    await transaction.commit()


async def test_held_messages_come_back(store: SqliteStore) -> None:
    """Held messages of some keys in the order of the log, and the first per key."""
    transaction = await store.begin()
    rows = [HeldRow("p", "t", 0, offset, key, "behind" if offset % 2 else "retry", b"v") for offset, key in enumerate(STRANGE * 2)]
    await transaction.held.save(rows)
    assert await transaction.held.load("p", keys=STRANGE[:3]) == [row for row in rows if row.key in STRANGE[:3]]
    assert await transaction.held.load("p") == rows
    blocked = {first.key: (first.state, first.offset) for first in await transaction.held.blocked("p")}
    assert blocked == {key: (rows[offset].state, offset) for offset, key in enumerate(STRANGE)}
    await transaction.rollback()


async def test_timers_come_back(store: SqliteStore) -> None:
    """Due timers in order, replaced by name, cancelled by name."""
    transaction = await store.begin()
    rows = [TimerRow("p", key, "n", 0, due, False, "t", b"{}", "c", "d") for due, key in enumerate(STRANGE)]
    await transaction.timers.set(rows)
    assert await transaction.timers.due("p", partition=0, until=4, limit=100) == rows[:5]
    assert await transaction.timers.cancel([("p", STRANGE[0], "n"), ("p", "nobody", "n")]) == [True, False]
    assert await transaction.timers.next("p") == {0: 1}
    assert await transaction.timers.count() == len(STRANGE) - 1
    await transaction.rollback()


@ON_ONE_STORE
@given(keys=KEYS)
def test_any_key_comes_back(tmp_path: Path, keys: list[str]) -> None:
    """States, documents and answers under arbitrary texts."""

    async def check() -> None:
        engine = SqliteEngine(tmp_path)
        store = engine.store("any")
        await store.open()
        transaction = await store.begin()
        try:
            await _keep(transaction, keys)
        finally:
            await transaction.rollback()
            await store.close()
            await engine.stop()

    asyncio.run(check())


async def _keep(transaction: SqliteTransaction, keys: list[str]) -> None:
    await transaction.states.save([("k", key, key.encode()) for key in keys])
    assert await transaction.states.load("k", keys) == {key: key.encode() for key in keys}
    await transaction.documents.save(1, [(key, key.encode()) for key in keys])
    assert await transaction.documents.load(1, keys) == {key: key.encode() for key in keys}
    await transaction.answers.add([("s", key, StoredAnswer(key, b"a", 1)) for key in keys])
    assert set(await transaction.answers.find([("s", key) for key in keys])) == {("s", key) for key in keys}


async def test_positions_are_not_reused(store: SqliteStore) -> None:
    """Rolled back or removed, the numbers go on."""
    transaction = await store.begin()
    assert await transaction.journal.reserve(2) == 1
    await transaction.journal.append([JournalEntry(position, "t", 0, "k", None, None, b"") for position in (1, 2)])
    await transaction.commit()
    transaction = await store.begin()
    await transaction.execute("delete from journal")
    await transaction.commit()
    transaction = await store.begin()
    assert await transaction.journal.reserve(1) == 3
    await transaction.rollback()


async def test_savepoints_undo_their_work_alone(store: SqliteStore) -> None:
    """What a handler did before it raised is undone, what was there before stays; the error goes on."""
    transaction = await store.begin()
    await transaction.states.save([("k", "before", b"1")])

    async def work() -> None:
        await transaction.states.save([("k", "inside", b"2")])
        raise KeyError("x")

    with pytest.raises(KeyError):
        await transaction.savepoint(work)
    assert await transaction.states.load("k", ["before", "inside"]) == {"before": b"1"}
    await transaction.rollback()


@pytest.mark.parametrize("sql", ["commit", "ROLLBACK", " begin", "end;", "commit;", "/* x */ commit", "-- x\nrollback", "select 1; commit"])
async def test_handlers_cannot_end_the_transaction(store: SqliteStore, sql: str) -> None:
    """The transaction is the runtime's to end, however the statement is written."""
    transaction = await store.begin()
    with pytest.raises(ConfigurationError, match="the transaction is the runtime's"):
        await transaction.execute(sql)
    await transaction.rollback()


BIG = 1 << 20


async def test_the_next_journal_rows_are_cut_by_bytes(store: SqliteStore) -> None:
    """However many rows are asked for, what is brought into memory is bounded in bytes; nothing is left out, however large."""
    sizes = [BIG] * 20 + [TAIL_BYTES_MAX * 2, 1, 1]
    transaction = await store.begin()
    first = await transaction.journal.reserve(len(sizes))
    await transaction.journal.append([JournalEntry(first + i, "t", 0, "k", None, None, bytes(size)) for i, size in enumerate(sizes)])
    await transaction.commit()
    after, batches = 0, list[list[int]]()
    while rows := (await store.reader.journal.tail(after, limit=5000))[0]:
        batches.append([len(row.value) for row in rows])
        after = rows[-1].position
    assert [size for batch in batches for size in batch] == sizes
    assert all(sum(batch[:-1]) <= TAIL_BYTES_MAX for batch in batches), "only the last row of a batch may go beyond the bound"


async def test_records_are_cut_by_bytes(tmp_path: Path) -> None:
    """The same for records of a partition, which foreign producers may write of any size."""
    engine = SqliteEngine(tmp_path)
    parts = engine.log()
    log, administration = parts.log, parts.administration
    await log.open()
    await log.ensure([TopicSpec("t", partitions=1)])
    sizes = [BIG] * 20 + [READ_BYTES_MAX * 2, 1, 1]
    await administration.put("t", [("k", bytes(size)) for size in sizes])
    offset, batches = 0, list[list[int]]()
    while offset < len(sizes):
        records = await log.read("t", 0, offset=offset, limit=5000)
        batches.append([len(record.value) for record in records])
        offset = records[-1].offset + 1
    await log.close()
    await engine.stop()
    assert [size for batch in batches for size in batch] == sizes
    assert all(sum(batch[:-1]) <= READ_BYTES_MAX for batch in batches), "only the last record of a batch may go beyond the bound"
