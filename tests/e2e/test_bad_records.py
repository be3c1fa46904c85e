"""Records put by hand on every topic of a running shop: they end in the dead letters or are ignored, and flow goes on."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.hand_written_records import (
    DEEP,
    ELSEWHERE,
    KNOWN,
    MALFORMED,
    counted,
    described,
    event,
    misfits,
    oversized,
    strangers,
    unlike_ours,
)
from tests.e2e.running_shop import RunningShop, is_balanced, millrace
from tests.shop_log import PARTITIONS, Pen

ALL = ("--limit", "1000000")


@pytest.fixture
def shop(data: Path) -> Iterator[RunningShop]:
    """A shop that has sold something."""
    with RunningShop(data, shipping_delay="0") as found:
        found.completed(("cheese", 1))
        yield found


def dead_letters(data: Path) -> list[dict[str, Any]]:
    """Return all dead letters."""
    return millrace(data, "dead-letters", "list", *ALL)


def read_by(shop: RunningShop) -> Counter[str]:
    """Return how many processors read each topic, when all of them have read everything."""

    def caught_up() -> list[dict[str, Any]] | None:
        rows = millrace(shop.data, "consumers", "list")
        return None if any(row["lag"] for row in rows) else rows

    return Counter(row["topic"] for row in shop.until(caught_up) if row["partition"] == 0)


def flows(shop: RunningShop) -> None:
    """Check that orders of every partition still go all the way, and that nobody is unwell."""
    orders = [shop.place(("fries", 1)) for _ in range(3 * PARTITIONS)]
    assert {shop.ended(order)["status"] for order in orders} == {"completed"}
    health = shop.get("/health")
    assert health["status"] == "ok", [entry for entry in health["entries"] if entry["state"] != "ok"]


def bytes_of(data: Path, letter: dict[str, Any]) -> bytes:
    """Return the original bytes of a dead letter."""
    return base64.b64decode(millrace(data, "dead-letters", "show", letter["id"], "--raw")["value_base64"])


async def test_unreadable_on_every_topic(shop: RunningShop) -> None:
    """What cannot be opened is a dead letter of every processor that reads the topic, with its reason and its bytes."""
    async with Pen(shop.data) as pen:
        topics = list(await pen.records())
        for topic in topics:
            await pen.put(topic, MALFORMED)
            await pen.put(topic, [*DEEP, oversized(KNOWN)], partitions=[1])
    flows(shop)

    readers = read_by(shop)
    found = Counter((letter["topic"], letter["reason"]) for letter in dead_letters(shop.data))
    assert len(topics) > 10
    expected = {(topic, "undecodable"): (len(MALFORMED) * PARTITIONS + len(DEEP)) * readers[topic] for topic in readers}
    assert found == expected | {(topic, "oversized"): count for topic, count in readers.items()}
    assert is_balanced(shop.data)
    check_bytes(shop.data)


def check_bytes(data: Path) -> None:
    """Check that the dead letters of one partition and processor are what was put there, byte for byte."""
    place = ("orders", "order", "orders.commands", 1)
    letters = [
        letter for letter in dead_letters(data) if (letter["service"], letter["processor"], letter["topic"], letter["partition"]) == place
    ]
    letters.sort(key=lambda letter: letter["offset"])
    assert [bytes_of(data, letter) for letter in letters[-len(DEEP) - 1 :]] == [*DEEP, oversized(KNOWN)]


async def test_wrong_data_on_every_topic(shop: RunningShop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A known type whose data do not fit is a dead letter of whoever takes that type; others do not even notice."""
    app = described(monkeypatch, shop.data)
    async with Pen(shop.data) as pen:
        put = {topic: misfits(app, topic) for topic in await pen.records()}
        for topic, values in put.items():
            await pen.put(topic, values)
    flows(shop)

    readers = read_by(shop)
    letters = dead_letters(shop.data)
    assert {letter["reason"] for letter in letters} == {"invalid"}
    assert {letter["topic"] for letter in letters} == set(readers)
    [shown] = [letter for letter in letters if letter["service"] == "rewards" and letter["partition"] == 0]
    detail = millrace(shop.data, "dead-letters", "show", shown["id"])
    assert (detail["type"], detail["data"]) == ("parcomolo.orders.order-delivered.v1", {"order_id": 9})
    assert bytes_of(shop.data, shown) in put["orders"]
    assert is_balanced(shop.data)


