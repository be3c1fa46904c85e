"""Many customers at several servers of one shop: who has got how far, and how long it takes them.

Neighbours: `path` says what one customer does; the tests of several processes and of stopping kill the servers meanwhile.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

from millrace.partitioning import partition_of
from tests.crash.path import ENDS, PATHS, Customer
from tests.crash.shop import Gone, Server

ORDINARY = replace(PATHS["happy"], name="ordinary", delivered=False)
TOGETHER = 8


def customers(count: int, *, delay: float = 0.0, partitions: int = 1) -> list[Customer]:
    """Return customers who buy one piece of the plainest product each; their orders are spread evenly over partitions."""
    path = replace(ORDINARY, delay=delay)
    found: list[Customer] = []
    while len(found) < count:
        customer = Customer(path, (("bland", 1),))
        if partition_of(customer.order_id, partitions) == len(found) % partitions:
            found.append(customer)
    return found


@contextmanager
def placing(crowd: Sequence[Customer], servers: Sequence[Server]) -> Iterator[list[Future[bool]]]:
    """Let everybody place an order, in turn at each server; a future says whether it was answered."""
    with ThreadPoolExecutor(TOGETHER) as threads:
        yield [threads.submit(_place, customer, servers[i % len(servers)]) for i, customer in enumerate(crowd)]


def answered(placed: Sequence[Future[bool]], count: int) -> None:
    """Return when so many have got their answer."""
    for future in islice(as_completed(placed), count):
        assert future.result()


def _place(customer: Customer, server: Server) -> bool:
    try:
        customer.place(server)
    except Gone:
        return False
    return True


def place_again(crowd: Iterable[Customer], server: Server) -> None:
    """Let everybody who got no answer try once more."""
    for customer in crowd:
        if "place" not in customer.answers:
            customer.place(server)


def in_flight(crowd: Iterable[Customer], server: Server) -> list[Customer]:
    """Return those who have been answered and whose order has not come to its end."""
    return [customer for customer in crowd if "place" in customer.answers and not server.facts.of(customer.order_id, *ENDS)]


def seconds_to_end(crowd: Iterable[Customer], server: Server, *, since: float) -> float:
    """Wait until every order has come to its end; return how long that took since a moment of `time.monotonic`."""
    for customer in crowd:
        server.facts.wait(customer.order_id, *ENDS)
    return time.monotonic() - since
