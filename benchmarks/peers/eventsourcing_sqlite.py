"""The ``eventsourcing`` package on SQLite (WAL, synchronous=FULL by default): an event store a team would pick today.

Measured are saves of two events per aggregate, from 32 threads and from one caller, and loads of aggregates with 10
and with 1,000 events without snapshots. Every save is checked by reading the notification log back, every load by
what it holds. Prints one JSON object.

    python -m benchmarks.peers.eventsourcing_sqlite [--saves 8000] [--callers 32] [--dir DIR]
"""

import argparse
import json
import os
import tempfile
import threading
import time
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from benchmarks.measure import check


class Order(Aggregate):
    """An order with lines: one event that places it, one for each line."""

    @event("Placed")
    def __init__(self, customer: str) -> None:
        """Place the order."""
        self.customer = customer
        self.lines: list[tuple[str, int, int]] = []

    @event("LineAdded")
    def add(self, sku: str, quantity: int, unit_price: int) -> None:
        """Add a line."""
        self.lines.append((sku, quantity, unit_price))


class Shop(Application):
    """The package's application object: repository, recorder, notification log."""


def open_shop(directory: str) -> Shop:
    """A shop on a file of its own; fails unless commits are synced."""
    name = os.path.join(directory, "eventsourcing.db")
    shop = Shop(env={"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": name, "SQLITE_LOCK_TIMEOUT": "60"})
    with shop.recorder.datastore.transaction(commit=False) as cursor:  # type: ignore[attr-defined]
        cursor.execute("pragma synchronous")
        check(cursor.fetchone()[0] == 2, "synchronous is not FULL")
    return shop


def order_with(events: int) -> Order:
    """A new order of exactly ``events`` events."""
    order = Order("c-00001")
    for i in range(events - 1):
        order.add(f"sku-{i % 500}", 1, 1999)
    return order


def saves(shop: Shop, count: int, callers: int) -> float:
    """Saves of two events per second, by ``callers`` threads that each save one after another."""
    before = shop.recorder.max_notification_id() or 0
    each = count // callers
    failures: list[BaseException] = []

    def caller() -> None:
        try:
            for _ in range(each):
                shop.save(order_with(2))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begin
    check(not failures, f"{len(failures)} callers failed, the first with {failures[:1]}")
    stored = (shop.recorder.max_notification_id() or 0) - before
    check(stored == 2 * each * callers, f"{stored} events stored for {each * callers} saves of two")
    return each * callers / seconds


def loads(shop: Shop, events: int, count: int) -> float:
    """Loads per second of ``count`` different aggregates of ``events`` events each."""
    ids: list[UUID] = []
    for _ in range(count):
        order = order_with(events)
        shop.save(order)
        ids.append(order.id)
    begin = time.perf_counter()
    loaded = [shop.repository.get(id_) for id_ in ids]
    seconds = time.perf_counter() - begin
    check(all(len(order.lines) == events - 1 for order in loaded), "a loaded order lacks lines")
    return count / seconds


def run(directory: str, *, count: int, callers: int) -> dict[str, object]:
    """Measure and verify everything on a new file in ``directory``."""
    shop = open_shop(directory)
    saves(shop, callers * 8, callers)
    figures: dict[str, object] = {
        "saves_32": saves(shop, count, callers),
        "saves_1": saves(shop, count // 2, 1),
        "loads_10": loads(shop, 10, max(count // 8, 200)),
        "loads_1000": loads(shop, 1000, max(count // 160, 20)),
        "verified": True,
    }
    shop.close()
    return figures


def main() -> None:
    """Run once and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saves", type=int, default=8000)
    parser.add_argument("--callers", type=int, default=32)
    parser.add_argument("--dir")
    args = parser.parse_args()
    directory = args.dir or tempfile.mkdtemp(prefix="eventsourcing-")
    print(json.dumps(run(directory, count=args.saves, callers=args.callers)))


if __name__ == "__main__":
    main()
