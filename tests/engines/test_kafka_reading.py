"""Reading from Kafka: one fetch for many readers, holes told, bounded memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from millrace.engines.kafka import KafkaEngine, fetcher
from millrace.engines.kafka.driver import Producer, TopicPartition
from millrace.engines.kafka.fetcher import Stream, hole
from millrace.errors import Recovery, StoreUnavailable
from millrace.partitioning import partition_of
from millrace.ports import Record
from tests.engines.kafka_places import TOPIC, Places, all_records, moved, two_transactions


async def put(log: Any, count: int, *, size: int = 100) -> None:
    """Append records to partition 0."""
    await log.put(TOPIC, [(f"k{n}", b"%d " % n + b"x" * size) for n in range(count)], partition=0)


async def read_all(log: Any, offset: int, end: int, *, limit: int) -> list[Record]:
    """Read on as a processor does."""
    found: list[Record] = []
    while offset < end:
        records = await log.read(TOPIC, 0, offset=offset, limit=limit)
        assert len(records) <= limit
        found += records
        offset = records[-1].offset + 1
    return found


async def test_readers_at_different_places_get_the_same(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is far behind reads all, beside those at the end, though little is kept in memory."""
    monkeypatch.setattr(fetcher, "AHEAD", 200)
    monkeypatch.setattr(fetcher, "MEMORY", 1)
    monkeypatch.setattr(fetcher, "STREAM_MIN", 64 << 10)
    log = await places.open()
    await put(log, 3000)
    readers = [read_all(log, offset, 3000, limit=limit) for offset, limit in [(2900, 10), (0, 100), (1500, 50)]]
    found = await asyncio.gather(*readers)
    assert [[record.offset for record in each] for each in found] == [list(range(first, 3000)) for first in (2900, 0, 1500)]
    assert all(record.value.startswith(b"%d " % record.offset) for each in found for record in each)
    streams = log._reader.front._streams.values()
    assert all(stream.size <= 2 * (64 << 10) + 2000 * 300 for stream in streams)


@pytest.mark.parametrize("beyond", [0, 300])
async def test_a_stream_that_waits_for_its_reader_goes_on_elsewhere(places: Places, monkeypatch: pytest.MonkeyPatch, beyond: int) -> None:
    """A partition was read elsewhere while its stream here was full: its reader comes back right behind the stream, or further on."""
    monkeypatch.setattr(fetcher, "MEMORY", 1)
    monkeypatch.setattr(fetcher, "STREAM_MIN", 64 << 10)
    log = await places.open()
    await put(log, 40_000)
    streams, place, at, times = log._reader.front._streams, (places.settings.topic(TOPIC), 0), 0, 0
    while at < 40_000:
        assert [record.offset for record in await log.read(TOPIC, 0, offset=at, limit=1)] == [at]
        at = await end_of_full(log, streams[place], 40_000) + beyond
        times += 1
    assert times > 5


async def end_of_full(log: Any, stream: Stream, end: int) -> int:
    """Return where a stream has stopped, because it is full or at the end."""
    before = -1
    async with asyncio.timeout(20):
        while stream.next < end and not (stream.paused and stream.next == before):
            before = stream.next
            await moved(log)
    return stream.next


async def test_holes_are_told(places: Places) -> None:
    """Aborted transactions and the markers of others are holes: every offset is accounted for, only what was committed is there."""
    log = await places.open()
    await put(log, 2)
    await asyncio.to_thread(two_transactions, places, b"gone", b"kept")
    await put(log, 1)
    await log.topics()
    records = (await all_records(log))[0]
    assert [record.value.split()[0] for record in records if record.position >= 0] == [b"0", b"1", b"kept", b"kept", b"0"]
    covered = [offset for r in records for offset in range(r.offset + 1 + min(0, r.position) if r.position < 0 else r.offset, r.offset + 1)]
    assert covered == list(range(records[-1].offset + 1))
    assert (await log.counts())[TOPIC, 0] == records[-1].offset + 1


async def test_offsets_that_are_gone_are_named(places: Places) -> None:
    """A reader whose place was removed is told, not moved."""
    log = await places.open()
    await put(log, 5)
    asked = [TopicPartition(places.settings.topic(TOPIC), 0, 3)]
    await places.client.answers(places.client.admin.delete_records(asked), what="deleting")
    with pytest.raises(Recovery, match="gone"):
        await log.read(TOPIC, 0, offset=1, limit=10)


async def test_foreign_producers_agree_on_partitions(places: Places) -> None:
    """The partitioner of Kafka's Java clients, as librdkafka has it, puts a key where this toolkit does."""
    log = await places.open()
    producer = places.client.made(Producer, partitioner="murmur2_random")
    keys = [f"order-{n}" for n in range(200)] + ["", "ä", "日本", "x" * 300]
    for key in keys:
        producer.produce(places.settings.topic(TOPIC), key.encode(), key=key.encode() or None)
    await asyncio.to_thread(producer.flush, 10)
    for partition, records in enumerate(await all_records(log)):
        assert all(partition_of(record.key, 3) == partition for record in records if record.key)


async def test_records_of_others_wake_readers(places: Places) -> None:
    """What a foreign process appends is known within seconds, though nobody here has read that partition."""
    log = await places.open()
    moved = asyncio.Event()
    log.on_change(moved.set)
    producer = places.client.made(Producer)
    producer.produce(places.settings.topic(TOPIC), b"hello", partition=2)
    await asyncio.to_thread(producer.flush, 10)
    async with asyncio.timeout(5):
        while log.ends().get((TOPIC, 2), 0) < 1:
            moved.clear()
            await moved.wait()
    assert [record.value for record in await log.read(TOPIC, 2, offset=0, limit=10)] == [b"hello"]


async def test_looking_at_nothing_says_so(places: Places) -> None:
    """Who only looks creates nothing: without an installation there is an `absent`."""
    log = places.engine().reading().log().log
    with pytest.raises(StoreUnavailable) as found:
        await log.open()
    assert found.value.reason == "absent"
    found_topics = (await asyncio.to_thread(places.client.admin.list_topics, timeout=10)).topics
    assert not [topic for topic in found_topics if topic.startswith(places.settings.namespace)]


async def test_brokers_that_are_not_there_are_named() -> None:
    """A wrong address ends the start with the address and what was found, within seconds."""
    log = KafkaEngine("kafka://127.0.0.1:1").log().log
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1.*unreachable"):
        await log.open()


def test_a_stream_takes_from_the_middle_of_a_hole() -> None:
    """A hole is told from the offset on that was asked for."""
    stream = Stream(10)
    stream.add(Record(14, "k", b"v", 0, 0))
    stream.reach(20)
    assert stream.take(10, 9) == [hole(10, 14), Record(14, "k", b"v", 0, 0), hole(15, 20)]
    assert stream.take(12, 1) == [Record(13, None, b"", 0, -2)]
    assert stream.take(9, 1) is None
    assert stream.take(20, 1) == []
    assert stream.take(21, 1) is None


def test_a_stream_forgets_what_was_read() -> None:
    """Trimming removes what lies behind the readers only."""
    stream = Stream(0)
    for offset in range(100):
        stream.add(Record(offset, None, b"x" * 100, 0, 0))
    stream.trim(1000)
    assert stream.first == 0
    stream.take(0, 60)
    stream.trim(1000)
    assert stream.first == 30
    assert stream.take(29, 1) is None
    assert stream.size == 70 * 300
