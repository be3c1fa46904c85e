"""Every context wired as a service on the embedded engine: what the pure functions decide reaches whom it should."""

from __future__ import annotations

from datetime import timedelta

import pytest

from millrace import Application
from millrace.engines.sqlite import SqliteEngine
from millrace.testing import ManualClock, advance, settled
from parcomolo.catalogue import service as catalogue
from parcomolo.catalogue.domain import Product
from parcomolo.catalogue.seed import PRODUCTS
from parcomolo.checkout import service as checkout
from parcomolo.configuration import ORCHESTRATION, STYLES
from parcomolo.contracts.lines import ShipTo
from parcomolo.contracts.orders import CancelOrder
from parcomolo.inventory import service as inventory
from parcomolo.inventory.stock import Stock
from parcomolo.operations import service as operations
from parcomolo.operations.views import Alert
from parcomolo.orders import service as orders
from parcomolo.orders.messages import DeliverOrder, PlaceOrder
from parcomolo.orders.prices import Price, priced
from parcomolo.orders.views import OrderStatus
from parcomolo.payments import service as payments
from parcomolo.payments.provider import SimulatedProvider
from parcomolo.payments.views import Payment
from parcomolo.reports import service as reports
from parcomolo.reports.views import ALL, OrderCounts, ProductSales
from parcomolo.rewards import service as rewards
from parcomolo.rewards.domain import Rewards
from parcomolo.settings import Settings
from parcomolo.shipping import service as shipping
from parcomolo.shipping.carrier import SimulatedCarrier
from parcomolo.shipping.views import Shipment
from tests.parcomolo.domain.examples import pieces

SETTINGS = Settings()


@pytest.fixture
def clock():
    """Return a clock that stands still."""
    return ManualClock()


@pytest.fixture(params=STYLES)
def style(request):
    """Return how the services work together."""
    return request.param


@pytest.fixture
async def shop(tmp_path, clock, style):
    """Return the whole platform, started, on a fresh folder."""
    provider = SimulatedProvider(tmp_path / "provider.sqlite")
    orchestrated = style == ORCHESTRATION
    services = (
        catalogue.build(),
        orders.build(orchestrated=orchestrated),
        inventory.build(SETTINGS, orchestrated=orchestrated),
        payments.build(provider, orchestrated=orchestrated),
        shipping.build(SETTINGS, SimulatedCarrier(), orchestrated=orchestrated),
        *([checkout.build()] if orchestrated else []),
        rewards.build(),
        operations.build(SETTINGS),
        reports.build(),
    )
    async with Application("parcomolo", services, engine=SqliteEngine(tmp_path / "data"), clock=clock) as app:
        await settled(app, timeout=20)
        yield app
    provider.close()


async def place(shop, order_id, sku="cheese", quantity=1, *, token="tok_ok", to="Ada"):
    """Place an order at the prices of the catalogue."""
    prices = await shop.states(Price).get_many([sku])
    lines = priced([pieces(sku, quantity)], prices)
    command = PlaceOrder(order_id=order_id, customer_id="c1", lines=lines, payment_token=token, ship_to=ShipTo(name=to))
    await shop.execute(command)


async def status_of(shop, order_id):
    """Return an order's materialised status."""
    return (await shop.views(OrderStatus).get(order_id)).order


async def test_the_first_start_fills_catalogue_prices_and_shelves(shop):
    """Each of the three keeps its own: products, the copy of their prices, and the opening stock."""
    skus = {product.sku for product in PRODUCTS}
    for state in (Product, Price, Stock):
        assert {row.sku for row in (await shop.states(state).list()).items} == skus


async def test_an_order_goes_all_the_way(shop, clock):
    """Reserved, paid, scheduled; shipped after the delay; delivered; counted in lists and reports."""
    for number in range(3):
        await place(shop, f"o{number}", "a-lot-of-cheese", 2)
    await settled(shop, timeout=20)
    assert (await status_of(shop, "o0")).fulfilment_status == "scheduled"
    await advance(shop, clock, SETTINGS.shipping_delay, timeout=20)
    assert (await status_of(shop, "o0")).status == "completed"
    for number in range(3):
        await shop.execute(DeliverOrder(order_id=f"o{number}"))
    await settled(shop, timeout=20)
    stock = await shop.states(Stock).get("a-lot-of-cheese")
    assert (stock.on_hand, stock.reserved) == (19, 0)
    assert (await shop.states(Rewards).get("c1")).purchases == 3
    assert [row.status for row in (await shop.views(Payment).list(order_id="o1")).items] == ["succeeded"]
    assert [row.status for row in (await shop.views(Shipment).list(order_id="o1")).items] == ["shipped"]
    assert [row.quantity for row in (await shop.views(ProductSales).list()).items] == [6]
    assert await shop.views(OrderCounts).get(ALL) == OrderCounts(total=3, succeeded=3)
    assert (await shop.views(Alert).list()).items == ()


async def test_what_goes_wrong_is_undone_and_what_is_late_is_said(shop, clock):
    """Out of stock, declined, not shipped, cancelled, not delivered: each ends as it should, with nothing kept."""
    await place(shop, "short", "a-lot-of-cheese", 26)
    await place(shop, "declined", token="tok_declined")
    await place(shop, "unshipped", to="FAIL_SHIPPING")
    await place(shop, "cancelled")
    await shop.execute(CancelOrder(order_id="cancelled", reason="changed my mind"))
    await place(shop, "slow", "bland")
    await settled(shop, timeout=20)
    await advance(shop, clock, SETTINGS.shipping_delay, timeout=20)
    await advance(shop, clock, SETTINGS.late_delivery + SETTINGS.late_grace + timedelta(seconds=1), timeout=20)
    ends = {order_id: await status_of(shop, order_id) for order_id in ("short", "declined", "unshipped", "cancelled")}
    assert {order_id: (order.status, order.reason) for order_id, order in ends.items()} == {
        "short": ("rejected", "out_of_stock"),
        "declined": ("rejected", "payment_failed"),
        "unshipped": ("rejected", "shipping_failed"),
        "cancelled": ("cancelled", "changed my mind"),
    }
    assert (await shop.states(Stock).get("cheese")).available == 50
    assert [row.order_id for row in (await shop.views(Alert).list()).items] == ["slow"]
