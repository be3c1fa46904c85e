"""What producers put on Kafka that know nothing of the toolkit: CloudEvents in binary mode, plain JSON, and neither."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest_asyncio

from millrace.application import Application
from millrace.engines.kafka.driver import Producer
from millrace.engines.sqlite import SqliteEngine
from millrace.foreign import unpack
from millrace.inspection import Inspection
from millrace.letter import HeldId
from millrace.letters import show_letter
from millrace.split import SplitEngine
from millrace.testing import settled
from millrace.testing.conformance.foreign_records import TOPIC as TILLS
from millrace.testing.conformance.foreign_records import sale, seen, tills
from millrace.testing.conformance.lab import AT_ONCE, balanced, held
from millrace.testing.conformance.sample import APPLICATION, Added, Behaviour, Total, counter
from tests.engines.kafka_places import TOPIC, Places

Headers = list[tuple[str, str | bytes | None]]
TYPE = "sample.tally.added.v1"


@pytest_asyncio.fixture
async def app(places: Places, tmp_path: Path) -> AsyncIterator[Application]:
    """An application with its log on Kafka."""
    engine = SplitEngine(log=places.engine(), stores=SqliteEngine(tmp_path))
    async with Application(APPLICATION, [counter(Behaviour()), tills()], engine=engine) as found:
        yield found


def binary(id: str, **changes: str | bytes | None) -> Headers:
    """Return the headers of a CloudEvent in binary mode."""
    attributes: dict[str, str | bytes | None] = {
        "ce_specversion": "1.0",
        "ce_id": id,
        "ce_source": "/elsewhere",
        "ce_type": TYPE,
        "ce_time": "2026-01-01T00:00:00Z",
        "content-type": "application/json",
    }
    return [(name, value) for name, value in (attributes | changes).items() if value is not None]


async def send(places: Places, topic: str, *records: tuple[str | None, bytes | None, Headers]) -> None:
    """Append records as any producer on Kafka does."""

    def produce() -> None:
        producer = Producer({"bootstrap.servers": places.settings.brokers})
        for key, value, headers in records:
            producer.produce(places.settings.topic(topic), value, key, headers=headers)
        assert producer.flush(10) == 0

    await asyncio.to_thread(produce)


async def everything_read(app: Application, count: int, *, topic: str = TOPIC) -> None:
    """Wait until so many records of a topic were read by everybody."""
    async with asyncio.timeout(20):
        while sum(end for (name, _), end in app.parts.feed.ends().items() if name == topic) < count:
            await app.parts.log.topics()
    await settled(app, timeout=20)


async def totals(app: Application, *names: str) -> list[Sequence[int]]:
    """Return what was counted."""
    found = await app.states(Total).get_many(names)
    return [found[name].seen if name in found else () for name in names]


async def test_binary_mode_becomes_the_same_messages(app: Application, places: Places) -> None:
    """Attributes from headers, data from the value; a repeat by (source, id) has no effect; structured mode says so by its content type."""
    structured = msgspec.json.encode(
        {"specversion": "1.0", "id": "3", "source": "/elsewhere", "type": TYPE, "data": {"name": "a", "n": 3}},
    )
    encoded = structured.replace(b'"data":{"name":"a","n":3}', b'"data_base64":"eyJuYW1lIjoiYSIsIm4iOjR9"').replace(b'"3"', b'"4"')
    await send(
        places,
        TOPIC,
        ("a", b'{"name":"a","n":1}', binary("1")),
        ("a", b'{"name":"a","n":2}', binary("2", **{"content-type": None})),
        ("a", b'{"name":"a","n":1}', binary("1")),
        ("a", structured, [("content-type", "application/cloudevents+json; charset=UTF-8")]),
        ("a", encoded, [("content-type", b"application/cloudevents+json")]),
        ("a", b"<order/>", binary("9", ce_type="com.example.other", **{"content-type": "application/xml"})),
    )
    await everything_read(app, 6)
    assert await totals(app, "a") == [(1, 2, 3, 4)]
    rows = [row for row in await app.hosts["counter"].store.reader.positions.load("handlers") if row.topic == TOPIC]
    assert [sum(getattr(row, what) for row in rows) for what in ("handled", "duplicate", "ignored", "dead")] == [4, 1, 1, 0]
    await balanced(app)


async def test_keys_come_from_where_the_record_says(places: Places, tmp_path: Path) -> None:
    """`ce_partitionkey` orders a record, else `ce_subject`, else its key on Kafka, else the key of its message."""

    def fail(event: Added, context: Any) -> None:
        raise RuntimeError(context.key)

    behaviour = Behaviour()
    behaviour.count = fail
    engine = SplitEngine(log=places.engine(), stores=SqliteEngine(tmp_path))
    async with Application(APPLICATION, [counter(behaviour)], engine=engine, policy=AT_ONCE) as app:
        await send(
            places,
            TOPIC,
            ("k", b'{"name":"m"}', binary("1", ce_partitionkey="p", ce_subject="s")),
            ("k", b'{"name":"m"}', binary("2", ce_subject="s")),
            ("k", b'{"name":"m"}', binary("3")),
            (None, b'{"name":"m"}', binary("4")),
        )
        await everything_read(app, 4)
        assert sorted(row.key for row in await held(app, "counter") if row.processor == "handlers") == ["k", "m", "p", "s"]
        await balanced(app)


BROKEN = {
    "no id": (b"{}", binary("", ce_id=None), "undecodable", "ce_id"),
    "another version": (b"{}", binary("1", ce_specversion="0.3"), "undecodable", "0.3"),
    "data do not fit": (b'{"name":"a","n":"x"}', binary("2"), "invalid", TYPE),
    "no JSON": (b"\x00\x01avro", binary("3", **{"content-type": "application/avro"}), "invalid", "application/avro"),
    "nothing": (b"", binary("4"), "invalid", TYPE),
    "strange headers": (b"?", [("trace", b"\xff\x00"), ("none", None), ("trace", b"2")], "undecodable", ""),
}


async def test_what_cannot_be_decoded_is_kept_with_its_headers(app: Application, places: Places) -> None:
    """Dead letters hold the original bytes and every header, and `show` hands both out; the next records of the key flow."""
    await send(places, TOPIC, *(("a", value, headers) for value, headers, _, _ in BROKEN.values()))
    await send(places, TOPIC, ("a", b'{"name":"a","n":5}', binary("5")))
    await everything_read(app, len(BROKEN) + 1)
    found = {row.offset: row for row in await held(app, "counter") if row.processor == "handlers"}
    assert len(found) == len(BROKEN)
    for (_, row), (value, headers, reason, word) in zip(sorted(found.items()), BROKEN.values(), strict=True):
        kept = unpack(row.value)
        assert (kept.value, row.reason) == (value, reason)
        assert list(kept.headers) == [(name, text.encode() if isinstance(text, str) else text) for name, text in headers]
        assert word in row.detail
    assert await totals(app, "a") == [(5,)]
    await balanced(app)
    await shown(app, BROKEN["data do not fit"][0])


async def shown(app: Application, value: bytes) -> None:
    """Expect that operators see a record as it came."""
    async with Inspection(app) as inspection:
        rows = await app.hosts["counter"].store.reader.held.list(state="dead", limit=100)
        (row,) = [row for row in rows if value in row.value and row.processor == "handlers"]
        detail = await show_letter(inspection, str(HeldId.of("counter", row)))
    assert detail.value == value
    assert dict(detail.headers)["ce_id"] == b"2"
    assert detail.content.type == TYPE
    assert "ce_id" in detail.content.attributes["headers"]


async def test_plain_json_is_read_by_its_mapping(app: Application, places: Places) -> None:
    """The mapping holds on Kafka as elsewhere; headers may say other things, and CloudEvents on the same topic are read as such."""
    await send(
        places,
        TILLS,
        ("till 7", sale(1, 3), []),
        ("till 7", sale(2, 4), [("content-type", "application/json"), ("trace", b"1")]),
        ("tea", b'{"sku":"tea","numberOfPieces":5}', binary("x", ce_type="sample.tills.sold.v1")),
    )
    await everything_read(app, 3, topic=TILLS)
    found = await seen(app, "tea")
    assert sorted(found) == ["3 at 00:01 by /foreign/tills", "4 at 00:02 by /foreign/tills", "5 at 00:00 by /elsewhere"]
    await balanced(app)


async def test_failures_of_foreign_messages_are_tried_again(places: Places, tmp_path: Path) -> None:
    """A message whose headers say what it is can be opened again from what is held of it."""
    behaviour = Behaviour()
    failures = ["once", "twice"]

    def fail(event: Added, context: Any) -> None:
        if failures:
            raise RuntimeError(failures.pop())

    behaviour.count = fail
    engine = SplitEngine(log=places.engine(), stores=SqliteEngine(tmp_path))
    async with Application(APPLICATION, [counter(behaviour)], engine=engine, policy=AT_ONCE) as app:
        await send(places, TOPIC, ("a", b'{"name":"a","n":1}', binary("1")), ("a", b'{"name":"a","n":2}', binary("2")))
        await everything_read(app, 2)
        assert not failures
        assert await totals(app, "a") == [(1, 2)]
        await balanced(app)


async def test_feeds_tell_binary_mode_as_structured(app: Application, places: Places) -> None:
    """Who follows the log's records as they come gets one form of CloudEvents; what is none is told as it is."""
    tail = app.tail([TOPIC])
    await send(places, TOPIC, ("a", b'{"name":"a"}', binary("1")), ("a", b"no JSON", binary("2")))
    await everything_read(app, 2)
    async with asyncio.timeout(10):
        told = [record.value for record in await anext(tail.batches())]
    assert msgspec.json.decode(told[0])["data"] == {"name": "a"}
    assert told[1:] == [b"no JSON"]
