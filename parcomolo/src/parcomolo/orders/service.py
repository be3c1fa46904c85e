"""The service orders: the aggregate, the copy of the catalogue's prices, and the status view.

In choreography it ends orders by what it learns from the facts of others; in orchestration it is told by commands, and the same facts tell
how far the others are.
"""

from __future__ import annotations

from millrace import Service
from parcomolo.contracts.inventory import (
    CommitStock,
    OutOfStock,
    ReleaseStock,
    ReservationExpired,
    StockCommitted,
    StockReleased,
    StockReserved,
)
from parcomolo.contracts.orders import OrderCommandRejected, OrderStandsCompleted, OrderStandsConfirmed
from parcomolo.contracts.payments import PaymentFailed, PaymentRefunded, PaymentSucceeded, RefundPayment
from parcomolo.contracts.shipping import CancelShipping, ItemShipped, ShippingCancelled, ShippingFailed, ShippingScheduled
from parcomolo.orders.domain import decide, decide_as_told
from parcomolo.orders.order import Order, evolve
from parcomolo.orders.prices import Price, copy_price
from parcomolo.orders.views import OrderStatus, order_status

STEPS = (StockReserved, PaymentSucceeded, ShippingScheduled, ItemShipped)
"""Nobody on an order's way waits for what it says of these: the others go on by the facts themselves, and `StockCommitted` is the last."""
OTHERS = (OutOfStock, StockReleased, StockCommitted, ReservationExpired, PaymentFailed, PaymentRefunded, ShippingFailed, ShippingCancelled)
"""Where it is told what follows, nobody waits for these either."""
TOLD = (OrderStandsConfirmed, OrderStandsCompleted, ReleaseStock, RefundPayment, CancelShipping, CommitStock)
"""What it says where it is told what follows, besides its facts: answers, and what an operator's settlement asks of the others."""


def build(*, orchestrated: bool) -> Service:
    """Return the service for one of the two styles."""
    orders = Service("orders", says=TOLD if orchestrated else (), rejection=OrderCommandRejected)
    if orchestrated:
        orders.aggregate(Order, decide=decide_as_told, evolve=evolve, patient=(*STEPS, *OTHERS))
    else:
        orders.aggregate(Order, decide=decide, evolve=evolve, patient=STEPS)
    orders.handler(price=Price.by("sku"))(copy_price)
    orders.view(OrderStatus)(order_status)
    return orders
