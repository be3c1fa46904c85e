"""What must hold of a shop in which everything has come to its end, however often it died on the way.

Neighbours: tests call `check_shop` on a running server that has settled, and `check_files` on its folder when it has stopped.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path as Folder
from typing import Any

from millrace.testing.crash import Zygote
from parcomolo.payments.provider import Charge, SimulatedProvider
from tests.crash.path import BASKETS, BUYER, ENDS, Customer
from tests.crash.shop import Server, ledger_of, name_of
from tests.shop_log import Pen
from tests.shop_places import files_of

PROVIDER_LEDGER = "payment-provider.db"
ANSWERS = {
    "stock-reserved": "reserve-stock",
    "stock-committed": "commit-stock",
    "stock-released": "release-stock",
    "payment-succeeded": "process-payment",
    "payment-refunded": "refund-payment",
    "item-shipped": "schedule-shipping",
}
"""Facts of which there is one, and by which command each is asked for."""


def check_answered(server: Server, customers: Sequence[Customer]) -> None:
    """Every order that was answered 201 exists."""
    for customer in customers:
        if "place" in customer.answers:
            server.get(f"/api/orders/{customer.order_id}")
            server.get(f"/api/orders/{customer.order_id}/events")


def check_shop(
    server: Server, customers: Sequence[Customer], *, before: Sequence[Customer] = (), received: Mapping[str, int] | None = None
) -> None:
    """One end per order, and everybody agrees about it.

    Args:
        server: of a shop whose orders come to their end.
        customers: whose orders are looked at one by one.
        before: everybody else who has ever ordered; they count.
        received: pieces of each product that were added since the opening.
    """
    _await_rewards(server, [*before, *customers])
    server.settle()
    for customer in customers:
        _check_order(server, customer)
    check_totals(server, [*before, *customers], received=received)
    health = server.get("/health")
    assert health["status"] == "ok", health


def _await_rewards(server: Server, customers: Sequence[Customer]) -> None:
    """Return when the deliveries are counted and what they have earned is published.

    A fact that waits in a journal is behind nobody's position yet: a relay that takes over from one that was killed needs some time for the
    first of them, in which nobody lags and nobody commits.
    """
    delivered = [customer for customer in customers if customer.path.delivered]
    for customer in delivered[-len(BASKETS) :]:
        server.get(f"/api/rewards/{BUYER}", Millrace_Position=customer.deliver_position)
    earned = len(delivered) // 3
    server.facts.until(lambda: len(server.facts.of(BUYER, "reward-granted")) >= earned, f"{earned} rewards of {BUYER}")


def check_totals(server: Server, customers: Sequence[Customer], *, received: Mapping[str, int] | None = None) -> None:
    """The list of orders, stock, reports and rewards are those of these customers, and of nobody else.

    Args:
        server: of a shop that has settled.
        customers: everybody who has ever ordered.
        received: pieces of each product that were added since the opening.
    """
    orders = list(_orders(server))
    assert sorted(order["order_id"] for order in orders) == sorted(customer.order_id for customer in customers)
    status = {order["order_id"]: (order["status"], order["payment_status"]) for order in orders}
    wrong = [(c.order_id, c.path.name, found) for c in customers if (found := status[c.order_id]) not in (c.path.status, *c.path.also)]
    assert not wrong, wrong
    _check_stock(server, customers, received or {})
    _check_reports(server, customers)
    _check_rewards(server, customers)


def _orders(server: Server) -> Iterator[dict[str, Any]]:
    """Every order, newest first."""
    page = server.get("/api/orders?limit=1000")
    yield from page["items"]
    while page["next"]:
        page = server.get(f"/api/orders?limit=1000&cursor={page['next']}")
        yield from page["items"]


def _check_order(server: Server, customer: Customer) -> None:
    path, order_id = customer.path, customer.order_id
    order = server.get(f"/api/orders/{order_id}", Millrace_Position=customer.place_position)
    told = Counter(event["type"].split(".")[-2] for event in server.get(f"/api/orders/{order_id}/events"))
    payments = server.get(f"/api/payments?order_id={order_id}")

    assert (order["status"], order["payment_status"]) in (path.status, *path.also), order
    check_story(told, customer)
    assert len(payments) == 1, payments


def check_story(facts: Mapping[str, int], customer: Customer, *, asked_again: bool = False) -> None:
    """An order has one beginning and one end, and nothing was said twice on the way.

    Args:
        facts: how often each was told, with commands where these are known.
        customer: whose order it is.
        asked_again: there was time for answers to be overdue: one is told for each time that its command was sent.
    """
    place = (customer.order_id, facts)
    assert {name: facts[name] for name in ENDS if facts[name]} == {customer.path.end: 1}, place
    assert facts["order-placed"] == 1, place
    assert facts["order-delivered"] == int(customer.path.delivered), place
    most = {name: max(1, facts[command]) if asked_again else 1 for name, command in ANSWERS.items()}
    assert all(facts[name] <= most[name] for name in ANSWERS), place


def _check_stock(server: Server, customers: Sequence[Customer], received: Mapping[str, int]) -> None:
    """What is there and what was sold make the opening stock, and nothing is reserved any more."""
    sold = Counter[str]()
    for customer in customers:
        if customer.path.sold:
            sold.update(dict(customer.basket))
    for level in server.get("/api/stock"):
        there = level["initial"] + received.get(level["sku"], 0)
        assert (level["on_hand"] + sold[level["sku"]], level["reserved"]) == (there, 0), (level, sold)


def _check_reports(server: Server, customers: Sequence[Customer]) -> None:
    ends = Counter(customer.path.end for customer in customers)
    expected = {"total": len(customers), "succeeded": ends["order-completed"], "failed": ends["order-rejected"]}
    assert server.get("/api/reports/orders") == expected


def _check_rewards(server: Server, customers: Sequence[Customer]) -> None:
    """One reward per third delivery, and no other."""
    deliveries = sum(customer.path.delivered for customer in customers)
    rewards: dict[str, Any] = server.get(f"/api/rewards/{BUYER}")
    assert (rewards["purchases"], len(rewards["rewards"])) == (deliveries, deliveries // 3), rewards


def check_files(zygote: Zygote, data: Folder, customers: Sequence[Customer], *, log: Folder) -> None:
    """What was published is published once, the provider has charged as the paths say, and the installation's ledger balances."""
    _check_log(data, customers)
    check_provider(files_of(data), customers)
    ledger_of(zygote, data, log=log)


