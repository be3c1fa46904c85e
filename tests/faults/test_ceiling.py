"""How many orders a second the shop takes to their end here: on one node of Kafka and on three, served by one process and by two."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from millrace.testing.crash import Zygote
from tests.faults.installation import Installation
from tests.faults.log_watch import LogWatch
from tests.faults.report import Row
from tests.faults.run import ENDED_S
from tests.faults.servers import Needs, Servers
from tests.faults.traffic import Traffic

pytestmark = [pytest.mark.soak, pytest.mark.crash, pytest.mark.serial, pytest.mark.timeout(600)]
ORDERS = 1500
SETTLE = 300
"""Orders before the measurement begins, for caches, connections and compiled statements."""


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("servers", [Needs(), Needs(nodes=3)], ids=["one-node", "three-nodes"], indirect=True)
def test_ceiling(
    processes: int, shop_zygote: Zygote, servers: Servers, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Customers who come as fast as they are answered: the rate at which orders are answered, and at which they end."""
    row = Row(f"ceiling {servers.needs.nodes} node(s) {processes} process(es)", random.randrange(2**32), 0.0)
    with Installation(shop_zygote, servers, tmp_path) as shop:
        for _ in range(processes):
            shop.start()
        shop.stock_up()
        with LogWatch(servers.brokers, f"{shop.namespace}.") as watch:
            with Traffic(0.0, seed=row.seed, servers=lambda: shop.running) as traffic:
                traffic.until_answered(SETTLE)
                watch.until_ended([customer.order_id for customer in traffic.customers()], seconds=ENDED_S)
                began, before, ended = time.monotonic(), len(traffic.answered), len(watch.ended)
                traffic.until_answered(before + ORDERS)
                answering = time.monotonic() - began
                answered = len(traffic.answered) - before
            watch.until_ended([customer.order_id for customer in traffic.customers()], seconds=ENDED_S)
            ending = time.monotonic() - began
            row.rate, row.orders = (len(watch.ended) - ended) / ending, len(traffic.answered)
            row.slowest_s, row.outcome = traffic.slowest(began), "ok"
            row.evidence = f"answered {answered / answering:.0f}/s, taken to the end {row.rate:.0f}/s"
            print(f"\n{row.words}")
            shop.check(traffic.customers(), watch)
    record_property("fault", msgspec.to_builtins(row))
