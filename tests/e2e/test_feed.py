"""`/events` as a follower meets it: what was told goes on exactly where it was left, over disconnects, restarts and shutdowns."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.running_shop import PAID, RunningShop, facts_of
from tests.shop_log import Pen

STOPPING_S = 10.0
"""The promise is three seconds of grace; here others run beside."""
Told = tuple[str, dict[str, Any]]


CHECKOUT = "/parcomolo/checkout"
"""Who says commands and no facts."""


def follow(shop: RunningShop, *, after: str | None = None, topics: str = "", **headers: str) -> Iterator[Told]:
    """Yield (id, event) of each message as it comes."""
    query = {name: value for name, value in {"after": after, "topics": topics}.items() if value}
    with shop.http.stream("GET", "/events", params=query, headers=headers) as stream:
        assert (stream.status_code, stream.headers["content-type"]) == (200, "text/event-stream")
        cursor = ""
        for line in stream.iter_lines():
            if line.startswith("id: "):
                cursor = line.removeprefix("id: ")
            elif line.startswith("data: "):
                yield cursor, json.loads(line.removeprefix("data: "))


def resume(shop: RunningShop, cursor: str) -> Iterator[Told]:
    """Follow on from a message, as browsers do."""
    return follow(shop, **{"Last-Event-ID": cursor})


def until(told: Iterator[Told], names: set[str]) -> list[Told]:
    """Return messages up to the one after which all of these events have been told."""
    found: list[Told] = []
    for cursor, event in told:
        found.append((cursor, event))
        names = names - {event["id"]}
        if not names:
            break
    return found


def fact_of(event: dict[str, Any]) -> str:
    """Return the short name of a fact."""
    return event["type"].split(".")[2]


def until_facts(told: Iterator[Told], order_id: str, facts: set[str]) -> list[Told]:
    """Return messages up to the one after which all of these facts of an order have been told."""
    found: list[Told] = []
    for cursor, event in told:
        found.append((cursor, event))
        facts = facts - ({fact_of(event)} if event["correlationid"] == order_id else set())
        if not facts:
            break
    return found


def ids_of(told: list[Told]) -> list[str]:
    """Return what identifies each event."""
    return [event["id"] for _, event in told]


@pytest.fixture
def shop(data: Path) -> Iterator[RunningShop]:
    """A shop that has sold something."""
    with RunningShop(data, shipping_delay="0") as found:
        for _ in range(3):
            found.completed()
        yield found


async def public_records(data: Path) -> int:
    """Return how many facts there are to be told."""
    async with Pen(data) as pen:
        return sum(map(len, (await pen.records(public=True)).values()))


def everything(shop: RunningShop) -> list[Told]:
    """Return all that was told until now, of orders that are at their ends."""
    there = asyncio.run(public_records(shop.data))
    return list(islice(follow(shop, after="start"), there))


def test_it_resumes_after_every_message(shop: RunningShop) -> None:
    """From each message on, exactly the others follow: nothing is missing, nothing comes again, by header and by query."""
    told = everything(shop)
    names = set(ids_of(told))
    assert len(names) == len(told) > 30
    for number in range(0, len(told) - 1, 4):
        cursor, rest = told[number][0], names - set(ids_of(told[: number + 1]))
        following = until(resume(shop, cursor), rest)
        assert sorted(ids_of(following)) == sorted(rest)
    assert ids_of(until(follow(shop, after=told[-2][0]), {told[-1][1]["id"]})) == [told[-1][1]["id"]]


def test_header_wins(shop: RunningShop) -> None:
    """A browser that reconnects sends both; what it has seen last counts."""
    told = everything(shop)
    both = follow(shop, after="start", **{"Last-Event-ID": told[-2][0]})

    assert next(both)[1]["id"] == told[-1][1]["id"]
    both.close()


def test_a_restless_follower(shop: RunningShop) -> None:
    """While orders flow, one who hangs up after every few messages sees each fact once, each order's in its order."""
    orders = [shop.place(("fries", 1)) for _ in range(20)]
    seen: list[Told] = []
    cursor = "start"
    done: set[str] = set()
    while len(done) < len(orders):
        stream = follow(shop, after=cursor) if cursor == "start" else resume(shop, cursor)
        for _ in range(1 + len(seen) % 7):
            message = next(stream)
            seen.append(message)
            done |= {message[1]["subject"]} & set(orders) if "order-completed" in message[1]["type"] else set()
        stream.close()
        cursor = seen[-1][0]

    names = ids_of(seen)
    assert len(set(names)) == len(names)
    assert sorted(names) == sorted(ids_of(until(follow(shop, after="start"), set(names))))
    for order in orders:
        for source in {event["source"] for _, event in seen}:
            sequences = [event["sequence"] for _, event in seen if (event["source"], event["partitionkey"]) == (source, order)]
            assert sequences == sorted(sequences)


