"""PLATFORM section 4: reservation is all or nothing, and available is never below zero."""

from __future__ import annotations

import asyncio

import pytest

from millrace.testing.conformance.lab import foreign, put
from parcomolo.contracts.inventory import AdjustStock, ReceiveStock, ReserveStock
from parcomolo.contracts.lines import StockLine
from tests.parcomolo.http.shop import Shop, in_both_styles

pytestmark = in_both_styles

LOTS = "a-lot-of-cheese"


async def test_an_order_for_26_of_25_is_taken_and_ends_out_of_stock(shop: Shop):
    """It is answered 201, ends `rejected: out_of_stock`, and changes no stock."""
    order = await shop.place(LOTS, 26)
    await shop.settled()
    seen = await shop.look(order["order_id"])
    assert (seen["status"], seen["reason"], seen["payment_status"]) == ("rejected", "out_of_stock", "unpaid")
    assert await shop.stock(LOTS) == (25, 0, 25)


async def test_an_order_for_25_of_25_succeeds_and_leaves_0(shop: Shop):
    """Reserved at once, taken out of the shelf when it is shipped."""
    await shop.completed(LOTS, 25)
    assert await shop.stock(LOTS) == (0, 0, 0)


async def test_two_lines_of_20_are_40(shop: Shop):
    """Lines of the same product are summed before they are reserved."""
    answer = await shop.order([(LOTS, 20), (LOTS, 20)])
    await shop.settled()
    seen = await shop.look(answer.json()["order_id"])
    assert (seen["status"], seen["reason"]) == ("rejected", "out_of_stock")
    assert await shop.stock(LOTS) == (25, 0, 25)


async def test_one_short_line_reserves_nothing_of_the_others(shop: Shop):
    """All or nothing over the whole order."""
    await shop.order([("bland", 1), (LOTS, 26)])
    await shop.settled()
    assert await shop.stock("bland") == (100, 0, 100)


async def test_buyers_who_come_together_never_get_more_than_there_is(shop: Shop):
    """Forty buyers of one of 25: exactly 25 are served."""
    orders = await asyncio.gather(*(shop.place(LOTS) for _ in range(40)))
    await shop.settled()
    ends = [(await shop.look(order["order_id"]))["status"] for order in orders]
    assert sorted(ends) == ["completed"] * 25 + ["rejected"] * 15
    assert await shop.stock(LOTS) == (0, 0, 0)


async def test_stock_is_listed_with_its_opening(shop: Shop):
    """The seed: at least twelve products in three groups, the burgers with 100, 50 and 25."""
    stock = {row["sku"]: row for row in await shop.get("/api/stock")}
    assert [stock[sku]["initial"] for sku in ("bland", "cheese", LOTS)] == [100, 50, 25]
    products = await shop.get("/api/products")
    assert len(products) >= 12
    assert {product["sku"] for product in products} == set(stock)
    assert len({product["group"] for product in products}) == 3


async def test_an_adjustment_changes_on_hand(shop: Shop):
    """Up and down, with the reason in the published fact."""
    up = await shop.http.post("/api/stock/bland/adjust", json={"delta": 5, "reason": "found in the cellar"})
    assert (up.status_code, up.json()["on_hand"]) == (200, 105)
    position = {"Millrace-Position": up.headers["Millrace-Position"]}
    assert (await shop.get("/api/stock/bland", headers=position))["available"] == 105
    await shop.settled()
    [fact] = [e for e in await shop.published("inventory", "stock-adjusted") if e["data"]["reason"] == "found in the cellar"]
    assert fact["data"] == {"sku": "bland", "delta": 5, "on_hand": 105, "reason": "found in the cellar"}


async def test_an_adjustment_below_what_is_reserved_is_422(shop: Shop):
    """What is promised stays there."""
    await shop.place(LOTS, 20, token="tok_insufficient_funds")
    await shop.settled()
    assert await shop.stock(LOTS) == (25, 20, 5)
    answer = await shop.http.post(f"/api/stock/{LOTS}/adjust", json={"delta": -6, "reason": "broken"})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/below-reserved")
    assert (await shop.http.post(f"/api/stock/{LOTS}/adjust", json={"delta": -5, "reason": "broken"})).status_code == 200
    assert await shop.stock(LOTS) == (20, 20, 0)


async def test_more_pieces_than_there_can_be_are_refused(shop: Shop):
    """Over HTTP 422 that names the field; a command from a topic gets its answer with the reason, is no dead letter, and moves nothing."""
    for delta in (10**20, 1_000_000_001, -1_000_000_001):
        answer = await shop.http.post("/api/stock/bland/adjust", json={"delta": delta, "reason": "x"})
        assert (answer.status_code, answer.json()["field"]) == (422, "delta")
    commands = (ReceiveStock(sku="bland", quantity=10**20), AdjustStock(sku="bland", delta=10**20, reason="x"))
    reserving = ReserveStock(order_id="o1", lines=(StockLine(sku="bland", quantity=-5),))
    for key, command in (*(("bland", each) for each in commands), ("o1", reserving)):
        await put(shop.app, "inventory.commands", (key, foreign(shop.app, command, id=type(command).__name__)))
    await shop.settled()
    refused = [event["data"] for event in await shop.published("inventory", "command-rejected")]
    assert {each["command"]: each["reason"] for each in refused} == dict.fromkeys(
        ("receive-stock", "adjust-stock", "reserve-stock"), "invalid_quantity"
    )
    assert await shop.stock("bland") == (100, 0, 100)
    assert await shop.get("/console/api/dead-letters") == {"items": [], "next": None}


@pytest.mark.parametrize("method", ["get", "post"])
async def test_an_unknown_product_is_404(shop: Shop, method):
    """Nothing is on the shelf under that name."""
    if method == "get":
        answer = await shop.http.get("/api/stock/nothing")
    else:
        answer = await shop.http.post("/api/stock/nothing/adjust", json={"delta": 1, "reason": "x"})
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown-product")


async def test_a_reservation_expires_by_a_fact(shop: Shop):
    """Unpaid for 15 minutes: given back, said so, and the order is over."""
    order = await shop.place("cheese", 3, token="tok_insufficient_funds")
    await shop.settled()
    assert await shop.stock() == (50, 3, 47)
    await shop.later(1)
    await shop.later(2)
    await shop.settled()
    assert (await shop.look(order["order_id"]))["status"] == "completed"
