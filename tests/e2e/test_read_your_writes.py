"""Who has written sees it: `Millrace-Position` is honoured everywhere, and no answer is ahead of its own story."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import httpx
import pytest

from tests.e2e.running_shop import ENDED, POSITION, RunningShop, facts_of, order_of

PAIRS = 50
STORIES = (
    {"token": "tok_ok"},
    {"token": "tok_declined"},
    {"token": "tok_ok", "ship_to": {"name": "FAIL_SHIPPING"}},
    {"token": "tok_refund_fails_twice", "ship_to": {"name": "FAIL_SHIPPING"}},
    {"token": "tok_ok", "cancel": True},
    {"token": "tok_ok", "cancel": True, "review_seconds": 60},
)
"""How orders may go; each ends differently."""
SHOWN_ONLY_AFTER: dict[str, dict[str, tuple[set[str], ...]]] = {
    "status": {
        "pending": ({"order-placed"},),
        "confirmed": ({"stock-reserved"}, {"payment-succeeded"}, {"order-confirmed"}),
        "completed": ({"order-confirmed"}, {"shipping-scheduled"}, {"item-shipped"}, {"stock-committed"}, {"order-completed"}),
        "cancelling": ({"order-cancellation-requested"},),
        "cancelled": (
            {"order-cancellation-requested"},
            {"order-cancelled"},
            {"stock-released", "out-of-stock"},
            {"payment-refunded", "payment-failed"},
        ),
        "rejected": ({"order-rejected"}, {"out-of-stock", "stock-released"}),
    },
    "payment_status": {
        "paid": ({"payment-succeeded"},),
        "failed": ({"payment-failed"},),
        "voided": ({"payment-failed"},),
        "refunded": ({"payment-succeeded"}, {"payment-refunded"}),
    },
    "fulfilment_status": {
        "reserved": ({"stock-reserved"},),
        "scheduled": ({"payment-succeeded"}, {"shipping-scheduled"}),
        "shipped": ({"shipping-scheduled"}, {"item-shipped"}),
        "delivered": ({"item-shipped"}, {"order-delivered"}),
    },
    "reason": {
        "out_of_stock": ({"out-of-stock"},),
        "payment_failed": ({"payment-failed"}, {"stock-released"}),
        "shipping_failed": ({"shipping-failed"}, {"payment-refunded"}, {"stock-released"}),
    },
}
"""What an answer may say only when one fact of each set is in its timeline."""
SHOWN_AFTER = {
    "order-confirmed": ("status", {"pending"}),
    "order-completed": ("status", {"pending", "confirmed", "cancelling"}),
    "order-rejected": ("status", {"pending", "confirmed"}),
    "order-cancelled": ("status", {"pending", "confirmed", "cancelling"}),
    "payment-succeeded": ("payment_status", {"unpaid", "failed"}),
    "payment-refunded": ("payment_status", {"unpaid", "paid"}),
    "item-shipped": ("fulfilment_status", {"unfulfilled", "reserved", "scheduled"}),
}
"""What an answer may not say any more when a fact is in its timeline."""


def check_closed(order: dict[str, Any]) -> None:
    """Check that an answer tells no status without its causes, and no fact without its consequence for the other axes."""
    told = facts_of(order)
    for axis, values in SHOWN_ONLY_AFTER.items():
        for grounds in values.get(order[axis], ()):
            assert grounds & set(told), (axis, order[axis], grounds, told)
    for fact, (axis, before) in SHOWN_AFTER.items():
        assert fact not in told or order[axis] not in before, (fact, axis, order[axis], told)
    assert told[0] == "order-placed"
    assert len(set(told)) == len(told), told


async def live_through(http: httpx.AsyncClient, story: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Place an order, ask for it at once and again and again until its end; return all answers."""
    wanted = {name: value for name, value in story.items() if name != "cancel"}
    placed = await http.post("/api/orders", json=order_of(("fries", 1), **wanted))
    assert placed.status_code == 201, placed.text
    path, position = placed.headers["Location"], placed.headers[POSITION]
    with_position, without = await asyncio.gather(http.get(path, headers={POSITION: position}), http.get(path))
    assert (with_position.status_code, without.status_code) == (200, 200)
    if story.get("cancel"):
        answer = await http.post(f"{path}/cancel", json={"reason": "changed my mind"})
        assert answer.status_code in (200, 409), answer.text
    seen = [without.json()]
    while seen[-1]["status"] not in ENDED:
        answer = await http.get(path)
        assert answer.status_code == 200, answer.text
        seen.append(answer.json())
    return [with_position.json(), *seen], placed.json()


