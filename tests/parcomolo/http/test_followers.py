"""PLATFORM section 6: rewards, late deliveries, reports."""

from __future__ import annotations

from datetime import timedelta

import pytest

from millrace import ManualClock
from millrace.rebuild_watch import rebuild_view
from parcomolo.bootstrap import assemble
from parcomolo.configuration import configuration
from tests.parcomolo.http.shop import Shop, running
from tests.shop_places import settings_of


async def delivered(shop: Shop, customer: str, times: int) -> None:
    """Let a customer receive so many orders."""
    for _ in range(times):
        order_id = await shop.completed("water", customer_id=customer)
        assert (await shop.deliver(order_id)).status_code == 200
    await shop.settled()


async def test_every_third_delivery_earns_a_reward_once(shop: Shop):
    """The 3rd and the 6th; each is told once, with its number."""
    await delivered(shop, "ada", 2)
    assert await shop.get("/api/rewards/ada") == {"purchases": 2, "rewards": []}
    await delivered(shop, "ada", 1)
    assert [reward["purchases"] for reward in (await shop.get("/api/rewards/ada"))["rewards"]] == [3]
    await delivered(shop, "ada", 4)
    seen = await shop.get("/api/rewards/ada")
    assert (seen["purchases"], [reward["purchases"] for reward in seen["rewards"]]) == (7, [3, 6])
    granted = await shop.published("rewards", "reward-granted")
    assert sorted(event["data"]["reward_id"] for event in granted) == sorted(r["reward_id"] for r in seen["rewards"])


async def test_customers_are_counted_apart_and_unknown_ones_have_nothing(shop: Shop):
    """Two by one and two by another are no three."""
    await delivered(shop, "ada", 2)
    await delivered(shop, "bob", 2)
    assert await shop.published("rewards", "reward-granted") == []
    assert await shop.get("/api/rewards/nobody") == {"purchases": 0, "rewards": []}


async def test_exactly_the_limit_is_not_late_and_more_is(shop: Shop):
    """30 s is in time; 30.000001 s is not."""
    in_time, late = await shop.completed(), await shop.completed()
    shop.clock.advance(timedelta(seconds=30))
    await shop.deliver(in_time)
    shop.clock.advance(timedelta(microseconds=1))
    await shop.deliver(late)
    await shop.settled()
    alerts = await shop.get("/api/operations/alerts")
    assert [(alert["order_id"], alert["seconds"]) for alert in alerts] == [(late, 30.000001)]


async def test_an_order_that_is_not_delivered_in_time_is_late_once(tmp_path):
    """Said when due and a second have passed, not again at the delivery, not again after a restart."""
    clock = ManualClock()
    async with running(tmp_path / "data", clock) as shop:
        order_id = await shop.completed()
        await shop.later(30.5)
        assert await shop.get("/api/operations/alerts") == []
        await shop.later(0.5)
        assert [alert["order_id"] for alert in await shop.get("/api/operations/alerts")] == [order_id]
    async with running(tmp_path / "data", clock) as shop:
        await shop.deliver(order_id)
        await shop.later(60)
        assert len(await shop.get("/api/operations/alerts")) == 1
        assert len(await shop.published("operations", "delivery-late")) == 1


async def test_orders_that_ended_are_not_watched(shop: Shop):
    """Rejected and cancelled ones raise nothing."""
    await shop.place(token="tok_declined")
    order = await shop.place(review_seconds=20)
    await shop.cancel(order["order_id"])
    await shop.settled()
    await shop.later(60)
    assert await shop.get("/api/operations/alerts") == []


async def test_reports_are_empty_and_zero_before_the_first_event(shop: Shop):
    """Not 404."""
    assert await shop.get("/api/reports/products") == []
    assert await shop.get("/api/reports/orders") == {"total": 0, "succeeded": 0, "failed": 0}


async def fill(shop: Shop) -> None:
    """Place orders of every kind."""
    await shop.order([("cheese", 2), ("fries", 1)])
    await shop.order([("cheese", 1)])
    await shop.order([("cheese", 1)], token="tok_declined")
    await shop.order([("cola", 1)], ship_to={"name": "FAIL_SHIPPING"})
    await shop.order([("a-lot-of-cheese", 26)])
    await shop.order([("water", 1)], review_seconds=3600)
    cancelled = await shop.order([("water", 1)], review_seconds=3600)
    await shop.cancel(cancelled.json()["order_id"])
    await shop.settled()


async def test_reports_count_what_was_not_undone(shop: Shop):
    """Open and cancelled orders are in the total only; refunded sales are taken back."""
    await fill(shop)
    assert await shop.get("/api/reports/orders") == {"total": 7, "succeeded": 2, "failed": 3}
    assert await shop.get("/api/reports/products") == [
        {"sku": "cheese", "unit_price": {"amount": 699, "currency": "EUR"}, "quantity": 3},
        {"sku": "fries", "unit_price": {"amount": 299, "currency": "EUR"}, "quantity": 1},
    ]


@pytest.mark.parametrize("view", ["product-sales", "order-counts"])
async def test_reports_are_equal_after_a_rebuild(tmp_path, view):
    """Built anew from the facts, with nothing but the log."""
    clock, paths = ManualClock(), ("/api/reports/products", "/api/reports/orders")
    async with running(tmp_path / "data", clock) as shop:
        await fill(shop)
        before = [await shop.get(path) for path in paths]
    config = configuration({"data": str(tmp_path / "data"), **settings_of(tmp_path / "data")})
    await rebuild_view(assemble(config, clock=clock), view, report=lambda _: None)
    async with running(tmp_path / "data", clock) as shop:
        assert [await shop.get(path) for path in paths] == before
