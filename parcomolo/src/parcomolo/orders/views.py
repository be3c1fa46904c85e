"""The materialised status of an order: the order as its events tell it, and the story of it from all services.

An answer is causally closed: a fact waits until the fact that caused it is in the story, and a turn of the order
waits for everything it stands on. Waiting cannot lock up, because causes are always older than what they cause.
"""

from __future__ import annotations

from datetime import datetime

from millrace import Context, NotYet, View
from parcomolo.contracts.operations import DeliveryLate
from parcomolo.contracts.orders import OrderPlaced
from parcomolo.contracts.payments import RefundFailed
from parcomolo.orders.checkout import CheckoutFact, progressed
from parcomolo.orders.order import Order, OrderFact, Status, evolve
from parcomolo.orders.timeline import Entry, entry_of, missing

Aside = RefundFailed | DeliveryLate
"""Facts that are part of the story and change nothing about the order."""
Fact = OrderFact | CheckoutFact | Aside


class OrderStatus(View, key="order_id", lookups=("status", "customer_id"), sort="placed_at", version=1):
    """An order with its story; `status`, `customer_id` and `placed_at` repeat the order's, to be found by."""

    order_id: str
    status: Status
    customer_id: str
    placed_at: datetime
    order: Order
    timeline: tuple[Entry, ...]


def order_status(view: OrderStatus | None, event: Fact, context: Context) -> OrderStatus | None:
    """Tell one more fact, when everything it stands on has been told."""
    told = view.timeline if view is not None else ()
    if any(entry.id == context.id for entry in told):
        return None
    before = view.order if view is not None else None
    order = _after(before, event)
    if before is not None and isinstance(event, CheckoutFact) and order.progress == before.progress:
        return None  # the answer to a repeated command, said again
    if reason := missing(event, told, context.causation_id, in_review=before is not None and before.in_review):
        raise NotYet(reason)
    return OrderStatus(
        order_id=order.order_id,
        status=order.status,
        customer_id=order.customer_id,
        placed_at=order.placed_at,
        order=order,
        timeline=(*told, entry_of(event, context)),
    )


def _after(order: Order | None, event: Fact) -> Order:
    if isinstance(event, OrderPlaced):
        return evolve(order, event)
    if order is None:
        raise NotYet("order-placed")
    if isinstance(event, Aside):
        return order
    return evolve(order, progressed(event) if isinstance(event, CheckoutFact) else event)
