"""The tables of the PostgreSQL engine keep every key and value as it is given, and its transactions are the runtime's to end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from millrace.engines.postgres.arrays import escaped, restored
from millrace.engines.postgres.store import PostgresStore
from millrace.errors import ConfigurationError, StoreUnavailable
from millrace.held import HeldRow
from millrace.ports import JournalEntry, StoredAnswer, TimerRow

STRANGE = ["", "\x00", "\x01", "\x010", "\x00\x01", "a\x00b", "\"'", "\\", "😀", "\u2028", "ä", "a" * 5000, "null", "1", "[1]", "{}", "%s"]


def test_escaping_keeps_texts_and_their_order() -> None:
    """What PostgreSQL cannot keep in a text is written otherwise, can be told apart, and sorts where it sorted."""
    assert [restored(escaped(text)) for text in STRANGE] == STRANGE
    assert sorted(STRANGE, key=escaped) == sorted(STRANGE)


async def test_rows_come_back(store: PostgresStore) -> None:
    """Rows of a kind by key, whatever the key, and in pages in the order of the keys; other kinds are left alone."""
    transaction = await store.begin()
    await transaction.states.save([("kind", key, key.encode()) for key in STRANGE])
    await transaction.states.save([("other", "ä", b"other")])
    assert await transaction.states.load("kind", STRANGE) == {key: key.encode() for key in STRANGE}
    assert await transaction.states.page("kind", after="", limit=100) == [(key, key.encode()) for key in sorted(STRANGE)[1:]]
    await transaction.states.delete([("kind", key) for key in STRANGE])
    assert await transaction.states.load("kind", STRANGE) == {}
    await transaction.states.save([("kind", "a", b"again")])
    assert await transaction.states.load("other", ["ä"]) == {"ä": b"other"}
    await transaction.commit()
    assert await store.reader.states.load("kind", STRANGE) == {}
    assert await store.reader.states.load("kind", ["a"]) == {"a": b"again"}


async def test_streams_come_back(store: PostgresStore) -> None:
    """Events of streams by name, whatever the name, above a version and up to one; the last snapshot of each."""
    transaction = await store.begin()
    entries = [(name, version) for name in STRANGE for version in (1, 2, 3)]
    first = await transaction.journal.reserve(len(entries))
    await transaction.journal.append(
        [JournalEntry(first + i, "t", 0, name, name, version, str(version).encode()) for i, (name, version) in enumerate(entries)],
        snapshots=[(name, b"%d" % n) for name in STRANGE for n in (1, 2)],
    )
    rows = await transaction.journal.streams(dict.fromkeys(STRANGE, 1), until=2)
    assert sorted((row[0], row[1], row[2]) for row in rows) == sorted((name, 2, b"2") for name in STRANGE)
    assert await transaction.journal.snapshots(STRANGE) == dict.fromkeys(STRANGE, b"2")
    await transaction.commit()
    found, upto = await store.reader.journal.tail(0, limit=1000)
    assert [row.key for row in found] == [name for name, _ in entries]
    assert upto == len(entries) == await store.reader.journal.head()


async def test_the_tail_is_bounded_in_bytes(store: PostgresStore) -> None:
    """Rows that are large come a few at a time, and one that is larger than the bound comes alone; none is left out."""
    transaction = await store.begin()
    sizes = [3 << 20, 3 << 20, 3 << 20, 9 << 20, 1]
    await transaction.journal.reserve(len(sizes))
    await transaction.journal.append([JournalEntry(n, "t", 0, "k", None, None, bytes(size)) for n, size in enumerate(sizes, 1)])
    await transaction.commit()
    after, looks = 0, list[list[int]]()
    while after < len(sizes):
        rows, after = await store.reader.journal.tail(after, limit=100)
        looks.append([row.position for row in rows])
    assert looks == [[1, 2, 3], [4], [5]]


async def test_answers_and_foreign_ids_come_back(store: PostgresStore) -> None:
    """First answers by scope and key; what was seen by processor, source and id; both go when they are old."""
    transaction = await store.begin()
    ids = [(source, name) for source in ("/a", "/b") for name in STRANGE]
    await transaction.answers.remember("p", ids[: len(STRANGE)], now_micros=1)
    await transaction.answers.add([(scope, key, StoredAnswer("f\x00", key.encode(), 5)) for scope in ("x", "y") for key in STRANGE])
    assert await transaction.answers.seen("p", ids) == set(ids[: len(STRANGE)])
    assert await transaction.answers.seen("q", ids) == set()
    wanted = [("x", key) for key in STRANGE] + [("z", "a")]
    assert await transaction.answers.find(wanted) == {("x", key): StoredAnswer("f\x00", key.encode(), 5) for key in STRANGE}
    assert await transaction.answers.expire(before=2) == len(STRANGE)
    assert await transaction.answers.seen("p", ids) == set()
    await transaction.commit()


async def test_held_messages_come_back(store: PostgresStore) -> None:
    """Held messages of some keys in the order of the log, and the first per key."""
    transaction = await store.begin()
    rows = [
        HeldRow("p", "t", 0, offset, key, "behind" if offset % 2 else "retry", b"v", detail=key) for offset, key in enumerate(STRANGE * 2)
    ]
    await transaction.held.save(rows)
    assert await transaction.held.load("p", keys=STRANGE[:3]) == [row for row in rows if row.key in STRANGE[:3]]
    assert await transaction.held.load("p") == rows
    assert await transaction.held.list(state="retry", limit=2) == [row for row in rows if row.state == "retry"][:2]
    blocked = {first.key: (first.state, first.offset) for first in await transaction.held.blocked("p")}
    assert blocked == {key: (rows[offset].state, offset) for offset, key in enumerate(STRANGE)}
    await transaction.held.remove(rows[1:])
    assert await transaction.held.counts() == {("p", "t", 0): (1, 0)}
    await transaction.rollback()


async def test_timers_come_back(store: PostgresStore) -> None:
    """Due timers in order, replaced by name, cancelled by name."""
    transaction = await store.begin()
    rows = [TimerRow("p", key, "n", 0, due, due % 2 == 0, "t", b"{}", "c", "d") for due, key in enumerate(STRANGE)]
    await transaction.timers.set(rows)
    await transaction.timers.set(rows)
    assert await transaction.timers.due("p", partition=0, until=4, limit=100) == rows[:5]
    assert await transaction.timers.cancel([("p", STRANGE[0], "n"), ("p", "nobody", "n")]) == [True, False]
    assert await transaction.timers.next("p") == {0: 1}
    assert await transaction.timers.count() == len(STRANGE) - 1
    await transaction.rollback()


async def test_documents_come_back(store: PostgresStore) -> None:
    """Documents by key and by look-up, newest first, below a cursor; a build goes with all of it."""
    transaction = await store.begin()
    build = await transaction.views.add("v", 1, "serving")
    await transaction.documents.save(build.id, [(key, key.encode()) for key in STRANGE])
    await transaction.documents.index(build.id, remove=[], add=[("f", "x", key, key) for key in STRANGE])
    newest = sorted(STRANGE, reverse=True)
    page = await transaction.documents.page(build.id, field="f", value="x", before=None, limit=5)
    assert page == [(key, key, key.encode()) for key in newest[:5]]
    page = await transaction.documents.page(build.id, field="f", value="x", before=page[-1][:2], limit=100)
    assert page == [(key, key, key.encode()) for key in newest[5:]]
    await transaction.views.drop(build.id)
    assert await transaction.documents.count(build.id) == 0
    assert await transaction.views.list() == []
    await transaction.commit()


async def test_positions_go_on(store: PostgresStore) -> None:
    """Journal positions have no gap after a transaction that was undone, and go on when retention has emptied the table."""
    transaction = await store.begin()
    assert await transaction.journal.reserve(2) == 1
    await transaction.rollback()
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
    assert await store.reader.journal.counts(9) == (2, 0, 0, 0)


async def test_savepoints_undo_their_work_alone(store: PostgresStore) -> None:
    """What a handler did before it raised is undone, sent or not, a failed statement of its own too; what was there before stays."""
    transaction = await store.begin()
    await transaction.states.save([("k", "before", b"1")])

    async def unsent() -> None:
        await transaction.states.save([("k", "unsent", b"2")])
        raise KeyError("x")

    async def sent() -> None:
        await transaction.states.save([("k", "sent", b"2")])
        assert await transaction.execute("select count(*) from state") == [(2,)]
        raise KeyError("x")

    async def wrong() -> None:
        await transaction.execute("select 1 / 0")

    async def right() -> None:
        await transaction.states.save([("k", "right", b"3")])

    for work, error in ((unsent, KeyError), (sent, KeyError), (wrong, StoreUnavailable)):
        with pytest.raises(error):
            await transaction.savepoint(work)
    await transaction.savepoint(right)
    assert await transaction.states.load("k", ["before", "unsent", "sent", "right"]) == {"before": b"1", "right": b"3"}
    await transaction.commit()


@pytest.mark.parametrize(
    "sql", ["commit", "ROLLBACK", " begin", "end;", "commit;", "/* x */ commit", "-- x\nrollback", "select 1; commit", "savepoint x"]
)
async def test_handlers_cannot_end_the_transaction(store: PostgresStore, sql: str) -> None:
    """The transaction is the runtime's to end, however the statement is written."""
    transaction = await store.begin()
    await transaction.states.save([("k", "a", b"1")])
    with pytest.raises(ConfigurationError, match="the transaction is the runtime's"):
        await transaction.execute(sql)
    await transaction.rollback()
    assert await store.reader.states.load("k", ["a"]) == {}


