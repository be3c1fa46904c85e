"""The shop as its HTTP tests see it: a client, a clock that is moved by hand, and waiting without sleeping.

Neighbours: `conftest` makes one per test on a folder of its own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from millrace import Application, ManualClock, VirtualClock
from millrace.testing import advance, eventually, settled
from parcomolo.bootstrap import assemble
from parcomolo.configuration import STYLES, configuration, in_style
from parcomolo.outages import Outages
from parcomolo.web.application import WebApplication
from parcomolo.web.assembly import web_application
from parcomolo.web.events import Streams
from tests.shop_places import settings_of

JSON = "application/json"
PROBLEM = "application/problem+json"
in_both_styles = pytest.mark.parametrize("style", STYLES)
"""Of a module or a test: whoever asks for a shop gets one of each style."""


@dataclass
class Shop:
    """A running shop."""

    app: Application
    asgi: WebApplication
    http: httpx.AsyncClient
    clock: ManualClock | VirtualClock
    streams: Streams = field(default_factory=Streams)

    async def place(self, sku: str = "cheese", quantity: int = 1, *, token: str = "tok_ok", **more: Any) -> dict[str, Any]:
        """Place an order of one product and return it."""
        return (await self.order([(sku, quantity)], token=token, **more)).json()

    async def order(self, lines: list[tuple[str, int]], *, token: str = "tok_ok", **more: Any) -> httpx.Response:
        """Place an order and return the answer, which must be 201."""
        answer = await self.http.post("/api/orders", json=request(*lines, token=token, **more))
        assert answer.status_code == 201, answer.text
        return answer

    async def get(self, path: str, **more: Any) -> Any:
        """Return the body of an answer that must be 200."""
        answer = await self.http.get(path, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def look(self, order_id: str) -> dict[str, Any]:
        """Return an order as its status tells it."""
        return await self.get(f"/api/orders/{order_id}")

    async def cancel(self, order_id: str, reason: str = "changed my mind") -> httpx.Response:
        """Ask to cancel."""
        return await self.http.post(f"/api/orders/{order_id}/cancel", json={"reason": reason})

    async def deliver(self, order_id: str) -> httpx.Response:
        """Say that the parcel has arrived."""
        return await self.http.post(f"/api/orders/{order_id}/deliver")

    async def stock(self, sku: str = "cheese") -> tuple[int, int, int]:
        """Return what is on hand, reserved and available."""
        row = await self.get(f"/api/stock/{sku}")
        return row["on_hand"], row["reserved"], row["available"]

    async def settled(self) -> None:
        """Wait until nothing is left to do before the clock moves."""
        await settled(self.app, timeout=20)

    async def later(self, seconds: float) -> None:
        """Let time pass, and everything happen that was due by then."""
        await advance(self.app, self.clock, timedelta(seconds=seconds), timeout=20)

    async def until(self, order_id: str, *facts: str) -> dict[str, Any]:
        """Wait until facts are in an order's timeline, and return the order."""

        async def told() -> bool:
            return set(facts) <= facts_of(await self.look(order_id))

        await eventually(self.app, told, timeout=20)
        return await self.look(order_id)

    async def completed(self, sku: str = "cheese", quantity: int = 1, **more: Any) -> str:
        """Return the id of an order that went all the way to `completed`."""
        order = await self.place(sku, quantity, **more)
        await self.settled()
        assert (await self.look(order["order_id"]))["status"] == "completed"
        return order["order_id"]

    async def stuck(self) -> str:
        """Return the id of an order whose refund keeps failing until nobody tries any more."""
        order = await self.place("cheese", 2, token="tok_refund_fails", ship_to={"name": "FAIL_SHIPPING"})
        await self.settled()
        while not (await self.get("/api/sagas?status=stuck"))["items"]:
            await self.later(16)
        return order["order_id"]

    async def say_again(self, topic: str, order_id: str) -> None:
        """Say everything that a topic has about an order once more, the last thing first, as somebody else."""
        for partition in range(self.app.partitions_of(topic)):
            records = await self.app.parts.log.read(topic, partition, offset=0, limit=10_000)
            found = [event for record in records if (event := json.loads(record.value))["partitionkey"] == order_id]
            for event in reversed(found):
                said = json.dumps({**event, "source": "/elsewhere"}).encode()
                await self.app.parts.administration.put(topic, [(order_id, said)])

    async def published(self, topic: str, name: str) -> list[dict[str, Any]]:
        """Return the events of a short name on a topic, as everybody can read them."""
        found: list[dict[str, Any]] = []
        for partition in range(self.app.partitions_of(topic)):
            records = await self.app.parts.log.read(topic, partition, offset=0, limit=10_000)
            found += [json.loads(record.value) for record in records]
        return [event for event in found if event["type"].split(".")[2] == name]


def request(*lines: tuple[str, int], token: str = "tok_ok", **more: Any) -> dict[str, Any]:
    """Return the body of an order."""
    wanted = [{"sku": sku, "quantity": quantity} for sku, quantity in lines]
    return {"customer_id": "ada", "lines": wanted, "payment": {"token": token}, **more}


def facts_of(order: dict[str, Any]) -> set[str]:
    """Return the types in an order's timeline."""
    return {entry["type"] for entry in order["timeline"]}


@asynccontextmanager
async def running(folder: Path, clock: ManualClock | VirtualClock, **settings: str) -> AsyncIterator[Shop]:
    """Run a shop on a folder."""
    config = in_style(configuration({"data": str(folder), "shipping-delay": "0", **settings_of(folder), **settings}))
    async with assemble(config, clock=clock) as app:
        streams = Streams()
        asgi = web_application(app, services=config.services, streams=streams, outages=Outages(config.data))
        transport = httpx.ASGITransport(app=asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
            shop = Shop(app, asgi, http, clock, streams)
            await shop.settled()
            yield shop


class Listener:
    """A client of a stream: what arrives is in `text`; `leave` hangs up."""

    def __init__(self, asgi: WebApplication, path: str, *headers: tuple[bytes, bytes]) -> None:
        path, _, query = path.partition("?")
        self.text = ""
        self.status = 0
        self._gone = asyncio.Event()
        self._more = asyncio.Event()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": list(headers),
            "client": ("test", 1),
            "server": ("shop", 80),
        }
        self._task = asyncio.create_task(asgi(scope, self._receive, self._send))

    async def _receive(self) -> Any:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.text += message["body"].decode()
        self._more.set()

    async def until(self, text: str, *, times: int = 1) -> str:
        """Wait until a text has arrived so many times, and return everything that has."""
        async with asyncio.timeout(20):
            while self.text.count(text) < times:
                self._more.clear()
                await self._more.wait()
        return self.text

    async def leave(self) -> None:
        """Hang up, and wait until the server has noticed."""
        self._gone.set()
        await asyncio.wait_for(self._task, 20)

    async def ended(self) -> None:
        """Wait until the server has ended the stream."""
        await asyncio.wait_for(self._task, 20)


def messages_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the (id, event) of each message of a stream."""
    found: list[tuple[str, dict[str, Any]]] = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "id" in lines and "data" in lines:
            found.append((lines["id"], json.loads(lines["data"])))
    return found
