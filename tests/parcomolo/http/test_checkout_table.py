"""PLATFORM section 5, row by row, by name: what happens, and the result that everybody sees, in both styles.

Runs on whatever `PARCOMOLO_TEST_ENGINE` names. Consumers are stopped and started as an operator would, to make an answer late or missing.
"""

from __future__ import annotations

import pytest

from millrace import ManualClock
from millrace.operators import Consumers
from parcomolo.configuration import ORCHESTRATION
from tests.parcomolo.http.shop import Shop, facts_of, in_both_styles, running

pytestmark = in_both_styles
FULL = (50, 0, 50)
LOTS = "a-lot-of-cheese"
REVIEW_S = 60


@pytest.fixture
async def slow(tmp_path, style):
    """A shop whose parcels leave after 3 s."""
    async with running(tmp_path / "data", ManualClock(), checkout=style, **{"shipping-delay": "3"}) as shop:
        yield shop


async def result(shop: Shop, order_id: str) -> tuple[str, str | None, str]:
    """Return how an order ended: status, reason, payment."""
    seen = await shop.look(order_id)
    return seen["status"], seen["reason"], seen["payment_status"]


async def test_out_of_stock(shop: Shop):
    """`rejected: out_of_stock`, nothing reserved, and the others' part of the basket neither."""
    order_id = (await shop.order([(LOTS, 26), ("cheese", 1)])).json()["order_id"]
    await shop.settled()
    assert await result(shop, order_id) == ("rejected", "out_of_stock", "unpaid")
    assert (await shop.stock(LOTS), await shop.stock()) == ((25, 0, 25), FULL)


async def test_payment_declined(shop: Shop):
    """The stock is released, `rejected: payment_failed`."""
    order = await shop.place("cheese", 2, token="tok_declined")
    await shop.settled()
    assert await result(shop, order["order_id"]) == ("rejected", "payment_failed", "failed")
    assert "stock-released" in facts_of(await shop.look(order["order_id"]))
    assert await shop.stock() == FULL


async def test_cancel_before_the_reservation_answers(shop: Shop):
    """Remembered; a late `stock-reserved` is released at once."""
    consumers = Consumers(shop.app)
    await consumers.stop("inventory.handlers")
    order = await shop.place("cheese", 2)
    assert (await shop.cancel(order["order_id"])).json()["status"] == "cancelling"
    await consumers.start("inventory.handlers")
    await shop.settled()
    assert (await result(shop, order["order_id"]))[:2] == ("cancelled", "changed my mind")
    assert await shop.stock() == FULL


async def test_cancel_after_reservation_before_payment(shop: Shop):
    """Released, `cancelled`, and no money has moved."""
    order = await shop.place("cheese", 2, token="tok_insufficient_funds")
    await shop.until(order["order_id"], "stock-reserved")
    assert (await shop.cancel(order["order_id"])).status_code == 200
    await shop.settled()
    status, _, payment = await result(shop, order["order_id"])
    assert (status, payment) == ("cancelled", "voided")
    assert await shop.stock() == FULL
    assert await shop.published("payments", "payment-succeeded") == []


async def test_cancel_after_payment_before_shipping(slow: Shop):
    """Refunded and released, `cancelled`, `refunded`; the event names what was undone."""
    order = await slow.place("cheese", 2)
    await slow.until(order["order_id"], "order-confirmed", "shipping-scheduled")
    await slow.cancel(order["order_id"])
    await slow.settled()
    assert await result(slow, order["order_id"]) == ("cancelled", "changed my mind", "refunded")
    assert await slow.stock() == FULL
    [cancelled] = await slow.published("orders", "order-cancelled")
    assert sorted(cancelled["data"]["compensations"]) == ["payment_refunded", "shipping_cancelled", "stock_released"]


async def test_cancel_while_the_parcel_is_leaving(slow: Shop):
    """Shipping decides: the order goes on to `completed`, the cancellation is refused, nothing is refunded or released."""
    order = await slow.place("cheese", 2)
    await slow.until(order["order_id"], "order-confirmed", "shipping-scheduled")
    await slow.settled()
    consumers = Consumers(slow.app)
    deaf = [reader for reader in ("orders.order", "checkout.checkout") if reader.partition(".")[0] in slow.app.hosts]
    for reader in deaf:
        await consumers.stop(reader)  # they do not hear yet that it has left
    await slow.later(3)
    assert (await slow.cancel(order["order_id"])).json()["status"] == "cancelling"
    for reader in deaf:
        await consumers.start(reader)
    await slow.settled()
    seen = await slow.look(order["order_id"])
    assert (seen["status"], seen["payment_status"], seen["fulfilment_status"]) == ("completed", "paid", "shipped")
    [refused] = await slow.published("orders", "order-cancellation-refused")
    assert refused["data"]["reason"] == "already_shipped"
    assert not {"payment-refunded", "stock-released"} & facts_of(seen)
    assert await slow.stock() == (48, 0, 48)


