"""PLATFORM section 3: a repeat gets the first answer again, byte for byte; another request with the same key is refused."""

from __future__ import annotations

import asyncio

from tests.parcomolo.http.shop import Shop, request

KEY = {"Idempotency-Key": "k1"}
ORDER_ID = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"


async def test_the_same_key_and_body_give_the_first_answer_again(shop: Shop):
    """Spelling and order of the JSON do not matter; only one order exists."""
    first = await shop.http.post("/api/orders", json=request(("cheese", 1)), headers=KEY)
    await shop.settled()
    spelled = '{"payment": {"token":"tok_ok"}, "customer_id":"ada",\n"lines":[{"quantity":1, "sku":"cheese"}]}'
    again = await shop.http.post("/api/orders", content=spelled, headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    for name in ("Location", "Millrace-Position"):
        assert again.headers[name] == first.headers[name]
    assert len((await shop.get("/api/orders"))["items"]) == 1


async def test_the_same_key_with_another_body_is_422(shop: Shop):
    """And nothing happens."""
    await shop.http.post("/api/orders", json=request(("cheese", 1)), headers=KEY)
    other = await shop.http.post("/api/orders", json=request(("cheese", 2)), headers=KEY)
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-conflict")


async def test_the_same_order_id_repeats_likewise(shop: Shop):
    """With or without a key."""
    body = request(("cheese", 1), order_id=ORDER_ID)
    first = await shop.http.post("/api/orders", json=body)
    again = await shop.http.post("/api/orders", json={**body, "order_id": ORDER_ID.upper()}, headers=KEY)
    assert (again.status_code, again.content) == (201, first.content)
    other = await shop.http.post("/api/orders", json=request(("cheese", 2), order_id=ORDER_ID))
    assert other.status_code == 422


async def test_a_repeat_while_the_first_runs_waits_for_it(shop: Shop):
    """Twenty at once: one order, one answer."""
    body = request(("cheese", 1))
    answers = await asyncio.gather(*(shop.http.post("/api/orders", json=body, headers=KEY) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    await shop.settled()
    assert len((await shop.get("/api/orders"))["items"]) == 1


async def test_a_refusal_is_not_stored(shop: Shop):
    """The same key works once the reason is gone."""
    order = await shop.place(token="tok_insufficient_funds")
    path = f"/api/orders/{order['order_id']}/deliver"
    assert (await shop.http.post(path, headers=KEY)).status_code == 409
    for seconds in (1, 2):
        await shop.settled()
        await shop.later(seconds)
    first = await shop.http.post(path, headers=KEY)
    again = await shop.http.post(path, headers=KEY)
    assert (first.status_code, again.status_code, again.content) == (200, 200, first.content)
    assert (await shop.http.post(path)).status_code == 409


async def test_keys_are_per_route(shop: Shop):
    """The same key on another route is another request."""
    order = await shop.http.post("/api/orders", json=request(("cheese", 1), review_seconds=60), headers=KEY)
    path = f"/api/orders/{order.json()['order_id']}"
    line = {"sku": "fries", "quantity": 1}
    assert (await shop.http.post(f"{path}/lines", json=line, headers=KEY)).status_code == 200
    again = await shop.http.post(f"{path}/lines", json=line, headers=KEY)
    assert sum(each["quantity"] for each in again.json()["lines"]) == 2
    assert (await shop.http.delete(f"{path}/lines/fries", headers=KEY)).status_code == 200
    assert (await shop.http.delete(f"{path}/lines/fries", headers=KEY)).status_code == 200
    assert (await shop.http.post(f"{path}/cancel", json={"reason": "x"}, headers=KEY)).status_code == 200
    adjust = {"delta": 1, "reason": "x"}
    for _ in range(2):
        assert (await shop.http.post("/api/stock/cola/adjust", json=adjust, headers=KEY)).json()["on_hand"] == 301


async def test_the_same_key_for_another_order_is_422(shop: Shop):
    """A key belongs to one request, path included."""
    one, two = await shop.completed(), await shop.completed()
    assert (await shop.http.post(f"/api/orders/{one}/deliver", headers=KEY)).status_code == 200
    assert (await shop.http.post(f"/api/orders/{two}/deliver", headers=KEY)).status_code == 422


async def test_a_wrong_key_is_422(shop: Shop):
    """Empty, or too long to be one."""
    for key in ("", "x" * 201):
        answer = await shop.http.post("/api/orders", json=request(("cheese", 1)), headers={"Idempotency-Key": key})
        assert (answer.status_code, answer.json()["field"]) == (422, "Idempotency-Key")
