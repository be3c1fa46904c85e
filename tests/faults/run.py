"""One run: a new shop under traffic, a fault at a random moment, everybody served to the end, everything exact.

    warm        customers come; the fault begins after a random number of seconds
    fault       as its kind says; it returns the moment from which on the shop had to recover by itself
    after       customers come for a while yet
    end         every order ends; orders, stock, money, log and ledger are exact, and what the fault had to show was seen

Neighbours: `kinds` has the faults; `report` is what is left of a run.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from millrace.testing.crash import Zygote
from tests.faults.installation import Installation
from tests.faults.log_watch import LogWatch
from tests.faults.report import Row
from tests.faults.servers import Needs, Servers
from tests.faults.traffic import Traffic

WARM_S = (1.5, 5.0)
AFTER_S = 2.0
ENDED_S = 180.0


class Run:
    """What a fault has at hand.

    Args:
        seed: of everything that chance decides.
        servers: which it may harm.
        shop: under traffic.
        traffic: the customers.
        watch: the log, seen from outside.
        row: what the run has shown.
    """

    def __init__(self, *, seed: int, servers: Servers, shop: Installation, traffic: Traffic, watch: LogWatch, row: Row) -> None:
        self.chance = random.Random(seed)
        self.servers = servers
        self.shop = shop
        self.traffic = traffic
        self.watch = watch
        self.row = row
        self.began = 0.0

    def wait(self, least: float, most: float) -> float:
        """Let customers come for some seconds; return how many these were."""
        seconds = self.chance.uniform(least, most)
        self.traffic.wait(seconds)
        return seconds

    def show(self, evidence: str) -> None:
        """Note what shows that the fault was one."""
        self.row.evidence = "; ".join(filter(None, (self.row.evidence, evidence)))


def two_instances(shop: Installation, servers: Servers) -> None:
    """Start two processes of all services."""
    shop.start()
    shop.start()


class Kind(NamedTuple):
    """A kind of fault.

    Args:
        name: as tests and report call it.
        inject: does it, and returns since when the shop had to recover.
        due: what a run that has shown the fault must have seen; returns what is missing, else nothing.
        needs: its servers.
        open: starts the processes.
    """

    name: str
    inject: Callable[[Run], float]
    due: Callable[[Run], str]
    needs: Needs = Needs()
    open: Callable[[Installation, Servers], None] = two_instances


class Place(NamedTuple):
    """Where runs take place."""

    zygote: Zygote
    servers: Servers
    folder: Path


def carry_out(kind: Kind, place: Place, row: Row) -> None:
    """Run a fault once, noting in the row what is seen."""
    print(f"\n{kind.name}: seed {row.seed}, {row.rate:g} orders/s")
    zygote, servers, folder = place
    with Installation(zygote, servers, folder) as shop:
        kind.open(shop, servers)
        shop.stock_up()
        with LogWatch(servers.brokers, f"{shop.namespace}.") as watch:
            try:
                traffic = Traffic(row.rate, seed=row.seed, servers=lambda: shop.running)
                run = Run(seed=row.seed, servers=servers, shop=shop, traffic=traffic, watch=watch, row=row)
                _harm(kind, run)
                shop.check(traffic.customers(), watch)
                missing = kind.due(run)
                assert not missing, missing
                row.outcome = "ok"
            except BaseException as error:
                row.outcome = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                raise
            finally:
                row.repeats, row.fenced = watch.repeats, shop.fenced
                print(row.words)


def _harm(kind: Kind, run: Run) -> None:
    traffic, watch, row = run.traffic, run.watch, run.row
    try:
        with traffic:
            traffic.until_answered(1)
            run.wait(*WARM_S)
            run.began = time.monotonic()
            row.in_flight = watch.open([customer.order_id for customer in traffic.customers()])
            since = kind.inject(run)
            before = traffic.customers(until=since)
            run.wait(AFTER_S, AFTER_S)
        watch.until_ended([customer.order_id for customer in traffic.customers()], seconds=ENDED_S)
        row.recovered_s = max(0.0, max(watch.ended[customer.order_id] for customer in before) - since)
        row.pause_s = watch.longest_pause(run.began)
    finally:
        row.orders, row.in_vain = len(traffic.answered), len(traffic.refused)
        row.slowest_s = traffic.slowest()
        run.show(", ".join(f"{count} {why}" for why, count in traffic.reasons().items()))