async def test_strangers_on_every_topic(shop: RunningShop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Types that nobody takes are counted ignored by every reader, are no dead letters, and are told to who follows the facts."""
    read_by(shop)
    before = await counted(described(monkeypatch, shop.data), "ignored")
    async with Pen(shop.data) as pen:
        for topic in await pen.records():
            await pen.put(topic, strangers(topic))
    readers = read_by(shop)
    after = await counted(described(monkeypatch, shop.data), "ignored")

    assert {topic: after[topic] - before[topic] for topic in readers} == {topic: 4 * PARTITIONS * count for topic, count in readers.items()}
    flows(shop)
    assert dead_letters(shop.data) == []
    assert is_balanced(shop.data)


async def test_the_feed_tells_everything(shop: RunningShop) -> None:
    """Whatever stands on the public topics, the stream of facts stays one message per record, each with one JSON object."""
    async with Pen(shop.data) as pen:
        for topic in await pen.records():
            await pen.put(topic, [*MALFORMED, *DEEP, *strangers(topic)], partitions=[0])
        there = sum(map(len, (await pen.records(public=True)).values()))
    told = 0
    with shop.http.stream("GET", "/events?after=start") as stream:
        for line in stream.iter_lines():
            told += line.startswith("data: ")
            assert not line.startswith("data: ") or isinstance(json.loads(line.removeprefix("data: ")), dict)
            assert line.split(":")[0] in ("", "id", "data", "retry"), line[:80]
            if told == there:
                break


@pytest.fixture
def delivered(shop: RunningShop) -> list[str]:
    """Three delivered orders of one customer."""
    orders = [shop.completed(("cola", 2), customer_id="grace")["order_id"] for _ in range(3)]
    for order in orders:
        assert shop.http.post(f"/api/orders/{order}/deliver").status_code == 200
    shop.until(lambda: len(shop.get("/api/rewards/grace")["rewards"]) == 1)
    read_by(shop)
    return orders


async def say_again(shop: RunningShop) -> None:
    """Let a stranger say twice what was ever said."""
    async with Pen(shop.data) as pen:
        for topic, records in (await pen.records()).items():
            copies = unlike_ours(records, suffix=" again")
            await pen.put_events(topic, [*copies, *copies])
    read_by(shop)


async def test_foreign_copies_have_no_effect(shop: RunningShop, delivered: list[str]) -> None:
    """Everything that was ever said about delivered orders, said twice by a stranger: nothing is reserved, paid, sent or granted again."""
    paths = ["stock", "payments", "shipments", "rewards/grace", "operations/alerts"]
    before = {path: shop.get(f"/api/{path}") for path in paths}
    await say_again(shop)

    assert {path: shop.get(f"/api/{path}") for path in paths} == before
    flows(shop)
    assert is_balanced(shop.data)
    assert dead_letters(shop.data) == []


async def test_foreign_copies_are_not_shown(shop: RunningShop, delivered: list[str]) -> None:
    """Nor do they change what orders and reports show: only orders writes `orders`."""
    paths = ["reports/orders", "reports/products", *(f"orders/{order}{more}" for order in delivered for more in ("", "/events"))]
    before = {path: shop.get(f"/api/{path}") for path in paths}
    await say_again(shop)

    assert {path: shop.get(f"/api/{path}") for path in paths} == before


async def test_foreign_command_counts_once(shop: RunningShop) -> None:
    """A command of a stranger is obeyed once, however often it is repeated; a refused one is answered, not kept."""
    adjust = event(
        "parcomolo.inventory.adjust-stock.v1",
        {"sku": "water", "delta": 7, "reason": "found"},
        id="found 7",
        partitionkey="water",
        subject="water",
    )
    refuse = event(
        "parcomolo.inventory.adjust-stock.v1", {"sku": "water", "delta": -9999, "reason": "lost"}, id="lost all", partitionkey="water"
    )
    before = shop.get("/api/stock/water")["on_hand"]
    async with Pen(shop.data) as pen:
        await pen.put_events("inventory.commands", [adjust, adjust, refuse, refuse, adjust])
        read_by(shop)
        shop.shows("/api/stock/water", before + 7, of=lambda row: row["on_hand"])
        said = [json.loads(value) for value in (await pen.records())["inventory"]]

    answers = [
        (each["type"].split(".")[2], each["causationid"]) for each in said if each["correlationid"] == "water" and "causationid" in each
    ]
    assert [answer for answer in answers if answer[1] in ("found 7", "lost all")] == [
        ("stock-adjusted", "found 7"),
        ("command-rejected", "lost all"),
    ]
    assert dead_letters(shop.data) == []


@pytest.mark.parametrize("source", ["/parcomolo/orders", "/parcomolo/payments", ELSEWHERE])
async def test_forged_sequence(shop: RunningShop, source: str) -> None:
    """A record that claims to be a source's last does not make the source's next ones look like repeats."""
    forged = {"source": source, "epoch": "1", "sequence": "9" * 18, "id": "forged", "partitionkey": "forged"}
    async with Pen(shop.data) as pen:
        for topic in await pen.records():
            known = event("parcomolo.orders.order-review-ended.v1", {"order_id": "forged"}, **forged)
            await pen.put(topic, [known, event("com.example.forged", {}, **forged)])
    read_by(shop)

    flows(shop)
    assert is_balanced(shop.data)
