"""PLATFORM sections 5 and 7: sagas are listed and looked at, and an operator gets one out that is stuck."""

from __future__ import annotations

import httpx
import pytest

from parcomolo.configuration import CHOREOGRAPHY
from parcomolo.web.assembly import web_application
from parcomolo.web.guard import Guard
from tests.parcomolo.http.shop import Shop, facts_of

CONSOLE = "/console/api/sagas"
NOBODY = "01a1fef5-6e1c-7222-9a40-255a7797ff4e"
WAYS_OUT = {"retry": {}, "skip": {"reason": "x"}, "take-over": {"reason": "x"}}


async def test_a_saga_tells_where_it_stands(shop: Shop):
    """Done, current and remaining steps, attempts and deadlines; what happened, oldest first; no personal data."""
    order = await shop.place("cheese", 2, token="tok_insufficient_funds")
    await shop.settled()
    saga = await shop.get(f"/api/sagas/{order['order_id']}")
    assert (saga["status"], saga["reason"]) == ("running", None)
    assert saga["done"] == ["review", "reserve-stock"]
    assert saga["current"] == ["process-payment"]
    assert saga["remaining"] == ["confirm-order", "schedule-shipping", "item-shipped", "commit-stock", "complete-order"]
    [paying] = [step for step in saga["steps"] if step["name"] == "process-payment"]
    assert (paying["attempts"], paying["stuck"]) == (1, False)
    assert saga["started_at"] < paying["deadline"] == saga["deadline"]
    assert [line["what"] for line in saga["timeline"][:3]] == ["started", "passed", "sent"]
    assert saga["case"]["token"] == "***"
    for seconds in (1, 2):
        await shop.later(seconds)
    assert (await shop.get(f"/api/sagas/{order['order_id']}"))["status"] == "completed"


async def test_sagas_are_listed_by_status_and_page(shop: Shop):
    """Each page names the next; a status that is none, and a cursor of another list, are 422."""
    completed = {await shop.completed() for _ in range(3)}
    declined = (await shop.place(token="tok_declined"))["order_id"]
    await shop.settled()
    first = await shop.get("/api/sagas?status=completed&limit=2")
    rest = await shop.get(f"/api/sagas?status=completed&limit=2&cursor={first['next']}")
    assert {item["id"] for item in (*first["items"], *rest["items"])} == completed
    assert rest["next"] is None
    assert [item["id"] for item in (await shop.get("/api/sagas?status=undone"))["items"]] == [declined]
    assert len((await shop.get("/api/sagas"))["items"]) == 4
    for query, field in (("status=lost", "status"), ("limit=0", "limit"), ("cursor=x", "cursor")):
        answer = await shop.http.get(f"/api/sagas?{query}")
        assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_a_stuck_saga_is_an_alarm(shop: Shop):
    """Health names it and since when, and stays 200, as readiness does; the figures count it."""
    order_id = await shop.stuck()
    await shop.app.hosts["checkout"].sagas.count(shop.app.hosts["checkout"].store.reader.states)
    health = await shop.get("/health")
    [entry] = [entry for entry in health["entries"] if entry["kind"] == "saga"]
    assert (health["status"], entry["name"], entry["state"]) == ("ok", "checkout saga checkout", "alarm")
    assert (entry["stuck"], entry["ids"], entry["since"][-1]) == (1, [order_id], "Z")
    assert (await shop.http.get("/ready")).status_code == 200
    metrics = (await shop.http.get("/metrics")).text
    assert 'millrace_sagas{service="checkout",saga="checkout",status="stuck"} 1' in metrics
    assert 'millrace_sagas{service="checkout",saga="checkout",status="running"} 0' in metrics


async def test_a_stuck_saga_is_retried_and_taken_over(shop: Shop):
    """Retried, it fails again; taken over, nothing more is sent, and the order is on hold for a person to settle."""
    order_id = await shop.stuck()
    again = await shop.http.post(f"{CONSOLE}/{order_id}/retry")
    assert (again.status_code, again.json()["status"]) == (200, "compensating")
    assert ("retried", "") in [(line["what"], line["id"]) for line in again.json()["timeline"]]
    while not (await shop.get("/api/sagas?status=stuck"))["items"]:
        await shop.later(16)
    taken = await shop.http.post(f"{CONSOLE}/{order_id}/take-over", json={"reason": "settled on the phone", "by": "Ada"})
    assert (taken.status_code, taken.json()["status"]) == (200, "taken_over")
    assert taken.json()["timeline"][-1] | {"at": ""} == {
        "at": "",
        "what": "taken over",
        "step": "",
        "name": "settled on the phone",
        "id": "Ada",
    }
    await shop.settled()
    held = await shop.look(order_id)
    assert (held["status"], held["reason"]) == ("on_hold", "settled on the phone")
    assert (await shop.http.post(f"{CONSOLE}/{order_id}/retry")).status_code == 409


async def test_a_skipped_refund_ends_a_cancellation_without_naming_it(shop: Shop):
    """C20: the order stays `cancelling` while its saga is stuck; what was not undone is not among the compensations."""
    order = await shop.place("cheese", 2, token="tok_refund_fails", review_seconds=60)
    await shop.later(60)
    assert (await shop.look(order["order_id"]))["status"] == "completed"
    assert (await shop.cancel(order["order_id"])).status_code == 409
    order_id = await shop.stuck()
    assert "refund-failed" in facts_of(await shop.look(order_id))
    assert (await shop.http.post(f"{CONSOLE}/{order_id}/skip", json={"reason": "paid back"})).status_code == 200
    await shop.settled()
    assert (await shop.look(order_id))["status"] == "rejected"
    rejected = [event for event in await shop.published("orders", "order-rejected") if event["partitionkey"] == order_id]
    assert [event["data"]["compensations"] for event in rejected] == [["stock_released"]]


@pytest.mark.parametrize("verb, body", WAYS_OUT.items())
async def test_who_may_help_and_what_can_be_helped(shop: Shop, verb: str, body: dict[str, str]):
    """Unknown is 404, what is not stuck 409, a missing reason 422; off the loopback address the token is needed."""
    assert (await shop.http.post(f"{CONSOLE}/{NOBODY}/{verb}", json=body)).json()["type"] == "/problems/unknown-saga"
    order_id = await shop.completed()
    answer = await shop.http.post(f"{CONSOLE}/{order_id}/{verb}", json=body)
    assert (answer.status_code, answer.json()["reason"]) == (409, "saga_state")
    if body:
        answer = await shop.http.post(f"{CONSOLE}/{order_id}/{verb}", json={})
        assert (answer.status_code, answer.json()["field"]) == (422, "reason")
    for guard, status in ((Guard("t" * 20, loopback=True), 401), (Guard(loopback=False), 403)):
        asgi = web_application(shop.app, services=("checkout",), guard=guard)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=asgi), base_url="http://shop") as http:
            assert (await http.post(f"{CONSOLE}/{order_id}/{verb}", json=body)).status_code == status
            assert (await http.get(f"/api/sagas/{order_id}")).status_code == 200


@pytest.mark.parametrize("style", [CHOREOGRAPHY])
async def test_choreographed_there_are_no_sagas(shop: Shop):
    """The list is empty, no id is known, and nobody is helped."""
    order_id = await shop.completed()
    assert await shop.get("/api/sagas") == {"items": [], "next": None}
    assert (await shop.http.get(f"/api/sagas/{order_id}")).json()["type"] == "/problems/unknown-saga"
    assert (await shop.http.post(f"{CONSOLE}/{order_id}/retry")).json()["type"] == "/problems/unknown-path"
