"""A clock that can be moved: what takes minutes in the shop is seen at once, over HTTP, and nothing else moves with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from millrace import VirtualClock
from parcomolo.bootstrap import assemble
from parcomolo.configuration import configuration
from parcomolo.web.assembly import web_application
from parcomolo.web.guard import Guard
from tests.parcomolo.http.server import parcomolo, serving
from tests.parcomolo.http.shop import Shop, request, running
from tests.shop_places import settings_of

PATH = "/console/api/clock"


@pytest.fixture
async def moving(tmp_path) -> AsyncIterator[Shop]:
    """A shop whose clock can be moved over HTTP."""
    async with running(tmp_path / "data", VirtualClock()) as found:
        yield found


async def move(shop: Shop, **body: object) -> httpx.Response:
    """Ask to move the clock."""
    return await shop.http.post(PATH, json=body)


async def test_a_reservation_expires_after_a_quarter_of_an_hour(moving: Shop):
    """While payments rests, stock is held for 15 minutes of the shop's time; not a minute less, and nobody waits for them."""
    before = await moving.stock()
    assert (await moving.http.post("/console/api/consumers/payments.handlers/pause")).status_code == 200
    order = await moving.place()
    await moving.until(order["order_id"], "stock-reserved")
    assert (await move(moving, advance_seconds=14 * 60)).status_code == 200
    await moving.settled()
    assert (await moving.stock())[1] == before[1] + 1
    assert (await move(moving, advance_seconds=60)).status_code == 200
    await moving.until(order["order_id"], "reservation-expired")
    assert await moving.stock() == before
    assert (await moving.http.post("/console/api/consumers/payments.handlers/resume")).status_code == 200
    await moving.settled()
    assert (await moving.look(order["order_id"]))["status"] == "expired"


async def test_a_delivery_that_is_late_is_told_at_once(moving: Shop):
    """Thirty seconds and the grace of the deadline in event time, in which the idle input follows the clock."""
    order_id = await moving.completed()
    assert (await move(moving, advance_seconds=31)).status_code == 200
    await moving.settled()
    assert [alert["order_id"] for alert in await moving.get("/api/operations/alerts")] == [order_id]


async def test_the_clock_is_told_moves_and_never_goes_back(moving: Shop):
    """Wrong wishes are named by their field, and move nothing."""
    told = await moving.get(PATH)
    assert (told["clock"], told["ahead_seconds"]) == ("virtual", 0.0)
    moment = datetime.now(UTC) + timedelta(hours=1)
    moved = (await move(moving, to=moment.isoformat())).json()
    assert moment <= datetime.fromisoformat(moved["now"]) < moment + timedelta(seconds=30)
    for field, body in {
        "to": {"to": told["now"]},
        "advance_seconds": {"advance_seconds": -1},
        "body": {},
        "later": {"later": 1},
    }.items():
        refused = await move(moving, **body)
        assert (refused.status_code, refused.json()["field"]) == (422, field), refused.text
    assert (await move(moving, advance_seconds=1, to=moment.isoformat())).status_code == 422
    assert (await move(moving, to="2099-01-01T00:00:00")).status_code == 422, "a moment without an offset is none"
    assert (await move(moving, to="9500-01-01T00:00:00Z")).status_code == 422
    assert (await moving.get(PATH))["ahead_seconds"] == moved["ahead_seconds"]


async def test_who_may_not_change_the_shop_cannot_move_its_clock(moving: Shop):
    """Guarded like every route of operators; everybody may ask for the time."""
    asgi = web_application(moving.app, services=("orders",), guard=Guard("correct-horse-battery", loopback=False))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=asgi), base_url="http://shop") as http:
        assert (await http.get(PATH)).status_code == 200
        assert (await http.post(PATH, json={"advance_seconds": 1})).status_code == 401
        authorized = {"Authorization": "Bearer correct-horse-battery"}
        assert (await http.post(PATH, json={"advance_seconds": 1}, headers=authorized)).status_code == 200


async def test_the_clock_of_the_machine_cannot_be_moved(shop: Shop):
    """409 with a word to match on."""
    assert (await shop.get(PATH))["clock"] == "system"
    refused = await move(shop, advance_seconds=1)
    assert (refused.status_code, refused.json()["reason"]) == (409, "clock_not_virtual")


def test_the_choice_and_the_time_are_kept(tmp_path):
    """Two processes on one folder show one time; without the option it is as it was at the first start, with another one it is refused."""
    data = str(tmp_path / "data")
    with serving(tmp_path / "data", "--clock", "virtual", "--services", "orders,catalogue") as one:
        with serving(tmp_path / "data", "--services", "inventory") as two:
            moved = httpx.post(f"{two.url}{PATH}", json={"advance_seconds": 86_400}).json()
            assert moved["clock"] == "virtual"
            order = httpx.post(f"{one.url}/api/orders", json=request(("cheese", 1)))
            assert datetime.fromisoformat(order.json()["placed_at"]) > datetime.now(UTC) + timedelta(hours=23)
        one.stop()
    refused = parcomolo("serve", "--port", "0", "--data", data, "--clock", "system")
    assert refused.returncode == 2
    assert "--clock (PARCOMOLO_CLOCK) is 'system'; allowed: virtual" in refused.stderr
    app = assemble(configuration({"data": data, **settings_of(tmp_path / "data")}))
    assert isinstance(app.clock, VirtualClock)


def test_a_shop_that_began_without_keeps_its_clock(tmp_path):
    """And says which setting is wrong."""
    with serving(tmp_path / "data") as server:
        server.stop()
    refused = parcomolo("serve", "--port", "0", "--data", str(tmp_path / "data"), "--clock", "virtual")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "--clock (PARCOMOLO_CLOCK) is 'virtual'; allowed: system" in refused.stderr


async def test_pages_tell_the_time_of_the_shop(moving: Shop):
    """An order of an hour ago is one, though the reader's clock has not moved."""
    await moving.completed()
    await move(moving, advance_seconds=3600)
    html = (await moving.http.get("/orders", headers={"accept": "text/html"})).text
    assert "1 h ago" in html
    assert 'data-ahead-ms="3600000"' in html
