"""How the embedded log takes a journal over: row by row or by one statement it ends as the same records, and reads them back alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from millrace import relay
from millrace.clock import SystemClock
from millrace.engines.sqlite import SqliteEngine
from millrace.engines.sqlite.recent import BYTES_MAX, RECORDS_MAX, Recent
from millrace.engines.sqlite.store import SqliteStore
from millrace.pace import Pace
from millrace.ports import JournalEntry, LogParts, Record, TopicSpec
from millrace.serialization import RECORD_BYTES_MAX, Catalogue
from millrace.unit_of_work import Saying
from millrace.writer import Writer

SOURCE = "/shop/orders"
TOPICS = (TopicSpec("orders", partitions=3), TopicSpec("other", partitions=1))


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[SqliteEngine]:
    """An engine on a fresh folder."""
    found = SqliteEngine(tmp_path)
    yield found
    await found.stop()


async def opened(engine: SqliteEngine) -> tuple[SqliteStore, LogParts]:
    """Return a store and the log, open, with topics."""
    store, parts = engine.store("orders"), engine.log()
    await store.open()
    await parts.log.open()
    await parts.log.ensure(TOPICS)
    return store, parts


async def journal(store: SqliteStore, rows: Sequence[tuple[str | None, int, bytes]]) -> None:
    """Append (topic, partition, value) to the journal."""
    transaction = await store.begin()
    first = await transaction.journal.reserve(len(rows))
    await transaction.journal.append(
        [JournalEntry(first + i, topic, p, f"k{i}", None, None, value) for i, (topic, p, value) in enumerate(rows)]
    )
    await transaction.commit()


async def everything(parts: LogParts) -> dict[tuple[str, int], list[tuple[int, str | None, bytes, int]]]:
    """Return what each partition holds, without the times."""
    found: dict[tuple[str, int], list[tuple[int, str | None, bytes, int]]] = {}
    for place, end in parts.feed.ends().items():
        records = await parts.log.read(*place, offset=0, limit=end) if end else []
        found[place] = [(record.offset, record.key, record.value, record.position) for record in records]
    return found


class Watched(relay.Relay):
    """A relay that says when it has found nothing."""

    idle: asyncio.Event

    async def publish_once(self) -> bool:
        """Publish, and say so."""
        more = await super().publish_once()
        if not more:
            self.idle.set()
        return more

    async def reached(self, position: int) -> None:
        """Wait until it has published up to a position and has found nothing after it."""
        while self.published < position or not self.idle.is_set():
            self.idle.clear()
            await self.idle.wait()


async def test_rows_of_others_are_followed(engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a relay has found rows that its own process did not commit, it finds the next ones without being told of them."""
    monkeypatch.setattr(relay, "FOLLOW_S", 30.0)
    store, parts = await opened(engine)
    saying = Saying("orders", SOURCE, 1, Catalogue("shop", services=["orders"]), lambda _: 1, {})
    writer = Writer(store, saying, clock=SystemClock(), committed=lambda _: None)
    found = Watched(store, parts, saying, writer=writer, pace=Pace(relay.TOGETHER_S))
    found.idle = asyncio.Event()
    await found.check()
    await journal(store, [("other", 0, b"1")])
    found.start()
    async with asyncio.timeout(5):
        await found.reached(1)
        await journal(store, [("other", 0, b"more")])
        await found.reached(2)
        await journal(store, [("other", 0, b"more")])
        await found.reached(3)
    await found.stop()
    assert [record[2] for record in (await everything(parts))["other", 0]] == [b"1", b"more", b"more"]