def facts_in(data: Folder) -> list[dict[str, Any]]:
    """Return every record of the log, internal ones too, those of a topic together."""

    async def read() -> dict[str, list[bytes]]:
        async with Pen(data) as pen:
            return await pen.records()

    return [json.loads(value) for values in asyncio.run(read()).values() for value in values]


def _check_log(data: Folder, customers: Sequence[Customer]) -> None:
    facts = facts_in(data)
    repeated = [place for place, times in Counter((fact["source"], fact["id"]) for fact in facts).items() if times > 1]
    assert not repeated, repeated
    for customer in customers:
        check_story(Counter(name_of(fact) for fact in facts if fact["partitionkey"] == customer.order_id), customer)
    rewards = [fact["data"] for fact in facts if name_of(fact) == "reward-granted"]
    assert len(rewards) == sum(customer.path.delivered for customer in customers) // 3, rewards


def check_provider(data: Folder, customers: Sequence[Customer]) -> None:
    """The provider has charged each order once, as its path says."""
    with closing(SimulatedProvider(data / PROVIDER_LEDGER)) as provider:
        charges: dict[str, Charge] = {charge.key: charge for charge in provider.charges()}
    assert charges.keys() == {f"pay-{customer.order_id}" for customer in customers}
    for customer in customers:
        charge = charges[f"pay-{customer.order_id}"]
        assert charge.state in customer.path.charge, charge
        assert charge.amount.amount == customer.answers["place"].json["total"]["amount"], charge
