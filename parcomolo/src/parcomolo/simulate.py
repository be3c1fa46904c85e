"""Customers for a running shop: they browse, buy, change their minds, and receive what they bought.

Every order is followed to its end by asking for it, through restarts of the shop: a request that gets no answer, or
one that blames the server, is sent again with the same key. Nothing is random that would hide a loss: the run fails
unless each order that was taken has reached an end.

Neighbours: talks HTTP to any Parcomolo; `cli` prints usage.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

ENDED = frozenset({"completed", "cancelled", "rejected", "expired"})
PATIENCE_S = 120.0
"""How long an order may take to its end, and a request to its answer, however often the shop is restarted meanwhile."""
LOOK_EVERY_S = 0.5
CREATED = 201
SERVER_ERROR = 500
SHOWN_MAX = 5
CONNECTIONS = 64
TOKENS = (
    ("tok_ok", 80),
    ("tok_declined", 7),
    ("tok_insufficient_funds", 5),
    ("tok_timeout_then_ok", 4),
    ("tok_refund_fails_twice", 4),
)
CANCEL_SHARE = 0.1
NO_CARRIER_SHARE = 0.03
DELIVER_SHARE = 0.7


@dataclass
class Tally:
    """What the customers have done and seen."""

    did: Counter[str] = field(default_factory=Counter[str])
    ends: Counter[str] = field(default_factory=Counter[str])
    open: list[str] = field(default_factory=list[str])

    def lines(self) -> list[str]:
        """Return it as text."""
        did = ", ".join(f"{count} {what}" for what, count in sorted(self.did.items())) or "nothing"
        ends = ", ".join(f"{count} {status}" for status, count in sorted(self.ends.items())) or "none"
        more = len(self.open) - SHOWN_MAX
        named = [*self.open[:SHOWN_MAX], *([f"and {more} more"] if more > 0 else [])]
        return [f"Did      {did}", f"Ends     {ends}", " ".join([f"No end   {len(self.open)}", *named])]


async def simulate(url: str, *, rate: float, seconds: float) -> int:
    """Send customers and return the exit status: 0 when every order reached an end."""
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    async with httpx.AsyncClient(base_url=url, timeout=30.0, limits=limits) as http:
        try:
            products: list[dict[str, Any]] = (await http.get("/api/products")).raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            print(f"parcomolo: no shop answers at {url}: {error}")  # noqa: T201  # the answer to a command
            return 1
        tally = Tally()
        await _send_customers(_Shop(http, [product["sku"] for product in products], tally), rate, seconds)
    print(*tally.lines(), sep="\n")  # noqa: T201  # as above
    return 1 if tally.open or not tally.did["bought"] else 0


async def _send_customers(shop: _Shop, rate: float, seconds: float) -> None:
    begin = time.monotonic()
    async with asyncio.TaskGroup() as customers:
        for number in range(max(1, round(rate * seconds))):
            await asyncio.sleep(max(0.0, begin + number / rate - time.monotonic()))
            customers.create_task(shop.visit())


class _Shop:
    """The shop as a customer meets it."""

    def __init__(self, http: httpx.AsyncClient, skus: list[str], tally: Tally) -> None:
        self._http = http
        self._skus = skus
        self._tally = tally
        self._chance = random.Random()  # noqa: S311  # customers, no secrets

    async def visit(self) -> None:
        """Look around, buy, perhaps cancel, wait for the end, perhaps say that it arrived."""
        order_id = None
        try:
            (await self._ask("GET", "/api/products")).raise_for_status()
            self._tally.did["browsed"] += 1
            order_id = await self._buy()
            if order_id is not None:
                await self._live_through(order_id)
        except (httpx.HTTPError, ValueError, KeyError):
            self._tally.did["failed requests"] += 1
            self._tally.open += [order_id] if order_id else []

    async def _ask(self, method: str, path: str, *, until: float | None = None, **more: Any) -> httpx.Response:
        """Return the answer; a shop that is away, or cannot just now, is asked again until patience ends."""
        until = time.monotonic() + PATIENCE_S if until is None else until
        keyed = {"Idempotency-Key": f"{self._chance.getrandbits(128):032x}"} if method == "POST" else {}
        while True:
            try:
                answer = await self._http.request(method, path, headers=keyed, **more)
                if answer.status_code < SERVER_ERROR or time.monotonic() >= until:
                    return answer
            except httpx.TransportError:
                if time.monotonic() >= until:
                    raise
            self._tally.did["asked again"] += 1
            await asyncio.sleep(LOOK_EVERY_S)

    async def _buy(self) -> str | None:
        chance = self._chance
        skus = chance.sample(self._skus, chance.randint(1, min(3, len(self._skus))))
        [token] = chance.choices([token for token, _ in TOKENS], weights=[weight for _, weight in TOKENS])
        name = "FAIL_SHIPPING" if chance.random() < NO_CARRIER_SHARE else "A customer"
        body = {
            "customer_id": f"customer-{chance.randint(1, 20)}",
            "lines": [{"sku": sku, "quantity": chance.randint(1, 2)} for sku in skus],
            "payment": {"token": token},
            "ship_to": {"name": name},
        }
        answer = await self._ask("POST", "/api/orders", json=body)
        if answer.status_code != CREATED:
            self._tally.did[f"refused with {answer.status_code}"] += 1
            return None
        self._tally.did["bought"] += 1
        return answer.json()["order_id"]

    async def _live_through(self, order_id: str) -> None:
        if self._chance.random() < CANCEL_SHARE:
            await asyncio.sleep(self._chance.uniform(0, 2))
            answer = await self._ask("POST", f"/api/orders/{order_id}/cancel", json={"reason": "changed my mind"})
            self._tally.did["asked to cancel" if answer.is_success else "came too late to cancel"] += 1
        order = await self._end_of(order_id)
        if order is None:
            self._tally.open.append(order_id)
            return
        self._tally.ends[order["status"]] += 1
        with contextlib.suppress(httpx.TransportError):  # its end is known; whether it was received is another matter
            await self._receive(order)

    async def _receive(self, order: dict[str, Any]) -> None:
        if order["status"] == "completed" and self._chance.random() < DELIVER_SHARE:
            answer = await self._ask("POST", f"/api/orders/{order['order_id']}/deliver", json={})
            self._tally.did["received" if answer.is_success else "could not receive"] += 1

    async def _end_of(self, order_id: str) -> dict[str, Any] | None:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            order: dict[str, Any] = (await self._ask("GET", f"/api/orders/{order_id}", until=until)).raise_for_status().json()
            if order["status"] in ENDED:
                return order
            await asyncio.sleep(LOOK_EVERY_S)
        return None
