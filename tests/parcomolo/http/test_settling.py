"""An order whose saga was taken over is on hold, and an operator settles how it ends: stock exact, money that was taken untouched, once."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from millrace import ManualClock
from millrace.operators import Consumers
from millrace.rebuild_watch import rebuild_view
from millrace.testing import eventually
from parcomolo.bootstrap import assemble
from parcomolo.configuration import CHOREOGRAPHY, configuration
from parcomolo.web.assembly import web_application
from parcomolo.web.guard import Guard
from tests.parcomolo.http.shop import Shop, facts_of, running
from tests.shop_places import settings_of

FULL, SOLD = (50, 0, 50), (48, 0, 48)
NOBODY = "01a1fef5-6e1c-7222-9a40-255a7797ff4e"
WHY = "the customer is on the phone"


@pytest.fixture
async def slow(tmp_path):
    """A shop whose parcels leave after 3 s."""
    async with running(tmp_path / "data", ManualClock(), **{"shipping-delay": "3"}) as shop:
        yield shop


async def take_over(shop: Shop, order_id: str) -> dict[str, Any]:
    """Take a checkout over, and return the order, which is on hold then."""
    answer = await shop.http.post(f"/console/api/sagas/{order_id}/take-over", json={"reason": WHY, "by": "Ada"})
    assert (answer.status_code, answer.json()["status"]) == (200, "taken_over")
    await shop.settled()
    order = await shop.look(order_id)
    assert (order["status"], order["reason"], order["timeline"][-1]["text"]) == ("on_hold", WHY, f"Order held: {WHY}.")
    return order


async def settle(shop: Shop, order_id: str, outcome: str, **more: Any) -> httpx.Response:
    """Say how an order ends."""
    body = {"outcome": outcome, "reason": "paid out in cash", "by": "Ada"}
    return await shop.http.post(f"/console/api/orders/{order_id}/settle", json=body, **more)


async def shown_as_settling(shop: Shop, order_id: str, outcome: str) -> None:
    """Wait until the status tells how the order is about to end."""

    async def shown() -> bool:
        return (await shop.look(order_id))["settling"] == outcome

    await eventually(shop.app, shown, timeout=20)


async def refused(answer: httpx.Response) -> str:
    """Return the reason of an answer that must be 409."""
    assert answer.status_code == 409, answer.text
    assert answer.json()["detail"].endswith(".")
    assert "_" not in answer.json()["detail"], "a sentence for people"
    return answer.json()["reason"]


@pytest.mark.parametrize("outcome, stock, succeeded", [("cancelled", FULL, 0), ("completed", SOLD, 1)])
async def test_a_stuck_refund_is_taken_over_and_settled(shop: Shop, outcome: str, stock: tuple[int, int, int], succeeded: int):
    """The stock that was kept for ever is free, or sold; the money stays where it is; reports count the order like any other."""
    order_id = await shop.stuck()
    assert await shop.stock() == (50, 2, 48)
    held = await take_over(shop, order_id)
    assert await shop.stock() == (50, 2, 48)

    settled = await settle(shop, order_id, outcome)
    assert settled.status_code == 200
    assert [settled.json()[name] for name in ("status", "settling", "reason")] == ["on_hold", outcome, WHY]
    position = {"Millrace-Position": settled.headers["Millrace-Position"]}
    assert "order-settlement-begun" in facts_of(await shop.get(f"/api/orders/{order_id}", headers=position))
    await shop.settled()
    assert await shop.stock() == stock
    order = await shop.look(order_id)
    assert [order[name] for name in ("status", "settling", "reason", "payment_status")] == [outcome, None, "paid out in cash", "paid"]
    assert order["timeline"][: len(held["timeline"])] == held["timeline"]
    begun, answer, end = order["timeline"][len(held["timeline"]) :]
    assert (begun["text"], end["text"]) == (f"Settlement begun: {outcome}, paid out in cash.", f"Order {outcome}: paid out in cash.")
    assert answer["type"] == ("stock-released" if outcome == "cancelled" else "stock-committed"), "the end stands behind it"
    assert await shop.get("/api/reports/orders") == {"total": 1, "succeeded": succeeded, "failed": 0}
    assert sum(row["quantity"] for row in await shop.get("/api/reports/products")) == 2 * succeeded
    [said] = await shop.published("orders", f"order-{outcome}")
    assert said["data"]["settled_by"] == "Ada"


async def test_an_order_is_settled_once_and_for_all(shop: Shop):
    """Neither a second settlement nor time changes anything, and nobody stumbles over what was said."""
    order_id = await shop.stuck()
    await take_over(shop, order_id)
    await settle(shop, order_id, "completed")
    await shop.settled()
    order = await shop.look(order_id)
    for again in ("cancelled", "completed"):
        assert await refused(await settle(shop, order_id, again)) == "not_on_hold"
    for _ in range(3):
        await shop.later(600)
    assert (await shop.look(order_id), await shop.stock()) == (order, SOLD)
    assert (await shop.get("/console/api/dead-letters"))["items"] == []


async def test_what_is_on_hold_is_left_to_the_operator(shop: Shop):
    """A cancel, a line, another takeover are 409; and the cancellation names as undone what really was."""
    order_id = await shop.stuck()
    await take_over(shop, order_id)
    orders = f"/api/orders/{order_id}"
    assert await refused(await shop.cancel(order_id)) == "on_hold"
    assert await refused(await shop.http.post(f"{orders}/lines", json={"sku": "cheese", "quantity": 1})) == "on_hold"
    assert await refused(await shop.http.delete(f"{orders}/lines/cheese")) == "on_hold"
    assert await refused(await shop.deliver(order_id)) == "not_shipped"
    again = await shop.http.post(f"/console/api/sagas/{order_id}/take-over", json={"reason": WHY})
    assert again.status_code == 409
    assert [item["order_id"] for item in (await shop.get("/api/orders?status=on_hold"))["items"]] == [order_id]
    await settle(shop, order_id, "cancelled")
    await shop.settled()
    [cancelled] = await shop.published("orders", "order-cancelled")
    assert (cancelled["data"]["compensations"], cancelled["data"]["closed"]) == (["stock_released"], ["stock", "shipping"])
    assert "stock-released" in facts_of(await shop.look(order_id))
    assert (await shop.get("/api/orders?status=on_hold"))["items"] == []


async def test_a_running_checkout_is_taken_over_and_its_parcel_called_off(slow: Shop):
    """Nothing more is done for it, and cancelled in time nothing leaves; whoever took over sees to the money."""
    order_id = (await slow.place("cheese", 2))["order_id"]
    await slow.until(order_id, "shipping-scheduled")
    await take_over(slow, order_id)
    assert (await settle(slow, order_id, "cancelled")).status_code == 200
    await slow.settled()
    await slow.later(10)
    order = await slow.look(order_id)
    assert (order["status"], order["payment_status"], order["fulfilment_status"]) == ("cancelled", "paid", "unfulfilled")
    assert {"shipping-cancelled", "stock-released"} <= facts_of(order)
    assert not {"item-shipped", "payment-refunded"} & facts_of(order)
    assert await slow.stock() == FULL
    assert [shipment["status"] for shipment in await slow.get(f"/api/shipments?order_id={order_id}")] == ["cancelled"]


async def test_a_parcel_that_has_left_is_only_completed(slow: Shop):
    """The story goes on while the order is on hold; the stock leaves by the settlement, and the parcel arrives as ever."""
    order_id = (await slow.place("cheese", 2))["order_id"]
    await slow.until(order_id, "shipping-scheduled")
    await take_over(slow, order_id)
    await slow.later(3)
    order = await slow.look(order_id)
    assert (order["status"], order["fulfilment_status"], await slow.stock()) == ("on_hold", "shipped", (50, 2, 48))
    assert await refused(await settle(slow, order_id, "cancelled")) == "already_shipped"
    assert (await settle(slow, order_id, "completed")).status_code == 200
    assert (await slow.deliver(order_id)).status_code == 200
    await slow.settled()
    order = await slow.look(order_id)
    assert (order["status"], order["fulfilment_status"]) == ("completed", "delivered")
    assert await slow.stock() == SOLD
    assert (await slow.get("/api/rewards/ada"))["purchases"] == 1


async def test_a_parcel_that_leaves_in_that_moment_is_not_cancelled(slow: Shop):
    """The order had not heard yet that the parcel was leaving: the settlement is refused in its story, and it is completed instead."""
    consumers = Consumers(slow.app)
    order_id = (await slow.place("cheese", 2))["order_id"]
    await slow.until(order_id, "shipping-scheduled")
    await take_over(slow, order_id)
    await consumers.stop("orders.order")
    await slow.later(3)
    assert (await settle(slow, order_id, "cancelled")).status_code == 200
    await consumers.start("orders.order")
    await slow.settled()
    order = await slow.look(order_id)
    assert [order[name] for name in ("status", "settling", "fulfilment_status")] == ["on_hold", None, "shipped"]
    assert order["timeline"][-1]["text"] == "Settlement refused: already shipped."
    assert await slow.stock() == (50, 2, 48)
    assert await refused(await settle(slow, order_id, "cancelled")) == "already_shipped"
    assert (await settle(slow, order_id, "completed")).status_code == 200
    await slow.settled()
    assert ((await slow.look(order_id))["status"], await slow.stock()) == ("completed", SOLD)


async def test_a_settlement_under_way_is_seen_and_said_again(shop: Shop):
    """While inventory is away the order is on hold; the same asks again, the other outcome takes its place, and there is one end."""
    consumers = Consumers(shop.app)
    order_id = await shop.stuck()
    await take_over(shop, order_id)
    await consumers.stop("inventory.handlers")
    for outcome in ("cancelled", "cancelled", "completed", "completed"):
        answer = await settle(shop, order_id, outcome)
        assert (answer.status_code, answer.json()["status"], answer.json()["settling"]) == (200, "on_hold", outcome)
    await shown_as_settling(shop, order_id, "completed")
    assert "On hold: it is about to be completed." in (await shop.http.get(f"/orders/{order_id}")).text
    await consumers.start("inventory.handlers")
    await shop.settled()
    order = await shop.look(order_id)
    assert (order["status"], order["timeline"][-1]["text"]) == ("on_hold", "Settlement refused: nothing reserved.")
    assert await refused(await settle(shop, order_id, "completed")) == "nothing_reserved"
    assert (await settle(shop, order_id, "cancelled")).json()["status"] == "cancelled", "nobody has to be asked any more"
    await shop.settled()
    assert await shop.stock() == FULL
    assert [len(await shop.published("orders", name)) for name in ("order-cancelled", "order-completed")] == [1, 0]
    assert (await shop.get("/console/api/dead-letters"))["items"] == []


async def test_a_payment_that_goes_through_after_all_is_given_back(shop: Shop):
    """Taken over before the provider has answered: never confirmed, so only cancelled; a late yes is in the story, and refunded."""
    consumers = Consumers(shop.app)
    await consumers.stop("payments.provider")
    order_id = (await shop.place("cheese", 2))["order_id"]
    await shop.until(order_id, "stock-reserved")
    await take_over(shop, order_id)
    assert await refused(await settle(shop, order_id, "completed")) == "not_confirmed"
    assert (await settle(shop, order_id, "cancelled")).status_code == 200
    await shop.settled()
    assert (await shop.look(order_id))["status"] == "cancelled", "the end waits for no money"
    await consumers.start("payments.provider")
    await shop.settled()
    order = await shop.look(order_id)
    assert (order["status"], order["payment_status"]) == ("cancelled", "refunded")
    assert [entry["type"] for entry in order["timeline"]][-2:] == ["payment-succeeded", "payment-refunded"]
    assert await shop.stock() == FULL
    assert [payment["status"] for payment in await shop.get(f"/api/payments?order_id={order_id}")] == ["refunded"]


async def test_a_payment_that_was_not_asked_for_yet_never_is(shop: Shop):
    """Payments was away when the checkout was taken over and settled: it finds both, and asks no provider."""
    consumers = Consumers(shop.app)
    await consumers.stop("payments.handlers")
    order_id = (await shop.place("cheese", 2))["order_id"]
    await shop.until(order_id, "stock-reserved")
    await take_over(shop, order_id)
    await settle(shop, order_id, "cancelled")
    await shop.settled()
    await consumers.start("payments.handlers")
    await shop.settled()
    order = await shop.look(order_id)
    assert (order["status"], await shop.stock()) == ("cancelled", FULL)
    assert order["payment_status"] in ("voided", "refunded"), "told twice in a row, it may have asked before it heard"


async def test_what_is_not_paid_in_time_is_free_though_it_is_on_hold(shop: Shop):
    """Taken over before it was paid, an order keeps its reservation as long as any other; then it can only be cancelled."""
    consumers = Consumers(shop.app)
    await consumers.stop("payments.provider")
    order_id = (await shop.place("cheese", 2))["order_id"]
    await shop.until(order_id, "stock-reserved")
    await take_over(shop, order_id)
    await shop.later(900)
    assert await shop.stock() == FULL
    assert (await shop.look(order_id))["status"] == "on_hold"
    await settle(shop, order_id, "cancelled")
    await shop.settled()
    assert (await shop.look(order_id))["status"] == "cancelled"


async def test_stock_that_answers_late_is_never_reserved(shop: Shop):
    """Taken over and settled before inventory has heard of the order: the reservation that was asked for comes to nothing."""
    consumers = Consumers(shop.app)
    await consumers.stop("inventory.handlers")
    order_id = (await shop.place("cheese", 2))["order_id"]
    await shop.settled()
    await take_over(shop, order_id)
    await settle(shop, order_id, "cancelled")
    await consumers.start("inventory.handlers")
    await shop.settled()
    assert (await shop.look(order_id))["status"] == "cancelled"
    assert await shop.stock() == FULL


async def test_an_order_is_taken_over_while_its_content_may_still_change(shop: Shop):
    """Its review is over then, and nothing begins when its time is."""
    order_id = (await shop.place("cheese", 2, review_seconds=60))["order_id"]
    await shop.settled()
    await take_over(shop, order_id)
    await shop.later(120)
    assert facts_of(await shop.look(order_id)) == {"order-placed", "order-held", "delivery-late"}
    assert (await settle(shop, order_id, "cancelled")).status_code == 200
    await shop.settled()
    order = await shop.look(order_id)
    assert (order["status"], order["payment_status"]) == ("cancelled", "voided")
    assert await shop.stock() == FULL


async def test_stories_of_settled_orders_are_told_the_same_anew(tmp_path):
    """A rebuild of the status, which hears the topics in any order, waits for what never comes as little as the first time."""
    clock, data = ManualClock(), tmp_path / "data"
    async with running(data, clock) as shop:
        ids = [await shop.stuck()]
        await take_over(shop, ids[0])
        ids.append(await shop.stuck())
        await take_over(shop, ids[1])
        for order_id, outcome in zip(ids, ("cancelled", "completed"), strict=True):
            await settle(shop, order_id, outcome)
        await shop.settled()
        before = [await shop.look(order_id) for order_id in ids]
    config = configuration({"data": str(data), **settings_of(data)})
    await rebuild_view(assemble(config, clock=clock), "order-status", report=lambda _: None)
    async with running(data, clock) as shop:
        after = [await shop.look(order_id) for order_id in ids]
    for was, now in zip(before, after, strict=True):
        assert {**now, "timeline": []} == {**was, "timeline": []}
        assert sorted(entry["text"] for entry in now["timeline"]) == sorted(entry["text"] for entry in was["timeline"])


async def test_a_settlement_is_repeated_by_its_key(shop: Shop):
    """The first answer again for the same body, 422 for another."""
    order_id = await shop.stuck()
    await take_over(shop, order_id)
    key = {"Idempotency-Key": "once"}
    first, second = [await settle(shop, order_id, "cancelled", headers=key) for _ in range(2)]
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert (await settle(shop, order_id, "completed", headers=key)).status_code == 422
    await shop.settled()
    assert len(await shop.published("orders", "order-cancelled")) == 1


async def test_who_may_settle_and_what_can_be_settled(shop: Shop):
    """Unknown is 404, what is not on hold 409, a wrong field 422; off the loopback address the token is needed."""
    assert (await settle(shop, NOBODY, "cancelled")).json()["type"] == "/problems/unknown-order"
    assert (await settle(shop, "no-uuid", "cancelled")).status_code == 404
    order_id = await shop.completed()
    for outcome in ("cancelled", "completed"):
        assert await refused(await settle(shop, order_id, outcome)) == "not_on_hold"
    path = f"/console/api/orders/{order_id}/settle"
    for body, field in (({"reason": "x"}, "outcome"), ({"outcome": "cancelled"}, "reason"), ({"outcome": "x", "reason": "x"}, "outcome")):
        answer = await shop.http.post(path, json=body)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    for guard, status in ((Guard("t" * 20, loopback=True), 401), (Guard(loopback=False), 403)):
        asgi = web_application(shop.app, services=("orders",), guard=guard)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=asgi), base_url="http://shop") as http:
            assert (await http.post(path, json={"outcome": "cancelled", "reason": "x"})).status_code == status


async def test_names_and_reasons_are_lines_of_text(shop: Shop):
    """They are published, so neither holds line breaks nor other control characters, here and where sagas are changed."""
    path = f"/console/api/orders/{NOBODY}/settle"
    for by in ("A\nda", "Ada\n", "A\x00da", "A\x1bda"):
        answer = await shop.http.post(path, json={"outcome": "cancelled", "reason": "x", "by": by})
        assert (answer.status_code, answer.json()["field"]) == (422, "by")
        for verb in ("skip", "take-over"):
            answer = await shop.http.post(f"/console/api/sagas/{NOBODY}/{verb}", json={"reason": "x", "by": by})
            assert (answer.status_code, answer.json()["field"]) == (422, "by"), verb
        assert (await shop.http.post(f"/console/api/sagas/{NOBODY}/retry", json={"by": by})).json()["field"] == "by"
    for reason in ("x\n", "x\ny", " "):
        assert (await shop.http.post(path, json={"outcome": "cancelled", "reason": reason})).json()["field"] == "reason"


async def test_the_pages_show_a_hold_and_its_end(shop: Shop):
    """The order's page and the list: the word, the reason, no button that would not work; settled, nobody watches it any more."""
    order_id = await shop.stuck()
    await take_over(shop, order_id)
    page = (await shop.http.get(f"/orders/{order_id}")).text
    assert 'data-fact="order-held"' in page
    assert "On hold: somebody is looking after it." in page
    assert f"Reason given: “{WHY}”" in page
    assert f'action="/orders/{order_id}/cancel"' not in page
    assert "data-ended" not in page
    listed = (await shop.http.get("/orders?status=on_hold")).text
    assert f'data-order="{order_id}"' in listed
    assert f'action="/orders/{order_id}/cancel"' not in listed
    await settle(shop, order_id, "cancelled")
    await shop.settled()
    page = (await shop.http.get(f"/orders/{order_id}")).text
    assert "data-ended" in page
    assert "Refund the payment" not in page


@pytest.mark.parametrize("style", [CHOREOGRAPHY])
async def test_choreographed_nothing_is_taken_over(shop: Shop):
    """So nothing is ever on hold, and there is no route that settles."""
    order_id = await shop.completed()
    assert (await settle(shop, order_id, "cancelled")).json()["type"] == "/problems/unknown-path"
    assert (await shop.get("/api/orders?status=on_hold"))["items"] == []
