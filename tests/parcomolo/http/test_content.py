"""PLATFORM section 3: the content of an order may change while it is under review, and the change reaches stock."""

from __future__ import annotations

from typing import Any

import httpx

from millrace import ManualClock
from parcomolo.catalogue.messages import ChangePrice
from parcomolo.contracts.money import Money
from tests.parcomolo.http.shop import Shop, in_both_styles, running

pytestmark = in_both_styles


async def add(shop: Shop, order: dict[str, Any], sku: str, quantity: int) -> httpx.Response:
    """Add pieces."""
    body = {"sku": sku, "quantity": quantity}
    return await shop.http.post(f"/api/orders/{order['order_id']}/lines", json=body)


async def remove(shop: Shop, order: dict[str, Any], sku: str, quantity: int | None = None) -> httpx.Response:
    """Remove pieces."""
    query = "" if quantity is None else f"?quantity={quantity}"
    return await shop.http.delete(f"/api/orders/{order['order_id']}/lines/{sku}{query}")


def content(order: dict[str, Any]) -> list[tuple[str, int, int]]:
    """Return (sku, quantity, price) of each line."""
    return [(line["sku"], line["quantity"], line["unit_price"]["amount"]) for line in order["lines"]]


async def reprice(shop: Shop, sku: str, amount: int) -> None:
    """Change a price, and wait until orders has it."""
    await shop.app.execute(ChangePrice(sku=sku, unit_price=Money(amount=amount)))
    await shop.settled()


async def test_the_same_product_merges_and_the_newest_price_wins(shop: Shop):
    """Two at the old price and one at the new: three at the new one, and the total follows."""
    order = await shop.place("cheese", 2, review_seconds=60)
    await reprice(shop, "cheese", 750)
    after = (await add(shop, order, "cheese", 1)).json()
    assert content(after) == [("cheese", 3, 750)]
    assert after["total"] == {"amount": 2250, "currency": "EUR"}


async def test_an_order_keeps_the_price_of_its_moment(shop: Shop):
    """A later price is for later orders."""
    order = await shop.place("cheese", 1)
    await reprice(shop, "cheese", 1)
    await shop.settled()
    assert content(await shop.look(order["order_id"])) == [("cheese", 1, 699)]
    assert content(await shop.place("cheese", 1)) == [("cheese", 1, 1)]


async def test_at_most_what_is_there_is_removed(shop: Shop):
    """More, something else, or the last line: 409 with the reason."""
    order = await shop.place("cheese", 2, review_seconds=60)
    assert content((await add(shop, order, "fries", 2)).json()) == [("cheese", 2, 699), ("fries", 2, 299)]
    for sku, quantity, reason in (("cheese", 3, "more_than_ordered"), ("cola", 1, "not_in_order")):
        answer = await remove(shop, order, sku, quantity)
        assert (answer.status_code, answer.json()["reason"]) == (409, reason)
    assert content((await remove(shop, order, "cheese", 1)).json()) == [("cheese", 1, 699), ("fries", 2, 299)]
    assert content((await remove(shop, order, "fries")).json()) == [("cheese", 1, 699)]
    assert (await remove(shop, order, "cheese")).json()["reason"] == "last_line"


async def test_a_change_is_in_the_reservation(shop: Shop):
    """What is reserved after the review is the content as it was changed."""
    order = await shop.place("cheese", 5, review_seconds=60, token="tok_insufficient_funds")
    await add(shop, order, "fries", 3)
    await remove(shop, order, "cheese", 2)
    await shop.settled()
    assert await shop.stock("cheese") == (50, 0, 50)
    await shop.later(60)
    assert await shop.stock("cheese") == (50, 3, 47)
    assert await shop.stock("fries") == (200, 3, 197)


async def test_the_payment_is_for_the_changed_content(tmp_path, style):
    """The amount that is charged is the total after the last change."""
    async with running(tmp_path / "data", ManualClock(), checkout=style) as shop:
        order = await shop.place("cheese", 5, review_seconds=60)
        after = (await add(shop, order, "fries", 3)).json()
        await shop.settled()
        await shop.later(60)
        [payment] = await shop.get(f"/api/payments?order_id={order['order_id']}")
        assert payment["amount"] == after["total"] == {"amount": 5 * 699 + 3 * 299, "currency": "EUR"}


async def test_no_change_once_checkout_has_started(shop: Shop):
    """409 with the reason, without a review and after it."""
    order = await shop.place("cheese", 2, token="tok_insufficient_funds")
    assert (await add(shop, order, "fries", 1)).json()["reason"] == "checkout_started"
    reviewed = await shop.place("cheese", 2, review_seconds=10, token="tok_insufficient_funds")
    await shop.settled()
    await shop.later(10)
    assert (await remove(shop, reviewed, "cheese", 1)).json()["reason"] == "checkout_started"
    done = await shop.completed()
    assert (await add(shop, {"order_id": done}, "fries", 1)).status_code == 409


async def test_an_unknown_product_cannot_be_added(shop: Shop):
    """422 that names it."""
    order = await shop.place("cheese", 2, review_seconds=60)
    answer = await add(shop, order, "caviar", 1)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/unknown-product")