async def test_copied_and_appended_are_the_same(engine: SqliteEngine) -> None:
    """One statement leaves the records, ends and relay positions that the same rows leave one by one; twice in a row."""
    store, parts = await opened(engine)
    assert parts.copies is not None
    rows = [("orders", i % 3, b"%d" % i) if i % 7 else (("other", 0, b"o") if i % 2 else (None, 0, b"kept")) for i in range(500)]
    await journal(store, rows)
    assert await parts.copies.copy(store, SOURCE, 1, after=0, limit=300) == 300
    assert await parts.copies.copy(store, SOURCE, 1, after=300, limit=300) == 500
    tail, upto = await store.reader.journal.tail(0, limit=1000)
    assert await parts.log.append("/shop/again", 1, tail[:250], after=0) == tail[249][0]
    assert await parts.log.append("/shop/again", 1, tail[250:], after=tail[249][0]) == tail[-1][0]
    for place, records in (await everything(parts)).items():
        half = len(records) // 2
        assert [row[1:] for row in records[:half]] == [row[1:] for row in records[half:]], place
        assert [row[0] for row in records] == list(range(len(records)))
    published = sum(1 for topic, _, _ in rows if topic)
    assert await parts.administration.sources() == [("/shop/again", 1, tail[-1][0], published), (SOURCE, 1, upto, published)]
    await parts.log.close()
    await store.close()


async def test_a_relay_that_was_overtaken_copies_nothing(engine: SqliteEngine) -> None:
    """It is told where its source really stands, and no record is there twice."""
    store, parts = await opened(engine)
    assert parts.copies is not None
    await journal(store, [("orders", 0, b"x")] * 10)
    tail, _ = await store.reader.journal.tail(0, limit=4)
    await parts.log.append(SOURCE, 1, tail, after=0)
    assert await parts.copies.copy(store, SOURCE, 1, after=0, limit=100) == 4
    assert parts.feed.ends()["orders", 0] == 4
    await parts.log.close()
    await store.close()


@pytest.mark.parametrize(
    "row", [("nowhere", 0, b"x"), ("orders", 9, b"x"), ("orders", 0, bytes(RECORD_BYTES_MAX + 1))], ids=["topic", "partition", "size"]
)
async def test_what_asks_for_a_decision_is_not_copied(engine: SqliteEngine, row: tuple[str, int, bytes]) -> None:
    """Rows for places that are not there, and rows too large for the log, leave everything to whoever looks at each row."""
    store, parts = await opened(engine)
    assert parts.copies is not None
    await journal(store, [("orders", 0, b"x"), row])
    assert await parts.copies.copy(store, SOURCE, 1, after=0, limit=100) is None
    assert parts.feed.ends()["orders", 0] == 0
    assert await parts.log.published(SOURCE, 1) == 0
    await parts.log.close()
    await store.close()


def records(first: int, count: int, *, size: int = 1) -> list[Record]:
    """Return consecutive records."""
    return [Record(offset, None, bytes(size), 0, offset) for offset in range(first, first + count)]


def test_recent_records_have_no_gap() -> None:
    """What another process appended in between is not in memory, so nothing before it may be read from there."""
    recent, place = Recent(), ("orders", 0)
    recent.add(place, records(5, 3))
    assert recent.read(place, 4, 10) is None
    assert recent.read(place, 6, 10) == records(6, 2)
    assert recent.read(place, 6, 1) == records(6, 1)
    recent.add(place, records(20, 2))
    assert recent.read(place, 6, 10) is None
    assert recent.read(place, 20, 10) == records(20, 2)
    assert recent.read(place, 22, 10) is None


@pytest.mark.parametrize("size", [1, BYTES_MAX // 8, BYTES_MAX * 2])
def test_recent_records_are_bounded(size: int) -> None:
    """Neither many nor large records pile up; the newest stay as far as they fit, and what is read is what was added."""
    recent, place = Recent(), ("orders", 0)
    for first in range(0, 10 * RECORDS_MAX, 16):
        recent.add(place, records(first, 16, size=size))
        kept = [recent.read(place, offset, 1) for offset in range(first + 16)]
        there = [found[0] for found in kept if found]
        assert sum(len(record.value) for record in there) <= BYTES_MAX
        assert len(there) <= 2 * RECORDS_MAX
        assert [record.offset for record in there] == list(range(first + 16 - len(there), first + 16))
        if first > 100 and size > 1:
            break
