"""PLATFORM section 3: terminal states are guarded, reasons are kept and published, delivery happens once."""

from __future__ import annotations

import pytest

from millrace import ManualClock
from tests.parcomolo.http.shop import Shop, facts_of, in_both_styles, running

pytestmark = in_both_styles


@pytest.fixture
async def slow(tmp_path, style):
    """A shop whose parcels leave after 3 s."""
    async with running(tmp_path / "data", ManualClock(), checkout=style, **{"shipping-delay": "3"}) as shop:
        yield shop


async def test_a_cancellation_after_payment_refunds_and_releases(slow: Shop):
    """Paid and not yet shipped: cancelled and refunded, the stock is back."""
    order = await slow.place("cheese", 2)
    await slow.until(order["order_id"], "order-confirmed", "shipping-scheduled")
    assert (await slow.cancel(order["order_id"])).json()["status"] == "cancelling"
    await slow.settled()
    seen = await slow.look(order["order_id"])
    assert (seen["status"], seen["payment_status"]) == ("cancelled", "refunded")
    assert {"shipping-cancelled", "payment-refunded", "stock-released"} <= facts_of(seen)
    assert await slow.stock() == (50, 0, 50)


async def test_the_reason_is_in_the_published_event(slow: Shop):
    """Required, stored, and told to everybody."""
    order = await slow.place()
    await slow.settled()
    await slow.cancel(order["order_id"], "it rains")
    await slow.settled()
    assert (await slow.look(order["order_id"]))["reason"] == "it rains"
    for name in ("order-cancellation-requested", "order-cancelled"):
        [event] = await slow.published("orders", name)
        assert event["data"]["reason"] == "it rains"
    [cancelled] = await slow.published("orders", "order-cancelled")
    assert cancelled["data"]["compensations"]


async def test_a_second_cancel_is_409_and_no_second_event(slow: Shop):
    """Whether the first one is still running or done."""
    order = await slow.place()
    await slow.settled()
    assert (await slow.cancel(order["order_id"])).status_code == 200
    assert (await slow.cancel(order["order_id"])).status_code == 409
    await slow.settled()
    again = await slow.cancel(order["order_id"])
    assert (again.status_code, again.json()["reason"]) == (409, "already_cancelled")
    assert len(await slow.published("orders", "order-cancellation-requested")) == 1


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "  "}, {"reason": None}, {"reason": 5}])
async def test_a_cancellation_needs_a_reason(shop: Shop, body):
    """422 that names the field."""
    order = await shop.place()
    answer = await shop.http.post(f"/api/orders/{order['order_id']}/cancel", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, "reason")


async def test_no_cancelling_after_shipping(shop: Shop):
    """409 with the reason, and the order stays as it is."""
    order_id = await shop.completed()
    answer = await shop.cancel(order_id)
    assert (answer.status_code, answer.json()["reason"]) == (409, "already_shipped")
    assert (await shop.look(order_id))["status"] == "completed"


async def test_no_cancelling_of_a_rejected_order(shop: Shop):
    """409: it is over."""
    order = await shop.place(token="tok_declined")
    await shop.settled()
    answer = await shop.cancel(order["order_id"])
    assert (answer.status_code, answer.json()["reason"]) == (409, "already_rejected")


async def test_the_alias_cancels_too(slow: Shop):
    """`POST /cancelOrder`, as the workshop names it."""
    order = await slow.place()
    await slow.settled()
    body = {"order_id": order["order_id"], "reason": "too slow"}
    assert (await slow.http.post("/api/cancelOrder", json=body)).status_code == 200
    assert (await slow.http.post("/api/cancelOrder", json=body)).status_code == 409
    await slow.settled()
    assert (await slow.look(order["order_id"]))["status"] == "cancelled"


async def test_delivery_happens_once_and_only_after_shipping(slow: Shop):
    """409 before the parcel has left, and for a second time; one event."""
    order = await slow.place()
    await slow.settled()
    early = await slow.deliver(order["order_id"])
    assert (early.status_code, early.json()["reason"]) == (409, "not_shipped")
    await slow.later(3)
    assert (await slow.deliver(order["order_id"])).json()["fulfilment_status"] == "delivered"
    again = await slow.deliver(order["order_id"])
    assert (again.status_code, again.json()["reason"]) == (409, "already_delivered")
    await slow.settled()
    assert len(await slow.published("orders", "order-delivered")) == 1
    assert (await slow.look(order["order_id"]))["fulfilment_status"] == "delivered"


async def test_unknown_orders_are_404(shop: Shop):
    """For every route that names one, and for what is no id at all."""
    for order_id in ("01a1fef5-6e1c-7222-9a40-255a7797ff4e", "nonsense", "1"):
        for path in ("", "/events"):
            answer = await shop.http.get(f"/api/orders/{order_id}{path}")
            assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown-order")
        line = {"sku": "cheese", "quantity": 1}
        for path, body in (("cancel", {"reason": "x"}), ("deliver", {}), ("lines", line)):
            answer = await shop.http.post(f"/api/orders/{order_id}/{path}", json=body)
            assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown-order")
        assert (await shop.http.delete(f"/api/orders/{order_id}/lines/cheese")).status_code == 404
