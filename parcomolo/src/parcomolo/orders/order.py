"""The order as its events tell it: state and how it evolves. Pure, so replay gives the same order every time, dates
included.

Neighbours: `domain` decides on this state; the status view folds the same events with the same function.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
from msgspec.structs import replace

from parcomolo.contracts.lines import Line, ShipTo, merged, without
from parcomolo.contracts.money import Money
from parcomolo.contracts.orders import (
    OrderCancellationRefused,
    OrderCancellationRequested,
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderDelivered,
    OrderExpired,
    OrderHeld,
    OrderLineAdded,
    OrderLineRemoved,
    OrderPlaced,
    OrderRejected,
    OrderReviewEnded,
    OrderSettlementBegun,
    OrderSettlementRefused,
)
from parcomolo.orders.checkout import (
    FulfilmentStatus,
    PaymentStatus,
    Progress,
    advanced,
    fulfilment_status_of,
    payment_status_of,
)
from parcomolo.orders.messages import CheckoutProgressed

Status = Literal["pending", "on_hold", "confirmed", "completed", "cancelling", "cancelled", "rejected", "expired"]
Outcome = Literal["cancelled", "completed"]
ContentFact = OrderPlaced | OrderLineAdded | OrderLineRemoved | OrderReviewEnded
EndingFact = OrderRejected | OrderCancelled | OrderExpired | OrderCompleted
SettlementFact = OrderSettlementBegun | OrderSettlementRefused
StatusFact = OrderConfirmed | OrderCancellationRequested | OrderCancellationRefused | OrderHeld | SettlementFact | EndingFact
OrderFact = ContentFact | StatusFact | OrderDelivered
OrderEvent = OrderFact | CheckoutProgressed


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """How an operator ends an order that is on hold, or has ended it: since when, why, and who it is."""

    outcome: Outcome
    reason: str
    by: str
    at: datetime


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An order with its three axes. `version` counts its events; `progress`, `confirmed`, `settlement` and `settled` are its memory."""

    order_id: str
    number: str
    customer_id: str
    lines: tuple[Line, ...]
    total: Money
    ship_to: ShipTo | None = None
    status: Status = "pending"
    payment_status: PaymentStatus = "unpaid"
    fulfilment_status: FulfilmentStatus = "unfulfilled"
    reason: str | None = None
    placed_at: datetime
    version: int = 0
    review_until: datetime | None = None
    review_ended: bool = False
    confirmed: bool = False
    settlement: Settlement | None = None
    settled: bool = False
    delivered_at: datetime | None = None
    progress: Progress = Progress()

    @property
    def in_review(self) -> bool:
        """Its content may still change: checkout has not begun."""
        return self.status == "pending" and self.review_until is not None and not self.review_ended


def evolve(order: Order | None, event: OrderEvent) -> Order:
    """Return the order after an event."""
    if isinstance(event, OrderPlaced):
        return _placed(event)
    if order is None:
        raise ValueError(f"{type(event).__name__} before OrderPlaced: the stream of {event.order_id!r} is broken")
    return replace(_changed(order, event), version=order.version + 1)


def _placed(event: OrderPlaced) -> Order:
    return Order(
        order_id=event.order_id,
        number=event.number,
        customer_id=event.customer_id,
        lines=event.lines,
        total=event.total,
        ship_to=event.ship_to,
        placed_at=event.placed_at,
        review_until=event.review_until,
        version=1,
    )


def _changed(order: Order, event: OrderEvent) -> Order:
    match event:
        case CheckoutProgressed():
            return _followed(order, event)
        case OrderLineAdded():
            added = Line(sku=event.sku, name=event.name, quantity=event.quantity, unit_price=event.unit_price)
            return replace(order, lines=merged(order.lines, added), total=event.total)
        case OrderLineRemoved():
            left = without(order.lines, sku=event.sku, quantity=event.quantity)
            return replace(order, lines=left, total=event.total)
        case OrderReviewEnded():
            return replace(order, review_ended=True)
        case OrderDelivered():
            return replace(order, delivered_at=event.delivered_at, fulfilment_status="delivered")
        case OrderPlaced():
            return order
        case _:
            return _turned(order, event)


def _turned(order: Order, event: StatusFact) -> Order:
    match event:
        case OrderConfirmed():
            return replace(order, status="confirmed", confirmed=True)
        case OrderCancellationRequested():
            return replace(order, status="cancelling", reason=event.reason)
        case OrderCancellationRefused():
            return replace(order, status="confirmed" if order.confirmed else "pending", reason=None)
        case OrderHeld():
            return replace(order, status="on_hold", reason=event.reason)
        case OrderSettlementBegun(outcome=outcome, reason=reason, by=by, at=at):
            return replace(order, settlement=Settlement(outcome=outcome, reason=reason, by=by, at=at))
        case OrderSettlementRefused():
            return replace(order, settlement=None)
        case OrderRejected():
            return replace(order, status="rejected", reason=event.reason)
        case OrderCancelled():
            return replace(order, status="cancelled", reason=event.reason, settled=event.settled_by is not None)
        case OrderExpired():
            return replace(order, status="expired", reason="reservation_expired")
        case OrderCompleted():
            return replace(order, status="completed", reason=event.reason, settled=event.settled_by is not None)


def _followed(order: Order, step: CheckoutProgressed) -> Order:
    progress = advanced(order.progress, step)
    fulfilment = "delivered" if order.delivered_at else fulfilment_status_of(progress)
    return replace(order, progress=progress, payment_status=payment_status_of(progress), fulfilment_status=fulfilment)
