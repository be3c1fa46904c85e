"""A small application for tests of what surrounds an application: two services, an aggregate, a handler, two views.

Its data folder is `SHOP_DATA`. Run as a program it is a server that obeys its standard input, one command per line,
and answers each with one line when it is durable:

    place <id> <sku>    an order; sku `cursed` cannot be reserved and ends in the dead letters, sku `clock` sets a timer that does
    read                answers when every view has read everything so far
    (end of input)      stops gracefully
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import msgspec

from millrace import (
    Application,
    Command,
    ConfigurationError,
    Context,
    Event,
    Personal,
    Position,
    RetryPolicy,
    Service,
    State,
    Timer,
    TopicSpec,
    View,
)
from millrace.engines.sqlite import SqliteEngine


class PlaceOrder(Command, topic="orders.commands", key="order_id"):
    """Somebody wants something."""

    order_id: str
    sku: str
    customer: Annotated[str, Personal] = "Ada Lovelace"


class OrderPlaced(Event, topic="orders", key="order_id"):
    """It was ordered."""

    order_id: str
    sku: str
    customer: Annotated[str, Personal]


class StockReserved(Event, topic="inventory", key="order_id"):
    """It is there."""

    order_id: str
    sku: str


class WindUp(Command, key="order_id"):
    """Said by a timer."""

    order_id: str


class Order(msgspec.Struct, frozen=True):
    """What an order is to itself."""

    sku: str


class Stock(State, key="sku"):
    """How much was reserved."""

    sku: str
    reserved: int = 0


class OrderStatus(View, key="order_id", lookups=("status",), sort="order_id"):
    """An order as a customer sees it."""

    order_id: str
    status: str


class Popularity(View, key="sku"):
    """How often something was reserved."""

    sku: str
    count: int


orders = Service("orders")
archive = Service("archive", topics=[TopicSpec("orders", partitions=5, retention_s=60), TopicSpec("files")])
inventory = Service("inventory")


def decide(message: PlaceOrder, order: Order | None, context: Context) -> OrderPlaced:
    """Accept an order, and accept it again."""
    return OrderPlaced(order_id=message.order_id, sku=message.sku, customer=message.customer)


def evolve(order: Order | None, event: OrderPlaced) -> Order:
    """Remember what was ordered."""
    return Order(event.sku)


orders.aggregate(Order, decide=decide, evolve=evolve)


@orders.view(OrderStatus)
def order_status(view: OrderStatus | None, event: OrderPlaced | StockReserved) -> OrderStatus:
    """Say how far it is."""
    _fail_if_broken("order_status")
    return OrderStatus(order_id=event.order_id, status="placed" if isinstance(event, OrderPlaced) else "reserved")


@inventory.handler(stock=Stock.by("sku"))
def reserve(event: OrderPlaced, stock: Stock | None) -> list[Stock | StockReserved | Timer]:
    """Reserve it, unless it is cursed; a clock has to be wound up afterwards."""
    if event.sku == "cursed":
        raise ValueError("nobody can lift it")
    count = stock.reserved if stock else 0
    said = [Stock(sku=event.sku, reserved=count + 1), StockReserved(order_id=event.order_id, sku=event.sku)]
    return [*said, Timer("wind-up", WindUp(order_id=event.order_id), after=timedelta(0))] if event.sku == "clock" else said


@inventory.handler
def wind_up(command: WindUp) -> None:
    """Wind up a clock."""
    raise ValueError("the key is lost")


@inventory.view(Popularity)
def popularity(view: Popularity | None, event: StockReserved) -> Popularity:
    """Count it."""
    _fail_if_broken("popularity")
    return Popularity(sku=event.sku, count=(view.count if view else 0) + 1)


def _fail_if_broken(view: str) -> None:
    if os.environ.get("SHOP_BROKEN") == view:
        raise ValueError("a new release with a mistake")


@inventory.on_start
async def note_start(app: Application) -> None:
    """Leave a trace, so that a test can see whether starters ran."""
    with (_folder() / "starts").open("a") as trace:
        trace.write("started\n")


def _folder() -> Path:
    folder = os.environ.get("SHOP_DATA")
    if not folder:
        raise ConfigurationError("SHOP_DATA is not set; it names the data folder")
    return Path(folder)


def application() -> Application:
    """Return the shop on the folder that the environment names."""
    policy = RetryPolicy(attempts=2, first_s=0.01)
    return Application("shop", [orders, inventory], engine=SqliteEngine(_folder()), policy=policy, batch_max=50)


def drifted() -> Application:
    """Return the shop with a service whose declarations do not fit what is there."""
    return Application("shop", [orders, inventory, archive], engine=SqliteEngine(_folder()))


async def place(app: Application, order_id: str, sku: str) -> Position:
    """Place an order and return where it was said."""
    return (await app.execute(PlaceOrder(order_id=order_id, sku=sku))).position


async def settle(app: Application) -> None:
    """Return when everything is published and every processor has read it."""
    while True:
        seen = app.hosts["orders"].changed.calls
        moved = [await _open(app, name) for name in app.hosts]
        if not any(moved):
            return
        await app.hosts["orders"].changed.wait(seen, 0.02)


async def _open(app: Application, name: str) -> bool:
    """Return whether a service still has something to publish, to read or to try again."""
    host = app.hosts[name]
    head = await host.store.reader.journal.head()
    if host.relay.published < head or await host.store.reader.timers.count() or any(loop.lag() for loop in host.loops.values()):
        return True
    return any(row.state == "retry" for row in await host.store.reader.held.list(state=None, limit=1000))


async def serve() -> None:
    """Obey standard input until it ends."""
    loop = asyncio.get_running_loop()
    async with application() as app:
        await settle(app)
        print("ready", flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            match line.split():
                case ["place", order_id, sku]:
                    await place(app, order_id, sku)
                case ["read"]:
                    await settle(app)
                case _:
                    pass
            print("done", line.strip(), flush=True)


if __name__ == "__main__":
    asyncio.run(serve())
