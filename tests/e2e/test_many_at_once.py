"""Many customers at the same moment: the last pieces go to exactly as many as there are, and one key is one order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.e2e.running_shop import ENDED, POSITION, RunningShop, is_balanced, order_of, statuses

CUSTOMERS = 200
SCARCE, PIECES = "a-lot-of-cheese", 25
REPEATS = 20


@pytest.fixture
async def http(shared_shop: RunningShop) -> AsyncIterator[httpx.AsyncClient]:
    """Customers with many connections."""
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=shared_shop.url, limits=limits, timeout=60.0) as client:
        yield client


async def bought(http: httpx.AsyncClient) -> str:
    """Buy one scarce piece and return the order."""
    answer = await http.post("/api/orders", json=order_of((SCARCE, 1)))
    assert answer.status_code == 201, answer.text
    return answer.json()["order_id"]


async def ended(http: httpx.AsyncClient, order_id: str) -> dict[str, Any]:
    """Ask until the order has reached an end."""
    while True:
        answer = await http.get(f"/api/orders/{order_id}")
        assert answer.status_code == 200, answer.text
        if answer.json()["status"] in ENDED:
            return answer.json()


async def watch_stock(http: httpx.AsyncClient, done: asyncio.Event) -> list[dict[str, int]]:
    """Look at the shelf again and again."""
    seen: list[dict[str, int]] = []
    while not done.is_set():
        rows = {row["sku"]: row for row in (await http.get("/api/stock")).json()}
        seen.append(rows[SCARCE])
    return seen


async def test_the_last_units(shared_shop: RunningShop, http: httpx.AsyncClient) -> None:
    """Of 200 who want one of the last 25 at once, 25 get it and 175 are refused; the shelf is never below nothing."""
    done = asyncio.Event()
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch_stock(http, done))
        placed = await asyncio.gather(*(bought(http) for _ in range(CUSTOMERS)))
        orders = await asyncio.gather(*(ended(http, order) for order in placed))
        done.set()

    ends = [(order["status"], order["reason"]) for order in orders]
    assert (ends.count(("completed", None)), ends.count(("rejected", "out_of_stock"))) == (PIECES, CUSTOMERS - PIECES)
    seen = watching.result()
    print(f"looked {len(seen)} times, saw {len({row['available'] for row in seen})} figures")
    assert all(row["available"] == row["on_hand"] - row["reserved"] >= 0 for row in seen)
    assert min(row["available"] for row in seen) == 0
    shared_shop.shows(f"/api/stock/{SCARCE}", {"sku": SCARCE, "initial": PIECES, "on_hand": 0, "reserved": 0, "available": 0})
    for order in orders:
        paid = ["succeeded"] if order["status"] == "completed" else []
        shared_shop.shows(f"/api/payments?order_id={order['order_id']}", paid, of=statuses)
    assert is_balanced(shared_shop.data)


async def test_one_key_is_one_order(shared_shop: RunningShop, http: httpx.AsyncClient) -> None:
    """The same request with one Idempotency-Key twenty times at once: one order, and twenty times the same answer."""
    key = {"Idempotency-Key": "twenty at once"}
    wanted = order_of(("cola", 2), customer_id="twenty")
    answers = await asyncio.gather(*(http.post("/api/orders", json=wanted, headers=key) for _ in range(REPEATS)))

    told = {(answer.status_code, answer.content, answer.headers["Location"], answer.headers[POSITION]) for answer in answers}
    assert len(told) == 1, told
    first = answers[0].json()
    position = {POSITION: answers[0].headers[POSITION]}
    assert [order["order_id"] for order in shared_shop.get("/api/orders?customer_id=twenty", headers=position)["items"]] == [
        first["order_id"]
    ]
    other = await http.post("/api/orders", json=wanted | {"customer_id": "other"}, headers=key)
    assert (other.status_code, other.headers["content-type"]) == (422, "application/problem+json")


async def test_one_order_id_is_one_order(shared_shop: RunningShop, http: httpx.AsyncClient) -> None:
    """The same with an id that the client has chosen; another body with that id is refused."""
    wanted = order_of(("cola", 1), customer_id="chosen", order_id="0f9e6b5c-7c0a-4d53-9f0a-0d1c2b3a4f5e")
    answers = await asyncio.gather(*(http.post("/api/orders", json=wanted) for _ in range(REPEATS)))

    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
    other = await http.post("/api/orders", json=wanted | {"lines": [{"sku": "cola", "quantity": 9}]})
    assert other.status_code == 422
    shared_shop.ended(wanted["order_id"])
    shared_shop.shows(f"/api/payments?order_id={wanted['order_id']}", ["succeeded"], of=statuses)


async def test_one_cancellation_wins(shared_shop: RunningShop, http: httpx.AsyncClient) -> None:
    """Twenty cancellations at once: one is accepted, the others are conflicts, and one event is published."""
    order_id = shared_shop.place(("cola", 1), review_seconds=60)
    cancelling = (http.post(f"/api/orders/{order_id}/cancel", json={"reason": f"number {number}"}) for number in range(REPEATS))
    answers = await asyncio.gather(*cancelling)

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * (REPEATS - 1)
    [won] = [number for number, answer in enumerate(answers) if answer.status_code == 200]
    order = shared_shop.ended(order_id)
    assert (order["status"], order["reason"]) == ("cancelled", f"number {won}")
    asked = [entry for entry in order["timeline"] if entry["type"] == "order-cancellation-requested"]
    assert len(asked) == 1
