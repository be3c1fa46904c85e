"""A saga of three steps (reserve, pay, ship) against three handlers, each of the four services with a store of its own.

On one folder, with ``--on postgres`` the stores on PostgreSQL, or with ``--on servers`` on Kafka and PostgreSQL. The
clock runs from the first order, taken by `execute` from ``--callers`` callers at once, until the last saga has ended.
Every command and answer goes through a journal and the log; each handler keeps a row that counts how often it was
asked. Verified: every saga is completed, each step was done once, the log holds each command once, and the ledger
balances. Prints one JSON object.

    python -m benchmarks.sides.saga --dir DIR [--on postgres|servers] [--n 10000] [--callers 256]
"""

import argparse
import asyncio
import json
import time

import msgspec

from benchmarks.measure import check
from benchmarks.sides.w1 import Engines, engines
from millrace import Application, Command, Event, Saga, Service, State
from millrace.ledger import check_ledger
from millrace.operators import Sagas


class Place(Command, topic="shop.commands", key="order_id"):
    """Order."""

    order_id: str


class Placed(Event, topic="shop", key="order_id"):
    """It was ordered: the saga begins."""

    order_id: str


class Ended(Event, topic="shop", key="order_id"):
    """The saga is at its end."""

    order_id: str


class Reserve(Command, topic="stock.commands", key="order_id"):
    """First step."""

    order_id: str


class Release(Command, topic="stock.commands", key="order_id"):
    """Its undo."""

    order_id: str


class Reserved(Event, topic="stock", key="order_id"):
    """First step done."""

    order_id: str


class Pay(Command, topic="payments.commands", key="order_id"):
    """Second step."""

    order_id: str


class Refund(Command, topic="payments.commands", key="order_id"):
    """Its undo."""

    order_id: str


class Paid(Event, topic="payments", key="order_id"):
    """Second step done."""

    order_id: str


class Ship(Command, topic="shipping.commands", key="order_id"):
    """Third step."""

    order_id: str


class Shipped(Event, topic="shipping", key="order_id"):
    """Third step done."""

    order_id: str


class Case(msgspec.Struct, frozen=True):
    """What the saga knows."""

    order_id: str


class Done(State, key="order_id"):
    """How often a service has done its step for an order."""

    order_id: str
    times: int = 0


def begin(event: Placed) -> Case:
    """The case of an order."""
    return Case(event.order_id)


def reserve(case: Case) -> Reserve:
    """Ask for the goods."""
    return Reserve(order_id=case.order_id)


def release(case: Case, _reason: str) -> Release:
    """Give them back."""
    return Release(order_id=case.order_id)


def pay(case: Case) -> Pay:
    """Ask for the money."""
    return Pay(order_id=case.order_id)


def refund(case: Case, _reason: str) -> Refund:
    """Give it back."""
    return Refund(order_id=case.order_id)


def ship(case: Case) -> Ship:
    """Send it off."""
    return Ship(order_id=case.order_id)


def end(case: Case) -> Ended:
    """Say so."""
    return Ended(order_id=case.order_id)


def checkout() -> Saga:
    """The table."""
    saga = Saga("checkout", key="order_id", starts=Placed, begin=begin)
    saga.step("reserve", send=reserve, done=Reserved, undo=release)
    saga.step("pay", send=pay, done=Paid, undo=refund)
    saga.step("ship", send=ship, done=Shipped, pivot=True)
    saga.ended(completed=end)
    return saga


def services() -> list[Service]:
    """The saga's owner and the three that work for it."""
    shop, stock, payments, shipping = (Service(name) for name in ("shop", "stock", "payments", "shipping"))

    @shop.handler
    def place(command: Place) -> Placed:  # pyright: ignore[reportUnusedFunction]  # the service keeps it
        return Placed(order_id=command.order_id)

    @stock.handler(done=Done.by("order_id"))
    def reserving(command: Reserve, done: Done | None) -> tuple[Done, Reserved]:  # pyright: ignore[reportUnusedFunction]  # as above
        return Done(order_id=command.order_id, times=(done.times if done else 0) + 1), Reserved(order_id=command.order_id)

    @payments.handler(done=Done.by("order_id"))
    def paying(command: Pay, done: Done | None) -> tuple[Done, Paid]:  # pyright: ignore[reportUnusedFunction]  # as above
        return Done(order_id=command.order_id, times=(done.times if done else 0) + 1), Paid(order_id=command.order_id)

    @shipping.handler(done=Done.by("order_id"))
    def ships(command: Ship, done: Done | None) -> tuple[Done, Shipped]:  # pyright: ignore[reportUnusedFunction]  # as above
        return Done(order_id=command.order_id, times=(done.times if done else 0) + 1), Shipped(order_id=command.order_id)

    shop.saga(checkout())
    return [shop, stock, payments, shipping]


async def order(app: Application, n: int, callers: int) -> None:
    """Take n orders, from so many callers."""
    ids = iter(range(n))

    async def call() -> None:
        for i in ids:
            await app.execute(Place(order_id=f"o-{i:06}"))

    await asyncio.gather(*(call() for _ in range(callers)))


async def all_ended(app: Application, n: int) -> None:
    """Wait until the log has said of every order that its saga is at its end."""
    ended = 0
    async for batch in app.tail(["shop"], after="start").batches():
        ended += sum(b".ended.v1" in record.value for record in batch)
        if ended >= n:
            return


async def verify(app: Application, n: int) -> None:
    """See that every saga is completed and each step was done once."""
    completed, cursor, more = 0, None, True
    while more:
        page = await Sagas(app).list(status="completed", limit=1000, cursor=cursor)
        completed, cursor, more = completed + len(page.items), page.next, page.next is not None
    check(completed == n, f"{completed} of {n} sagas are completed")
    for name in ("stock", "payments", "shipping"):
        seen, cursor, more = 0, None, True
        while more:
            page = await app.states(Done, service=name).list(limit=1000, cursor=cursor)
            check(all(row.times == 1 for row in page.items), f"{name} did a step twice")
            seen, cursor, more = seen + len(page.items), page.next, page.next is not None
        check(seen == n, f"{name} did {seen} of {n} steps")
    ends = {info.name: sum(last - first for first, last in info.ranges) for info in await app.parts.log.topics()}
    for name in ("stock", "payments", "shipping"):
        check(ends[f"{name}.commands"] == n == ends[name], f"{name}: {ends[f'{name}.commands']} commands, {ends[name]} answers")
    lines = await check_ledger([(host.source, host.store) for host in app.hosts.values()], app.parts)
    check(all(line.balanced for line in lines), f"the ledger differs: {[line.difference for line in lines if not line.balanced]}")


async def run(make: Engines, *, n: int, callers: int) -> dict[str, object]:
    """Measure, then verify."""
    async with Application("bench", services(), engine=make()) as app:
        begin_s, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(order(app, n, callers), all_ended(app, n))
        seconds, cpu = time.perf_counter() - begin_s, time.process_time() - cpu
        check(await app.caught_up(timeout=60.0), "it did not come to rest")
        await verify(app, n)
    return {"rate": n / seconds, "cpu_us": cpu / n * 1e6, "verified": True}


def main() -> None:
    """Run once and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--on", choices=("folder", "postgres", "servers"), default="folder")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--callers", type=int, default=256)
    args = parser.parse_args()
    with engines(args.on, args.dir) as make:
        print(json.dumps(asyncio.run(run(make, n=args.n, callers=args.callers))))


if __name__ == "__main__":
    main()
