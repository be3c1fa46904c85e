"""PLATFORM sections 4 and 5: what happens, and the result that everybody sees."""

from __future__ import annotations

import pytest

from millrace.testing import eventually
from tests.parcomolo.http.shop import Shop, facts_of, in_both_styles

pytestmark = in_both_styles

HAPPY = [
    "order-placed",
    "stock-reserved",
    "payment-succeeded",
    "order-confirmed",
    "shipping-scheduled",
    "item-shipped",
    "stock-committed",
    "order-completed",
]

GROUNDS = {
    "confirmed": {"stock-reserved", "payment-succeeded", "order-confirmed"},
    "completed": set(HAPPY),
    "rejected": {"payment-failed", "stock-released", "order-rejected"},
}


async def payment(shop: Shop, order_id: str) -> list[str]:
    """Return the statuses of an order's payments."""
    return [row["status"] for row in await shop.get(f"/api/payments?order_id={order_id}")]


async def shipment(shop: Shop, order_id: str) -> list[str]:
    """Return the statuses of an order's shipments."""
    return [row["status"] for row in await shop.get(f"/api/shipments?order_id={order_id}")]


async def test_the_happy_path(shop: Shop):
    """Every fact is in the timeline, payment and shipment are listed, the stock has left."""
    order_id = await shop.completed("cheese", 2)
    seen = await shop.look(order_id)
    assert [entry["type"] for entry in seen["timeline"]] == HAPPY
    assert (seen["payment_status"], seen["fulfilment_status"]) == ("paid", "shipped")
    assert {entry["service"] for entry in seen["timeline"]} == {"orders", "inventory", "payments", "shipping"}
    assert await payment(shop, order_id) == ["succeeded"]
    assert await shipment(shop, order_id) == ["shipped"]
    assert await shop.stock() == (48, 0, 48)


async def test_a_declined_card_releases_the_stock_and_rejects(shop: Shop):
    """`tok_declined`: rejected with payment_failed, nothing is kept."""
    order = await shop.place(token="tok_declined")
    await shop.settled()
    seen = await shop.look(order["order_id"])
    assert (seen["status"], seen["reason"], seen["payment_status"]) == ("rejected", "payment_failed", "failed")
    assert {"stock-reserved", "payment-failed", "stock-released"} <= facts_of(seen)
    assert await shop.stock() == (50, 0, 50)
    assert await payment(shop, order["order_id"]) == ["failed"]


async def test_a_soft_decline_is_tried_again_after_1_and_2_seconds(shop: Shop):
    """`tok_insufficient_funds`: declined twice, then paid."""
    order = await shop.place(token="tok_insufficient_funds")
    for seconds in (1, 2):
        await shop.settled()
        assert (await shop.look(order["order_id"]))["payment_status"] == "unpaid"
        await shop.later(seconds)
    await shop.settled()
    assert (await shop.look(order["order_id"]))["status"] == "completed"
    assert await payment(shop, order["order_id"]) == ["succeeded"]


async def test_an_unknown_outcome_is_asked_again_and_charged_once(shop: Shop):
    """`tok_timeout_then_ok`: asked again after 5 s with the same key."""
    order = await shop.place(token="tok_timeout_then_ok")
    await shop.settled()
    assert (await shop.look(order["order_id"]))["status"] == "pending"
    await shop.later(5)
    assert (await shop.look(order["order_id"]))["status"] == "completed"
    assert len(await shop.published("payments", "payment-succeeded")) == 1


async def test_a_provider_that_never_answers_ends_rejected_within_60_seconds(shop: Shop):
    """`tok_timeout`: rejected with payment_failed."""
    order = await shop.place(token="tok_timeout")
    for _ in range(12):
        await shop.settled()
        await shop.later(5)
    seen = await shop.look(order["order_id"])
    assert (seen["status"], seen["reason"]) == ("rejected", "payment_failed")
    assert await shop.stock() == (50, 0, 50)


async def test_shipping_that_cannot_be_scheduled_refunds_and_rejects(shop: Shop):
    """`FAIL_SHIPPING`: money and stock go back, rejected with shipping_failed."""
    order = await shop.place(ship_to={"name": "FAIL_SHIPPING"})
    await shop.settled()
    seen = await shop.look(order["order_id"])
    assert (seen["status"], seen["reason"], seen["payment_status"]) == ("rejected", "shipping_failed", "refunded")
    assert {"shipping-failed", "payment-refunded", "stock-released"} <= facts_of(seen)
    assert await shop.stock() == (50, 0, 50)
    assert await payment(shop, order["order_id"]) == ["refunded"]
    assert await shipment(shop, order["order_id"]) == ["failed"]


async def test_a_cancellation_before_payment_releases(shop: Shop):
    """Reserved and not yet paid: stock goes back, the order is cancelled, no money moved."""
    order = await shop.place("cheese", 4, token="tok_insufficient_funds")
    await shop.settled()
    assert (await shop.cancel(order["order_id"])).status_code == 200
    for seconds in (1, 2, 5):
        await shop.settled()
        await shop.later(seconds)
    seen = await shop.look(order["order_id"])
    assert (seen["status"], seen["reason"]) == ("cancelled", "changed my mind")
    assert seen["payment_status"] not in ("paid", "refunded")
    assert await shop.stock() == (50, 0, 50)


async def test_a_cancellation_before_the_reservation_is_remembered(shop: Shop):
    """Under review nothing is reserved yet; a cancelled order never reserves."""
    order = await shop.place("cheese", 4, review_seconds=60)
    assert (await shop.cancel(order["order_id"])).status_code == 200
    await shop.settled()
    await shop.later(61)
    seen = await shop.look(order["order_id"])
    assert seen["status"] == "cancelled"
    assert "stock-reserved" not in facts_of(seen)
    assert await shop.stock() == (50, 0, 50)


async def test_a_refund_that_fails_twice_works_at_the_third_try(shop: Shop):
    """`tok_refund_fails_twice` with shipping that fails: refunded in the end."""
    order = await shop.place(token="tok_refund_fails_twice", ship_to={"name": "FAIL_SHIPPING"})
    for seconds in (1, 2, 4, 8, 16):
        await shop.settled()
        await shop.later(seconds)
    seen = await shop.look(order["order_id"])
    assert (seen["status"], seen["payment_status"]) == ("rejected", "refunded")


@pytest.mark.parametrize("token", ["tok_ok", "tok_declined"])
async def test_every_answer_is_causally_closed(shop: Shop, token):
    """Whenever one looks, a status stands on facts that are in the timeline, and the axes agree with it."""
    order = await shop.place(token=token)
    looks: list[str] = []

    async def ended() -> bool:
        seen = await shop.look(order["order_id"])
        facts = facts_of(seen)
        assert GROUNDS.get(seen["status"], set()) <= facts
        assert seen["payment_status"] != "paid" or "payment-succeeded" in facts
        assert seen["fulfilment_status"] != "shipped" or "item-shipped" in facts
        looks.append(seen["status"])
        return seen["status"] in ("completed", "rejected")

    await eventually(shop.app, ended, timeout=20)
    assert len(looks) > 1
