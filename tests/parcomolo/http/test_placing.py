"""PLATFORM section 3: placing an order, looking at it, listing orders, and an order's own events."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.parcomolo.http.shop import Shop, facts_of, request


async def test_a_placed_order_is_answered_whole(shop: Shop):
    """201, where it is, and all that is known of it."""
    answer = await shop.order([("cheese", 2), ("fries", 1)], ship_to={"name": "Ada", "city": "London"})
    order = answer.json()
    assert answer.headers["Location"] == f"/api/orders/{order['order_id']}"
    assert answer.headers["Millrace-Position"].startswith("/parcomolo/orders@")
    assert (order["status"], order["payment_status"], order["fulfilment_status"]) == ("pending", "unpaid", "unfulfilled")
    assert order["total"] == {"amount": 2 * 699 + 299, "currency": "EUR"}
    assert order["lines"][0] == {
        "sku": "cheese",
        "name": "Cheese Burger",
        "quantity": 2,
        "unit_price": {"amount": 699, "currency": "EUR"},
    }
    assert order["ship_to"] == {"name": "Ada", "street": None, "city": "London", "country": None}
    assert (order["version"], order["customer_id"], order["reason"]) == (1, "ada", None)
    assert order["number"]
    assert UUID(order["order_id"]).version == 7


async def test_an_order_answered_201_is_never_404(shop: Shop):
    """Looked at in the same breath, before any view has it."""
    for _ in range(20):
        order = await shop.place()
        seen = await shop.look(order["order_id"])
        assert seen["number"] == order["number"]
        assert "order-placed" in facts_of(seen)


async def test_the_client_may_choose_the_id(shop: Shop):
    """Any UUID, written in any case; it is told in lower case."""
    chosen = "F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6"
    order = await shop.place(order_id=chosen)
    assert order["order_id"] == chosen.lower()
    assert (await shop.look(chosen))["order_id"] == chosen.lower()


async def test_orders_are_listed_newest_first_and_paged(shop: Shop):
    """Pages of two; the cursor leads through all of them, once."""
    placed = []
    for number in range(5):
        placed.append((await shop.place(customer_id=f"c{number % 2}"))["order_id"])
        shop.clock.advance(_second())
    await shop.settled()
    seen, cursor = [], ""
    while cursor is not None:
        page = await shop.get(f"/api/orders?limit=2&cursor={cursor}")
        assert len(page["items"]) <= 2
        seen += [order["order_id"] for order in page["items"]]
        cursor = page["next"]
    assert seen == placed[::-1]
    mine = await shop.get("/api/orders?customer_id=c1&status=")
    assert [order["order_id"] for order in mine["items"]] == [placed[3], placed[1]]
    assert len((await shop.get("/api/orders?status=completed&customer_id=c0"))["items"]) == 3
    assert (await shop.get("/api/orders?status=rejected"))["items"] == []


def _second():
    from datetime import timedelta

    return timedelta(seconds=1)


@pytest.mark.parametrize(
    "query, field",
    [("status=gone", "status"), ("limit=0", "limit"), ("limit=x", "limit"), ("cursor=x", "cursor"), ("limit=1001", "limit")],
)
async def test_a_wrong_query_is_422_and_names_the_field(shop: Shop, query, field):
    """As for bodies."""
    answer = await shop.http.get(f"/api/orders?{query}")
    assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_the_own_events_have_versions_and_masked_personal_fields(shop: Shop):
    """From 1 without a gap; the token and the address are nobody's business."""
    order_id = await shop.completed(ship_to={"name": "Ada"})
    events = await shop.get(f"/api/orders/{order_id}/events")
    assert [event["version"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["type"] == "parcomolo.orders.order-placed.v1"
    assert (events[0]["data"]["payment_token"], events[0]["data"]["ship_to"]) == ("***", "***")
    assert (await shop.look(order_id))["version"] == len(events)


async def test_the_state_as_of_a_version(shop: Shop):
    """Version 1 is the order as it was placed; one it has not reached is 404."""
    order_id = await shop.completed()
    events = await shop.get(f"/api/orders/{order_id}/events")
    first = await shop.get(f"/api/orders/{order_id}?at_version=1")
    assert (first["version"], first["status"]) == (1, "pending")
    assert [entry["type"] for entry in first["timeline"]] == ["order-placed"]
    last = await shop.get(f"/api/orders/{order_id}?at_version={len(events)}")
    assert last == await shop.look(order_id)
    answer = await shop.http.get(f"/api/orders/{order_id}?at_version={len(events) + 1}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown-version")
    assert (await shop.http.get(f"/api/orders/{order_id}?at_version=0")).status_code == 422


async def test_an_unknown_product_is_422(shop: Shop):
    """Nothing is stored."""
    answer = await shop.http.post("/api/orders", json=request(("caviar", 1)))
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/unknown-product")
    await shop.settled()
    assert (await shop.get("/api/orders"))["items"] == []
