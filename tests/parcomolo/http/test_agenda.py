"""What waits for its time, over HTTP: pages of timers, cancelling one, schedules."""

from __future__ import annotations

from urllib.parse import quote

from tests.parcomolo.http.shop import Shop

TIMERS = "/console/api/timers"


async def test_timers_are_listed_by_due_time_and_cancelled(shop: Shop):
    """The reservation of an order that is not paid yet can be found by its key and made to last; the figure is in the metrics."""
    orders = [await shop.place(token="tok_insufficient_funds") for _ in range(3)]
    await shop.settled()
    waiting = await shop.get(f"{TIMERS}?service=inventory")
    assert [row["due"] for row in waiting] == sorted(row["due"] for row in waiting)
    assert {row["key"] for row in waiting} == {order["order_id"] for order in orders}
    first, *others = await shop.get(f"{TIMERS}?service=inventory&limit=1")
    assert (first, others) == (waiting[0], [])
    assert await shop.get(f"{TIMERS}?service=inventory&after={quote(first['id'])}") == waiting[1:]
    assert len({row["service"] for row in await shop.get(f"{TIMERS}?key={first['key']}")}) > 1
    for answer, status in (("cancelled", 200), ("There is no such timer.", 404)):
        done = await shop.http.post(f"{TIMERS}/cancel", json={"id": first["id"]})
        assert (done.status_code, answer in done.text) == (status, True)
    assert await shop.get(f"{TIMERS}?service=inventory") == waiting[1:]
    assert (await shop.http.get(f"{TIMERS}?after=nothing")).json()["field"] == "after"
    assert 'millrace_timers_waiting{service="inventory"}' in (await shop.http.get("/metrics")).text


async def test_schedules_are_listed_and_unknown_ones_are_404(shop: Shop):
    """The shop declares none yet."""
    assert await shop.get("/console/api/schedules") == []
    assert (await shop.http.post("/console/api/schedules/orders/nothing/pause")).status_code == 404
    assert (await shop.http.post("/console/api/schedules/nobody/nothing/resume")).status_code == 404