async def test_cancel_after_shipping(shop: Shop):
    """409, and nothing changes."""
    order_id = await shop.completed()
    answer = await shop.cancel(order_id)
    assert (answer.status_code, answer.json()["reason"]) == (409, "already_shipped")


async def test_shipping_cannot_be_scheduled(shop: Shop):
    """Refunded and released, `rejected: shipping_failed`."""
    order = await shop.place("cheese", 2, ship_to={"name": "FAIL_SHIPPING"})
    await shop.settled()
    assert await result(shop, order["order_id"]) == ("rejected", "shipping_failed", "refunded")
    assert await shop.stock() == FULL


async def test_a_step_does_not_answer(shop: Shop, style: str):
    """Orchestrated, the command is repeated, then what is done is compensated; choreographed, the order waits and goes on."""
    consumers = Consumers(shop.app)
    await consumers.stop("payments.handlers")
    order = await shop.place("cheese", 2)
    await shop.until(order["order_id"], "stock-reserved")
    for seconds in (76, 151, 301):
        await shop.later(seconds)
    if style == ORCHESTRATION:
        saga = await shop.get(f"/api/sagas/{order['order_id']}")
        assert (saga["status"], saga["failed_step"], saga["current"]) == ("compensating", "process-payment", ["process-payment"])
        assert [line["what"] for line in saga["timeline"]].count("sent again") == 2
    await consumers.start("payments.handlers")
    await shop.settled()
    ended = await result(shop, order["order_id"])
    assert ended == (("rejected", "payment_failed", "refunded") if style == ORCHESTRATION else ("completed", None, "paid"))
    assert await shop.stock() == (FULL if style == ORCHESTRATION else (48, 0, 48))


async def test_a_compensation_keeps_failing(shop: Shop, style: str):
    """The saga is `stuck`, visible with the failed step, and an operator gets it out; choreographed, the failed refund is in the story."""
    order = await shop.place("cheese", 2, token="tok_refund_fails", ship_to={"name": "FAIL_SHIPPING"})
    await shop.settled()
    for seconds in (1, 2, 4, 8, 16):
        await shop.later(seconds)
    assert "refund-failed" in facts_of(await shop.look(order["order_id"]))
    assert (await shop.look(order["order_id"]))["status"] == "confirmed"
    if style != ORCHESTRATION:
        assert await shop.get("/api/sagas") == {"items": [], "next": None}
        return
    while not (stuck := (await shop.get("/api/sagas?status=stuck"))["items"]):
        await shop.later(16)
    [item] = stuck
    assert (item["id"], item["stuck"]) == (order["order_id"], ["process-payment"])
    skipped = await shop.http.post(f"/console/api/sagas/{item['id']}/skip", json={"reason": "paid back by bank transfer", "by": "Ada"})
    assert skipped.status_code == 200, skipped.text
    await shop.settled()
    assert (await result(shop, item["id"]))[:2] == ("rejected", "shipping_failed")
    assert await shop.stock() == FULL


async def test_duplicate_late_and_reordered_answers(shop: Shop):
    """No effect twice: everything that the others have said about an order is said again, the last thing first."""
    order_id = await shop.completed("cheese", 2)
    before = await shop.look(order_id)
    for topic in ("shipping", "payments", "inventory"):
        await shop.say_again(topic, order_id)
    await shop.settled()
    after = await shop.look(order_id)
    assert {key: after[key] for key in ("status", "payment_status", "fulfilment_status")} == {
        key: before[key] for key in ("status", "payment_status", "fulfilment_status")
    }
    assert await shop.stock() == (48, 0, 48)
    assert len(await shop.published("orders", "order-completed")) == 1


async def test_payment_succeeds_after_the_order_ended(shop: Shop):
    """Refunded: the customer had cancelled, and the provider's yes came later."""
    consumers = Consumers(shop.app)
    await consumers.stop("payments.provider")
    order = await shop.place("cheese", 2)
    await shop.until(order["order_id"], "stock-reserved")
    await shop.cancel(order["order_id"])
    await consumers.start("payments.provider")
    await shop.settled()
    assert await result(shop, order["order_id"]) == ("cancelled", "changed my mind", "refunded")
    assert await shop.stock() == FULL
    [payment] = await shop.get(f"/api/payments?order_id={order['order_id']}")
    assert payment["status"] == "refunded"


async def test_a_reservation_expires(shop: Shop):
    """C3: unpaid for fifteen minutes, because payments does not work: the stock is free by a fact, and the order expires."""
    consumers = Consumers(shop.app)
    await consumers.stop("payments.handlers")
    order = await shop.place("cheese", 2)
    await shop.until(order["order_id"], "stock-reserved")
    assert await shop.stock() == (50, 2, 48)
    await shop.later(900)
    await shop.until(order["order_id"], "reservation-expired")
    assert await shop.stock() == FULL
    await consumers.start("payments.handlers")
    await shop.settled()
    assert (await result(shop, order["order_id"]))[0] == "expired"
    assert await shop.stock() == FULL
