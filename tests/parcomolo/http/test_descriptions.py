"""PLATFORM section 7: what machines ask, and the descriptions that people and tools write against."""

from __future__ import annotations

import pytest

from millrace import ManualClock
from parcomolo.web.openapi import PROBLEM
from tests.parcomolo.http.shop import Shop, running


async def test_every_route_is_described_with_its_answers(shop: Shop):
    """No route of the contract is missing, and each names the problems that can come."""
    document = await shop.get("/openapi.json")
    assert set(document["paths"]) >= {
        "/api/orders",
        "/api/orders/{order_id}",
        "/api/orders/{order_id}/events",
        "/api/orders/{order_id}/lines",
        "/api/orders/{order_id}/lines/{sku}",
        "/api/orders/{order_id}/cancel",
        "/api/orders/{order_id}/deliver",
        "/api/cancelOrder",
        "/api/stock",
        "/api/stock/{sku}",
        "/api/stock/{sku}/adjust",
        "/api/payments",
        "/api/shipments",
        "/api/rewards/{customer_id}",
        "/api/operations/alerts",
        "/api/reports/products",
        "/api/reports/orders",
        "/console/api/orders/{order_id}/settle",
        "/events",
        "/health",
        "/ready",
        "/metrics",
    }
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                assert status.startswith("2") or status == "503" or PROBLEM in answer["content"]


async def test_operation_ids_are_unique(shop: Shop):
    """Generated clients name their functions by them."""
    document = await shop.get("/openapi.json")
    ids = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids))


async def test_the_topics_are_described(shop: Shop):
    """Every public topic with its messages; nothing internal."""
    document = await shop.get("/asyncapi.json")
    assert set(document["channels"]) >= {"orders", "orders.commands", "inventory", "payments", "shipping", "rewards"}
    assert not any(name.startswith("internal") for name in document["channels"])
    assert document["channels"]["orders"]["messages"].keys() >= {"parcomolo.orders.order-placed.v1", "parcomolo.orders.order-held.v1"}
    assert "parcomolo.orders.hold-order.v1" in document["channels"]["orders.commands"]["messages"]
    assert "settle-order" not in str(document)
    assert "internal" not in str(document["components"]["messages"].keys())


async def test_health_has_an_entry_per_dependency_and_processor(shop: Shop):
    """State, lag and last error of each; 200 while all are well."""
    health = await shop.get("/health")
    assert health["status"] == "ok"
    names = {entry["name"] for entry in health["entries"]}
    assert {"orders store", "orders relay", "orders.handlers", "payments.provider", "inventory.handlers"} <= names
    assert all({"state", "lag", "last_error"} <= set(entry) for entry in health["entries"])


async def test_ready_and_metrics(shop: Shop):
    """Ready means that partitions are held; the figures are Prometheus text."""
    assert (await shop.http.get("/ready")).status_code == 200
    metrics = await shop.http.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'millrace_commits_total{service="orders"}' in metrics.text


async def test_not_ready_and_not_well_are_503(shop: Shop, monkeypatch):
    """For who balances load or restarts."""
    monkeypatch.setattr(shop.app, "ready", lambda: False)
    answer = await shop.http.get("/ready")
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/not-ready")
    monkeypatch.setattr(next(iter(shop.app.hosts.values())).writer, "last_error", "the disk is full")
    answer = await shop.http.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "failing")
    assert "the disk is full" in answer.text


@pytest.mark.parametrize(
    "services, there, absent",
    [
        ("orders", ["/api/orders", "/", "/orders", "/ready"], ["/api/stock", "/api/payments", "/api/products"]),
        ("checkout", ["/api/sagas", "/health"], ["/api/orders", "/", "/api/stock"]),
        ("inventory,payments", ["/api/stock", "/api/payments", "/health"], ["/api/orders", "/", "/api/shipments"]),
    ],
)
async def test_a_process_serves_the_routes_of_its_services(tmp_path, services, there, absent):
    """And describes those only."""
    async with running(tmp_path / "data", ManualClock(), services=services) as shop:
        for path in there:
            assert (await shop.http.get(path)).status_code == 200, path
        for path in absent:
            assert (await shop.http.get(path)).status_code == 404, path
        paths = (await shop.get("/openapi.json"))["paths"]
        assert not set(absent) & set(paths)
        assert (await shop.http.get("/docs")).status_code == 200
