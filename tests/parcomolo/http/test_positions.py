"""PLATFORM section 3: reading one's own writes with `Millrace-Position`."""

from __future__ import annotations

import pytest

from tests.parcomolo.http.shop import Shop, facts_of

HEADER = "Millrace-Position"


async def test_a_get_with_the_position_sees_the_command(shop: Shop):
    """Every 2xx of a command carries one; the list, the order and its page wait for it."""
    answer = await shop.order([("cheese", 1)], review_seconds=60)
    order_id = answer.json()["order_id"]
    page = await shop.get("/api/orders", headers={HEADER: answer.headers[HEADER]})
    assert [order["order_id"] for order in page["items"]] == [order_id]
    cancelled = await shop.cancel(order_id)
    headers = {HEADER: cancelled.headers[HEADER]}
    seen = await shop.get(f"/api/orders/{order_id}", headers=headers)
    assert "order-cancellation-requested" in facts_of(seen)
    for path in (f"/orders/{order_id}", f"/orders/{order_id}/fragment", "/orders"):
        assert "Cancel" in (await shop.http.get(path, headers=headers)).text


async def test_other_services_wait_too(shop: Shop):
    """The stock shows the reservation of the order whose position is asked for."""
    answer = await shop.order([("cheese", 7)], token="tok_insufficient_funds")
    headers = {HEADER: answer.headers[HEADER]}
    row = await shop.get("/api/stock/cheese", headers=headers)
    assert row["reserved"] == 7
    assert (await shop.get("/api/reports/orders", headers=headers))["total"] == 1


async def test_who_reads_nothing_has_nothing_to_wait_for(shop: Shop, monkeypatch):
    """The catalogue follows no topic, so a position of whichever service is answered at once."""
    monkeypatch.setattr("parcomolo.web.positions.PATIENCE_S", 0.05)
    ordered = await shop.order([("cheese", 1)])
    adjusted = await shop.http.post("/api/stock/cheese/adjust", json={"delta": 5, "reason": "counted again"})
    for answer in (ordered, adjusted):
        assert await shop.get("/api/products", headers={HEADER: answer.headers[HEADER]})


PATHS = (
    "/api/orders",
    "/api/orders/01a1fef5-6e1c-7222-9a40-255a7797ff4e",
    "/api/stock",
    "/api/stock/cheese",
    "/api/payments",
    "/api/shipments",
    "/api/rewards/ada",
    "/api/operations/alerts",
    "/api/reports/orders",
    "/api/reports/products",
    "/api/products",
)


@pytest.mark.parametrize(
    "text, status, kind",
    [
        ("nonsense", 400, "malformed-position"),
        ("", 400, "malformed-position"),
        ("/elsewhere/orders@1;orders/0=1", 409, "unknown-position"),
        ("/parcomolo/orders@9;orders/0=1", 409, "unknown-position"),
        ("/parcomolo/orders@1;orders/77=1", 409, "unknown-position"),
        ("/parcomolo/orders@1;orders/0=1,zzz/0=1", 409, "unknown-position"),
    ],
)
async def test_malformed_is_400_and_unknown_is_409(shop: Shop, text, status, kind):
    """On every route that takes one."""
    for path in PATHS:
        answer = await shop.http.get(path, headers={HEADER: text})
        assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{kind}"), path


async def test_what_is_not_reached_in_5_seconds_is_503_with_retry_after(shop: Shop, monkeypatch):
    """The wait is bounded; here it is cut short."""
    monkeypatch.setattr("parcomolo.web.positions.PATIENCE_S", 0.05)
    answer = await shop.http.get("/api/orders", headers={HEADER: "/parcomolo/orders@1;orders/0=999999"})
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/position-not-reached")
    assert int(answer.headers["Retry-After"]) >= 1
