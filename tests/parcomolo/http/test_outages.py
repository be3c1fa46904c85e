"""The operator's first story: what the shop calls is down, orders wait, the breaker is open, and everything goes on when it is back."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.parcomolo.http.shop import Shop

FAULTS = "/console/api/faults"


@pytest.mark.parametrize(
    "dependency, group, breaker",
    [("provider", "payments.provider", "payment-provider"), ("carrier", "shipping.carrier", "carrier")],
)
async def test_orders_wait_while_a_dependency_is_down(shop: Shop, dependency, group, breaker):
    """While provider or carrier is down no order fails; the breaker says since when and why; an hour later all are completed."""
    assert (await shop.http.post(f"{FAULTS}/{dependency}", json={"down": True})).json() == {"dependency": dependency, "down": True}
    orders = [(await shop.place())["order_id"] for _ in range(8)]
    await shop.settled()
    for _ in range(6):
        await shop.later(10)
    await says_that_it_waits(shop, dependency, group, breaker)
    assert {(await shop.look(order))["status"] for order in orders} <= {"pending", "confirmed"}

    await shop.http.post(f"{FAULTS}/{dependency}", json={"down": False})
    for _ in range(3):
        await shop.later(16)
    assert {(await shop.look(order))["status"] for order in orders} == {"completed"}
    assert (await shop.get("/health"))["status"] == "ok"


async def says_that_it_waits(shop: Shop, dependency, group, breaker):
    """Consumers, health and metrics say of a processor that its breaker is open, since when and why."""
    rows = [row for row in await shop.get("/console/api/consumers") if row["group"] == group]
    assert {(row["state"], row["breaker"], row["dead"]) for row in rows} == {("breaker open", breaker, 0)}
    health = await shop.get("/health")
    (entry,) = [entry for entry in health["entries"] if entry["name"] == group]
    assert (health["status"], entry["state"]) == ("ok", "breaker open")
    assert f"ConnectionError: the simulated {dependency} is down" in entry["last_error"]
    since, probe_at = (datetime.fromisoformat(entry[name]) for name in ("since", "probe_at"))
    assert probe_at > since
    assert [entry[name][-1] for name in ("since", "probe_at")] == ["Z", "Z"], "RFC 3339 in UTC, as everywhere"
    service = group.partition(".")[0]
    assert f'millrace_breaker_open{{service="{service}",breaker="{breaker}"}} 1' in (await shop.http.get("/metrics")).text


async def test_an_operator_does_not_wait_for_the_next_probe(shop: Shop):
    """Whoever knows that the provider is back closes the breaker; the order is paid at once."""
    await shop.http.post(f"{FAULTS}/provider", json={"down": True})
    orders = [(await shop.place())["order_id"] for _ in range(8)]
    await shop.settled()
    await shop.later(2)
    await shop.http.post(f"{FAULTS}/provider", json={"down": False})
    closed = (await shop.http.post("/console/api/consumers/payments.provider/close-breaker")).json()
    assert (closed["breaker"], closed["reason"][:12]) == ("payment-provider", "the last pro")
    await shop.later(1)
    assert {(await shop.look(order))["status"] for order in orders} == {"completed"}


async def test_faults_are_switched_by_name(shop: Shop):
    """What can be down is listed; another name is 404, another value 422."""
    assert await shop.get(FAULTS) == [{"dependency": "provider", "down": False}, {"dependency": "carrier", "down": False}]
    assert (await shop.http.post(f"{FAULTS}/weather", json={"down": True})).status_code == 404
    assert (await shop.http.post(f"{FAULTS}/carrier", json={"down": "yes"})).status_code == 422
