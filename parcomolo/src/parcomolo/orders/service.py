"""The service orders: the aggregate, the copy of the catalogue's prices, and the status view."""

from __future__ import annotations

from millrace import Service
from parcomolo.contracts.inventory import StockReserved
from parcomolo.contracts.orders import OrderCommandRejected
from parcomolo.contracts.shipping import ShippingScheduled
from parcomolo.orders.domain import decide
from parcomolo.orders.order import Order, evolve
from parcomolo.orders.prices import Price, copy_price
from parcomolo.orders.views import OrderStatus, order_status


def build() -> Service:
    """Return the service."""
    orders = Service("orders", rejection=OrderCommandRejected)
    # What follows from these two alone is nothing: the order goes on when it is paid and when the parcel has left.
    orders.aggregate(Order, decide=decide, evolve=evolve, patient=(StockReserved, ShippingScheduled))
    orders.handler(price=Price.by("sku"))(copy_price)
    orders.view(OrderStatus)(order_status)
    return orders
