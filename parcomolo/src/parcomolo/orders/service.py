"""The service orders: the aggregate, the copy of the catalogue's prices, and the status view."""

from __future__ import annotations

from millrace import Service
from parcomolo.contracts.inventory import StockReserved
from parcomolo.contracts.orders import OrderCommandRejected
from parcomolo.contracts.payments import PaymentSucceeded
from parcomolo.contracts.shipping import ItemShipped, ShippingScheduled
from parcomolo.orders.domain import decide
from parcomolo.orders.order import Order, evolve
from parcomolo.orders.prices import Price, copy_price
from parcomolo.orders.views import OrderStatus, order_status

STEPS = (StockReserved, PaymentSucceeded, ShippingScheduled, ItemShipped)
"""Nobody on an order's way waits for what it says of these: the others go on by the facts themselves, and `StockCommitted` is the last."""


def build() -> Service:
    """Return the service."""
    orders = Service("orders", rejection=OrderCommandRejected)
    orders.aggregate(Order, decide=decide, evolve=evolve, patient=STEPS)
    orders.handler(price=Price.by("sku"))(copy_price)
    orders.view(OrderStatus)(order_status)
    return orders
