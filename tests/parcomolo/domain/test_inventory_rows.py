"""Which rows inventory's decisions get, on the real service: a fact that names an order finds the rows of the order's products."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from millrace import Application, Event, ManualClock
from millrace.engines.sqlite import SqliteEngine
from millrace.testing import settled
from millrace.testing.conformance.lab import foreign, put
from parcomolo.contracts.inventory import CommitStock, ReleaseStock, ReserveStock
from parcomolo.contracts.orders import OrderReviewEnded
from parcomolo.contracts.payments import PaymentFailed, PaymentSucceeded
from parcomolo.contracts.shipping import ItemShipped, ShippingFailed
from parcomolo.inventory.service import build
from parcomolo.inventory.stock import Stock
from parcomolo.settings import Settings
from tests.parcomolo.domain.examples import NOON, line, pieces, placed

SHIPPED = ItemShipped(order_id="o1", shipment_id="s")
PAID = PaymentSucceeded(order_id="o1", payment_id="p", amount=line().unit_price)
UNPAID = PaymentFailed(order_id="o1", payment_id="p", reason="card_declined")
FAILED = ShippingFailed(order_id="o1", shipment_id="s", reason="x")
TWO = (pieces("cheese", 2), pieces("bland", 1))


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Application]:
    """Inventory alone, with the opening stock: 50 of cheese, 100 of bland."""
    application = Application("parcomolo", [build(Settings(), orchestrated=False)], engine=SqliteEngine(tmp_path), clock=ManualClock(NOON))
    async with application:
        yield application


async def hear(app: Application, *facts: Event) -> None:
    """Let inventory read facts of others."""
    for number, fact in enumerate(facts):
        topic = type(fact).__declaration__.topic
        await put(app, topic, ("o1", foreign(app, fact, id=f"{type(fact).__name__} {number}")))
    await settled(app, timeout=20)


async def shelf(app: Application, sku: str = "cheese") -> tuple[int, int]:
    """Return what is on hand and reserved."""
    row = await app.states(Stock).get(sku)
    assert row is not None
    return row.on_hand, row.reserved


@pytest.mark.parametrize("fact, left", [(SHIPPED, (48, 0)), (UNPAID, (50, 0)), (FAILED, (50, 0)), (PAID, (50, 2))])
async def test_a_fact_about_an_order_moves_its_products(app: Application, fact: Event, left: tuple[int, int]):
    """Shipped takes out, failures give back, a payment in time moves nothing."""
    await app.execute(ReserveStock(order_id="o1", lines=TWO))
    assert await shelf(app) == (50, 2)
    await hear(app, fact)
    assert await shelf(app) == left
    assert (await shelf(app, "bland"))[1] == left[1] // 2


async def test_a_review_ends_in_a_reservation(app: Application):
    """The content is known from the placed order, the rows from the reservation."""
    await hear(app, placed("o1", line("cheese", 3), review_until=NOON + timedelta(hours=1)))
    assert await shelf(app) == (50, 0)
    await hear(app, OrderReviewEnded(order_id="o1"))
    assert await shelf(app) == (50, 3)


async def test_a_payment_renews_what_has_expired(app: Application):
    """Reserved until a moment that is over: given back at once; the payment that won the race reserves again."""
    await app.execute(ReserveStock(order_id="o1", lines=TWO, expires_at=NOON))
    await settled(app, timeout=20)
    assert await shelf(app) == (50, 0)
    await hear(app, PAID)
    assert await shelf(app) == (50, 2)
    await hear(app, SHIPPED)
    assert await shelf(app) == (48, 0)


async def test_commands_of_one_commit_find_the_rows_of_one_another(app: Application):
    """Reserved, released and committed by commands that are decided together; two orders share a product."""
    commands = (
        ReserveStock(order_id="o1", lines=TWO),
        ReserveStock(order_id="o2", lines=(pieces("cheese", 5),)),
        ReleaseStock(order_id="o1", reason="bored"),
        CommitStock(order_id="o2"),
    )
    before = app.hosts["inventory"].writer.commits
    await asyncio.gather(*(app.execute(command) for command in commands))
    assert app.hosts["inventory"].writer.commits == before + 1
    assert await shelf(app) == (45, 0)
    assert await shelf(app, "bland") == (100, 0)
