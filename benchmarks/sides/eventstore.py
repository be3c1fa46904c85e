"""The event store through ``execute()``: saves of two events from 32 concurrent callers and from one, and loads.

The same events as the other side's: an order is placed, lines are added; they are published, too, so the relay runs
meanwhile. Loads happen in an application that was started anew: nothing is remembered, everything is decoded. They are
measured with the default snapshots and, on the same events by a service that uses none, by replaying every event.
Verified: each save's outcome has two events, each loaded aggregate is at its version and has its lines, the log has
every event once. Prints one JSON object.

    python -m benchmarks.sides.eventstore --dir DIR [--saves 32000] [--callers 32]
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence

import msgspec

from benchmarks.measure import check
from millrace import Application, Command, Context, Event, Service
from millrace.engines.sqlite import SqliteEngine


class PlaceOrder(Command, key="order_id"):
    """Place an order with some lines: one event, and one for each line."""

    order_id: str
    customer: str
    lines: int


class OrderPlaced(Event, topic="orders", key="order_id"):
    """An order was placed."""

    order_id: str
    customer: str


class LineAdded(Event, topic="orders", key="order_id"):
    """A line was added."""

    order_id: str
    sku: str
    quantity: int
    unit_price: int


class Line(msgspec.Struct, frozen=True):
    """A line of an order."""

    sku: str
    quantity: int
    unit_price: int


class Order(msgspec.Struct, frozen=True):
    """What folding gives."""

    order_id: str
    customer: str
    lines: tuple[Line, ...] = ()


def decide(command: PlaceOrder, order: Order | None, _context: Context) -> list[OrderPlaced | LineAdded]:
    """Everything an order of that many lines says; placing it again says nothing."""
    if order is not None:
        return []
    key = command.order_id
    lines = [LineAdded(order_id=key, sku=f"sku-{i % 500}", quantity=1, unit_price=1999) for i in range(command.lines)]
    return [OrderPlaced(order_id=key, customer=command.customer), *lines]


def evolve(order: Order | None, event: OrderPlaced | LineAdded) -> Order:
    """Fold one event."""
    if isinstance(event, OrderPlaced):
        return Order(event.order_id, event.customer)
    if order is None:
        raise ValueError(event.order_id)
    return Order(order.order_id, order.customer, (*order.lines, Line(event.sku, event.quantity, event.unit_price)))


def application(directory: str, *, snapshots: bool = True) -> Application:
    """One service with one aggregate, with the default snapshots or none."""
    orders = Service("orders")
    if snapshots:
        orders.aggregate(Order, decide=decide, evolve=evolve)
    else:
        orders.aggregate(Order, decide=decide, evolve=evolve, snapshot_every=0)
    return Application("shop", [orders], engine=SqliteEngine(directory))


async def saves(app: Application, prefix: str, *, count: int, callers: int) -> float:
    """Saves of two events per second, by ``callers`` that each save one after another."""
    each = count // callers

    async def caller(number: int) -> None:
        for i in range(each):
            outcome = await app.execute(PlaceOrder(order_id=f"{prefix}-{number}-{i}", customer="c-00001", lines=1))
            check(len(outcome.messages) == outcome.version == 2, "a save has not two events")

    begin = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(callers)))
    return each * callers / (time.perf_counter() - begin)


async def place(app: Application, events: int, count: int) -> list[str]:
    """Save aggregates of ``events`` events; answer their keys."""
    keys = [f"load-{events}-{i}" for i in range(count)]
    for key in keys:
        await app.execute(PlaceOrder(order_id=key, customer="c-00001", lines=events - 1))
    return keys


async def loads(app: Application, keys: Sequence[str], events: int) -> float:
    """Loads per second of aggregates of ``events`` events, one after another."""
    begin = time.perf_counter()
    loaded = [await app.load(Order, key) for key in keys]
    seconds = time.perf_counter() - begin
    for order in loaded:
        check(order is not None and order.version == events and len(order.state.lines) == events - 1, "a load is wrong")
    return len(keys) / seconds


async def published(app: Application, expected: int) -> None:
    """Wait until the log has every event, and see that it has no more."""
    end, found = time.perf_counter() + 60, 0
    while time.perf_counter() < end and found < expected:
        found = sum(last - first for info in await app.parts.log.topics() for first, last in info.ranges)
        await asyncio.sleep(0.02)
    check(found == expected, f"{found} events in the log for {expected} in the journal")


async def run(directory: str, *, count: int, callers: int) -> dict[str, object]:
    """Measure and verify everything on new files in ``directory``."""
    few, many = max(count // 32, 200), max(count // 320, 20)
    async with application(directory) as app:
        await saves(app, "warm", count=callers * 8, callers=callers)
        figures: dict[str, object] = {"saves_32": await saves(app, "many", count=count, callers=callers)}
        figures["saves_1"] = await saves(app, "one", count=count // 8, callers=1)
        tens, thousands = await place(app, 10, few), await place(app, 1000, many)
        placed = callers * 8 + count // callers * callers + count // 8
        await published(app, 2 * placed + 10 * few + 1000 * many)
    for snapshots, suffix in ((True, ""), (False, "_replayed")):
        async with application(directory, snapshots=snapshots) as app:
            figures[f"loads_10{suffix}"] = await loads(app, tens, 10)
            figures[f"loads_1000{suffix}"] = await loads(app, thousands, 1000)
    return {**figures, "verified": True}


def main() -> None:
    """Run once and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--saves", type=int, default=32_000)
    parser.add_argument("--callers", type=int, default=32)
    args = parser.parse_args()
    print(json.dumps(asyncio.run(run(args.dir, count=args.saves, callers=args.callers))))


if __name__ == "__main__":
    main()