@pytest.mark.parametrize(
    "sql, values, rows",
    [
        ("select %s::int + 1, %s::text, '100%%'", (4, "a"), [(5, "a", "100%")]),
        ("select '100%' like '%0%'", (), [(True,)]),
        ("select %s::jsonb ->> 'a', %s::timestamptz is null", ('{"a": "b"}', None), [("b", True)]),
        ("create table mine (n int)", (), []),
    ],
)
async def test_handlers_have_sql_of_their_own(store: PostgresStore, sql: str, values: tuple[Any, ...], rows: list[Any]) -> None:
    """Values of the driver's types go in and come out, in the schema of the service."""
    transaction = await store.begin()
    assert await transaction.execute(sql, *values) == rows
    await transaction.rollback()


async def test_handlers_may_do_two_things_at_once(store: PostgresStore) -> None:
    """Statements of one transaction that are begun together run one after the other, and each gets its own rows."""
    transaction = await store.begin()
    found = await asyncio.gather(*(transaction.execute("select %s::int", n) for n in range(20)))
    assert found == [[(n,)] for n in range(20)]
    await transaction.rollback()


@pytest.mark.parametrize("sql, values", [("select %d", (1,)), ("select %s", (1, 2)), ("select '5%', %s", (1,))])
async def test_placeholders_are_checked(store: PostgresStore, sql: str, values: tuple[Any, ...]) -> None:
    """A statement whose placeholders do not fit is refused before it is sent, and harms nothing."""
    transaction = await store.begin()
    with pytest.raises(ConfigurationError, match="placeholders"):
        await transaction.execute(sql, *values)
    assert await transaction.execute("select 1") == [(1,)]
    await transaction.rollback()