@pytest.mark.crash
def test_it_resumes_after_kill(data: Path) -> None:
    """A cursor from before kill -9 goes on at the restarted shop."""
    with RunningShop(data, shipping_delay="1") as shop:
        order = shop.place()
        shop.told(order, PAID)
        before = until_facts(follow(shop, after="start"), order, {PAID})
        shop.kill()
    with RunningShop(data, shipping_delay="1") as shop:
        told = facts_of(shop.ended(order))
        missing = set(told) - {fact_of(event) for _, event in before}
        after = until_facts(resume(shop, before[-1][0]), order, missing)
    heard = [fact_of(event) for _, event in [*before, *after] if event["correlationid"] == order and event["source"] != CHECKOUT]
    assert sorted(heard) == sorted(told)


def test_topics_can_be_chosen(shop: RunningShop) -> None:
    """Only facts of the topics that were asked for are told."""
    stream = follow(shop, after="start", topics="payments,shipping")
    told = [next(stream)[1] for _ in range(6)]
    stream.close()

    assert {event["type"].split(".")[1] for event in told} == {"payments", "shipping"}


@pytest.mark.parametrize(
    "query",
    ["topics=kitchen", "topics=orders,kitchen", "topics=internal.orders", "after=orders", "after=orders/0=x", "after=orders/0=-1"],
)
def test_wrong_questions(shared_shop: RunningShop, query: str) -> None:
    """Unknown topics and unreadable cursors are refused with a problem, not with a stream."""
    answer = shared_shop.http.get(f"/events?{query}")

    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"]


@pytest.mark.parametrize("cursor", ["orders/0=999999", "orders/7=0", "kitchen/0=0"])
def test_cursor_of_another_shop(shared_shop: RunningShop, cursor: str) -> None:
    """A cursor that cannot be of this installation is answered with `reset`, so that nobody believes to have missed nothing."""
    with shared_shop.http.stream("GET", "/events", headers={"Last-Event-ID": cursor}) as stream:
        assert "event: reset" in next(stream.iter_text())


def test_no_personal_data(shop: RunningShop) -> None:
    """Who receives the parcel is nobody's business."""
    shop.completed(ship_to={"name": "Grace Hopper", "street": "Wall Street 7", "city": "Arlington", "country": "US"})
    text = json.dumps(everything(shop))

    assert "order-completed" in text
    assert "Hopper" not in text
    assert "Wall Street" not in text


def deaf(shop: RunningShop) -> socket.socket:
    """Return a client that asks for everything and reads nothing."""
    url = httpx.URL(shop.url)
    client = socket.create_connection((url.host, url.port or 80))
    client.sendall(b"GET /events?after=start HTTP/1.1\r\nHost: shop\r\n\r\n")
    return client


def test_streams_end_at_shutdown(shop: RunningShop) -> None:
    """A stopping server ends every stream properly, and waits neither for idle followers nor for one who does not read."""
    with ExitStack() as stack:
        streams = [stack.enter_context(shop.http.stream("GET", "/events")) for _ in range(20)]
        stack.enter_context(deaf(shop))
        began = time.monotonic()
        shop.process.terminate()
        for stream in streams:
            for line in stream.iter_lines():
                assert not line.startswith("data")
        ended = time.monotonic() - began
    out = shop.process.communicate(timeout=STOPPING_S)[0]
    stopped = time.monotonic() - began
    print(f"streams ended after {ended:.2f} s, the process after {stopped:.2f} s")

    assert stopped < STOPPING_S
    assert (shop.process.returncode, out.splitlines()[-1], shop.complaints) == (0, "Stopped.", "")


REJECTED = {"order-placed", "stock-reserved", "payment-failed", "stock-released", "order-rejected"}


def test_a_page_goes_on_where_its_view_stands(shop: RunningShop) -> None:
    """What a page does not show yet is told by the stream that it follows, although the log knows it already."""
    for _ in range(10):
        order_id = shop.place(("cola", 1), token="tok_declined")
        until_facts(follow(shop, after="start"), order_id, REJECTED)
        page = shop.http.get(f"/orders/{order_id}").text
        (after,) = re.findall(r'data-after="([^"]*)"', page)
        shown = set(re.findall(r'data-fact="([^"]*)"', page))
        if missing := REJECTED - shown:
            until_facts(follow(shop, after=after), order_id, missing)
