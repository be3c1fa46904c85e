"""Plain JSON of producers that know nothing of us becomes messages by a declared mapping, with every promise that messages have.

Neighbours: `foreign` reads such records; that CloudEvents in binary mode are read as well is tested where a log carries headers.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from millrace.application import Application
from millrace.clock import from_micros
from millrace.delivery import Context
from millrace.foreign import MARK, unpack
from millrace.message import Event
from millrace.plain_json import PlainJson
from millrace.serialization import RECORD_BYTES_MAX
from millrace.service import Service
from millrace.state import State
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, balanced, foreign, held, put

TOPIC = "tills"


class Sold(
    Event,
    topic=TOPIC,
    key="sku",
    plain=PlainJson(where={"kind": "sale", "till.test": False}, data="sale", id="till.nr", key="sale.sku", time="till.at", time_unit="s"),
):
    """A till sold something; told in the till's own words."""

    sku: str
    pieces: int = msgspec.field(name="numberOfPieces")


class Opened(Event, topic=TOPIC, key="till", plain=PlainJson(where={"kind": "opened"})):
    """A till was opened; it says no time and no number."""

    till: str


class Seen(State, key="key"):
    """What was handled of a key."""

    key: str
    what: tuple[str, ...] = ()


def tills(fail: list[str] | None = None) -> Service:
    """Return the service; each text in `fail` makes one try of a handler fail."""
    service = Service("shopkeeper")

    def note(seen: Seen | None, key: str, what: str) -> Seen:
        if fail:
            raise RuntimeError(fail.pop())
        return Seen(key=key, what=(*(seen.what if seen else ()), what))

    @service.handler(seen=Seen.by("sku"))
    def sold(event: Sold, seen: Seen | None, context: Context) -> list[Any]:
        """Note it with its time."""
        return [note(seen, event.sku, f"{event.pieces} at {context.time:%H:%M} by {context.source}")]

    @service.handler(seen=Seen.by("till"))
    def opened(event: Opened, seen: Seen | None, context: Context) -> list[Any]:
        """Note it with its id and time."""
        return [note(seen, event.till, f"{context.id} {context.time.timestamp()}")]

    return service


def sale(nr: int, pieces: int = 1, **changes: Any) -> bytes:
    """Return a sale as tills write it."""
    record = {"kind": "sale", "till": {"nr": nr, "at": 60 * nr, "test": False}, "sale": {"sku": "tea", "numberOfPieces": pieces}}
    return msgspec.json.encode(record | changes)


async def seen(app: Application, key: str) -> tuple[str, ...]:
    """Return what was handled of a key."""
    found = await app.states(Seen).get(key)
    return found.what if found else ()


async def plain_json_becomes_messages(kit: EngineKit) -> None:
    """Type, key, id and time come from where the mapping says; a record that comes twice is handled once; CloudEvents are read beside."""
    async with Lab(kit) as lab:
        app = await lab.start([tills()])
        await put(app, TOPIC, ("till 7", sale(1, 3)), ("till 7", sale(2, 4)), ("till 7", sale(1, 3)))
        await put(app, TOPIC, ("tea", foreign(app, Sold(sku="tea", pieces=5), id="x")))
        await lab.settled()
        await put(app, TOPIC, ("till 7", sale(2, 4)))
        await lab.settled()
        found = await seen(app, "tea")
        assert sorted(found) == ["3 at 00:01 by /foreign/tills", "4 at 00:02 by /foreign/tills", "5 at 00:00 by /elsewhere"]
        rows = [row for row in await app.hosts["shopkeeper"].store.reader.positions.load("handlers") if row.topic == TOPIC]
        assert (sum(row.handled for row in rows), sum(row.duplicate for row in rows)) == (3, 2)
        await balanced(app)


async def other_kinds_are_ignored(kit: EngineKit) -> None:
    """A record to which no mapping fits is ignored and counted, as an unknown type is."""
    async with Lab(kit) as lab:
        app = await lab.start([tills()])
        await put(app, TOPIC, (None, sale(1, kind="return")), (None, sale(2, till={"nr": 2, "at": 0, "test": 0})), (None, sale(3)))
        await lab.settled()
        rows = [row for row in await app.hosts["shopkeeper"].store.reader.positions.load("handlers") if row.topic == TOPIC]
        assert (sum(row.handled for row in rows), sum(row.ignored for row in rows)) == (1, 2)
        await balanced(app)


UNREADABLE = {
    "no JSON": (b"sku=tea", "undecodable"),
    "no object": (b"[1]", "undecodable"),
    "no number": (sale(1, till={"at": 1, "test": False}), "undecodable"),
    "no time": (sale(2, till={"nr": 2, "at": "yesterday", "test": False}), "undecodable"),
    "data do not fit": (sale(3, sale={"sku": "tea", "numberOfPieces": "three"}), "invalid"),
    "no data": (sale(4, sale=None), "undecodable"),
    "half a CloudEvent": (b'{"specversion":"1.0","type":"sample.tills.sold.v1"}', "undecodable"),
    "our own mark": (MARK + b'{"at":1,"headers":[]}\nx', "undecodable"),
    "oversized": (sale(5, text="x" * RECORD_BYTES_MAX), "oversized"),
}


async def unreadable_plain_json_is_kept(kit: EngineKit) -> None:
    """What a mapping cannot read lies in the dead letters with reason and original bytes, and holds nobody up."""
    async with Lab(kit) as lab:
        app = await lab.start([tills()])
        await put(app, TOPIC, *(("till 7", value) for value, _ in UNREADABLE.values()), ("till 7", sale(9)))
        await lab.settled()
        kept = [(unpack(row.value).value, row.reason) for row in await held(app, "shopkeeper")]
        assert sorted(kept) == sorted(UNREADABLE.values())
        assert len(await seen(app, "tea")) == 1
        await balanced(app)


async def retries_open_the_same_message(kit: EngineKit) -> None:
    """A record that says no time happened when it was appended; a failed handler gets the same message again, with the same time and id."""
    async with Lab(kit) as lab:
        app = await lab.start([tills(["once", "twice"])])
        before = time.time()
        await put(app, TOPIC, ("north", b'{"kind":"opened","till":"north"}'))
        await lab.settled()
        (first,) = await seen(app, "north")
        name, at = first.split()
        assert name.startswith(f"{TOPIC}/")
        assert name.endswith("/0")
        assert before - 1 < float(at) < time.time() + 1, from_micros(int(float(at) * 1_000_000))
        await balanced(app)

    assert await _time_without_failure(kit, name) == first


async def _time_without_failure(kit: EngineKit, name: str) -> str:
    """Return what a reader notes that meets the same record without a failure."""
    async with Lab(kit) as lab:
        other = tills()
        other.name = "bookkeeper"
        app = await lab.start([other])
        await lab.settled()
        (found,) = await seen(app, "north")
        assert name in found
        return found


PROMISES = (
    plain_json_becomes_messages,
    other_kinds_are_ignored,
    unreadable_plain_json_is_kept,
    retries_open_the_same_message,
)