async def test_fifty_at_once(shared_shop: RunningShop) -> None:
    """Fifty customers order and look at once, and go on looking: never a 404, never a status ahead of its story, never a step back."""
    async with httpx.AsyncClient(base_url=shared_shop.url, timeout=60.0) as http, asyncio.timeout(60):
        lives = await asyncio.gather(*(live_through(http, STORIES[number % len(STORIES)]) for number in range(PAIRS)))

    for seen, placed in lives:
        assert seen[0]["order_id"] == placed["order_id"]
        for order in seen:
            check_closed(order)
        for before, after in pairwise(seen[1:]):
            assert facts_of(after)[: len(before["timeline"])] == facts_of(before)
            assert after["version"] >= before["version"]
    print(f"{sum(len(seen) for seen, _ in lives)} answers, ends: {sorted({seen[-1]['status'] for seen, _ in lives})}")
    assert {seen[-1]["status"] for seen, _ in lives} == {"completed", "rejected", "cancelled"}


READERS = (
    "orders",
    "orders/{order}",
    "stock",
    "stock/cheese",
    "payments",
    "shipments",
    "reports/orders",
    "reports/products",
    "rewards/ada",
)


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_waits(shared_shop: RunningShop, reader: str) -> None:
    """A position of a command that was just answered is reached by every route that reads, in time."""
    order = shared_shop.completed()["order_id"]
    answer = shared_shop.http.post(f"/api/orders/{order}/deliver")
    position = {POSITION: answer.headers[POSITION]}
    read = shared_shop.http.get(f"/api/{reader.format(order=order)}", headers=position)

    assert read.status_code == 200, read.text
    if reader == "orders/{order}":
        assert read.json()["fulfilment_status"] == "delivered"


def test_other_commands_tell_positions(shared_shop: RunningShop) -> None:
    """Cancelling, changing and adjusting tell one, too, and the next read has seen it."""
    order = shared_shop.place(("fries", 1), review_seconds=60)
    for method, path, body in (
        ("POST", f"/api/orders/{order}/lines", {"sku": "cola", "quantity": 2}),
        ("DELETE", f"/api/orders/{order}/lines/cola?quantity=1", None),
        ("POST", "/api/cancelOrder", {"order_id": order, "reason": "changed my mind"}),
    ):
        answer = shared_shop.http.request(method, path, json=body)
        assert answer.status_code == 200, answer.text
        seen = shared_shop.get(f"/api/orders/{order}", headers={POSITION: answer.headers[POSITION]})
        assert seen["version"] >= answer.json()["version"]
        assert seen["lines"] == answer.json()["lines"]
    before = shared_shop.get("/api/stock/water")["on_hand"]
    adjusted = shared_shop.http.post("/api/stock/water/adjust", json={"delta": 3, "reason": "found"})
    assert shared_shop.get("/api/stock/water", headers={POSITION: adjusted.headers[POSITION]})["on_hand"] == before + 3


@pytest.mark.parametrize("reader", ["orders", "stock", "reports/orders", "rewards/ada", "payments"])
@pytest.mark.parametrize(
    "position, status",
    [
        ("", 400),
        ("orders", 400),
        ("/parcomolo/orders@x;orders/0=1", 400),
        ("/parcomolo/orders@1;orders/0", 400),
        ("/parcomolo/orders@1;orders/0=" + "9" * 40, 400),
        ("/parcomolo/kitchen@1;orders/0=1", 409),
        ("/elsewhere/orders@1;orders/0=1", 409),
        ("/parcomolo/orders@2;orders/0=1", 409),
    ],
)
def test_wrong_positions(shared_shop: RunningShop, reader: str, position: str, status: int) -> None:
    """What is no position is a 400; one of another installation or epoch is a 409."""
    answer = shared_shop.http.get(f"/api/{reader}", headers={POSITION: position})

    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("reader", ["orders", "orders/{order}"])
def test_a_position_that_is_not_reached(shared_shop: RunningShop, reader: str) -> None:
    """After five seconds of waiting the answer is 503 with Retry-After."""
    order = shared_shop.place()
    ahead = ",".join(f"orders/{partition}=999999999" for partition in range(3))
    answer = shared_shop.http.get(f"/api/{reader.format(order=order)}", headers={POSITION: f"/parcomolo/orders@1;{ahead}"})

    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    assert 4.5 < answer.elapsed.total_seconds() < 15
