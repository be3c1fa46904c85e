"""The story of an order in short sentences, one per fact, and which facts a fact may not be shown without. Pure.

Neighbours: the status view appends an `Entry` per fact and waits as `missing` says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

import msgspec

from millrace import Context, Event
from parcomolo.contracts import inventory, operations, orders, payments, shipping
from parcomolo.orders.checkout import VOIDED_BECAUSE

Sentence = Callable[[Any], str]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A fact in the story; `id` and `causation` are those of its envelope."""

    type: str
    at: datetime
    service: str
    text: str
    id: str
    causation: str = ""


def _pieces(fact: inventory.StockReserved | inventory.StockReleased) -> str:
    count = sum(line.quantity for line in fact.lines)
    return "1 piece" if count == 1 else f"{count} pieces"


def _released(fact: inventory.StockReleased) -> str:
    return f"Stock released: {_pieces(fact)}." if fact.lines else "Stock released: nothing was reserved."


def _cancelled_shipping(fact: shipping.ShippingCancelled) -> str:
    return "Shipping cancelled." if fact.shipment_id else "Shipping cancelled: nothing was booked."


def _failed_payment(fact: payments.PaymentFailed) -> str:
    if fact.reason in VOIDED_BECAUSE and fact.amount is None:
        return f"Payment called off: nothing was charged ({_words(fact.reason)})."
    return f"Payment failed: {_words(fact.reason)}."


# A sentence is "<title>." or "<title>: <what is special>."; a page shows the title by itself and then the rest.
STORY: dict[type[Event], tuple[str, Sentence]] = {
    orders.OrderPlaced: ("order-placed", lambda f: f"Order placed: {f.number}, {f.total}."),
    orders.OrderLineAdded: ("order-line-added", lambda f: f"Line added: {f.quantity} x {f.name}."),
    orders.OrderLineRemoved: ("order-line-removed", lambda f: f"Line removed: {f.quantity} x {f.sku}."),
    orders.OrderReviewEnded: ("order-review-ended", lambda _: "Content final: checkout begins."),
    orders.OrderConfirmed: ("order-confirmed", lambda _: "Order confirmed."),
    orders.OrderRejected: ("order-rejected", lambda f: f"Order rejected: {_words(f.reason)}."),
    orders.OrderCancellationRequested: (
        "order-cancellation-requested",
        lambda f: f"Cancellation requested: {f.reason}.",
    ),
    orders.OrderCancellationRefused: (
        "order-cancellation-refused",
        lambda f: f"Cancellation refused: {_words(f.reason)}.",
    ),
    orders.OrderCancelled: ("order-cancelled", lambda f: f"Order cancelled: {f.reason}."),
    orders.OrderExpired: ("order-expired", lambda _: "Order expired: it was not paid in time."),
    orders.OrderCompleted: ("order-completed", lambda _: "Order completed."),
    orders.OrderDelivered: ("order-delivered", lambda _: "Delivered."),
    inventory.StockReserved: ("stock-reserved", lambda f: f"Stock reserved: {_pieces(f)}."),
    inventory.OutOfStock: ("out-of-stock", lambda f: f"Out of stock: {', '.join(s.sku for s in f.short)}."),
    inventory.StockReleased: ("stock-released", _released),
    inventory.StockCommitted: ("stock-committed", lambda _: "Stock booked out."),
    inventory.ReservationExpired: ("reservation-expired", lambda _: "Reservation expired."),
    payments.PaymentSucceeded: ("payment-succeeded", lambda f: f"Payment received: {f.amount}."),
    payments.PaymentFailed: ("payment-failed", _failed_payment),
    payments.PaymentRefunded: ("payment-refunded", lambda f: f"Payment refunded: {f.amount}."),
    payments.RefundFailed: ("refund-failed", lambda f: f"Refund failed: {_words(f.reason)}."),
    shipping.ShippingScheduled: ("shipping-scheduled", lambda _: "Shipping scheduled."),
    shipping.ItemShipped: ("item-shipped", lambda _: "Shipped: the parcel is on its way."),
    shipping.ShippingFailed: ("shipping-failed", lambda f: f"Shipping failed: {_words(f.reason)}."),
    shipping.ShippingCancelled: ("shipping-cancelled", _cancelled_shipping),
    operations.DeliveryLate: ("delivery-late", lambda f: f"Delivery late: {f.seconds:.0f} seconds so far."),
}


def _words(reason: str) -> str:
    return reason.replace("_", " ")


def entry_of(fact: Event, context: Context) -> Entry:
    """Return a fact as an entry of the story."""
    name, sentence = STORY[type(fact)]
    return Entry(
        type=name,
        at=context.time,
        service=context.source.rsplit("/", 1)[-1],
        text=sentence(fact),
        id=context.id,
        causation=context.causation_id,
    )


_FACT_ID = re.compile(r"(orders|inventory|payments|shipping|operations)-\d+-\d+")
_STOCK_UNDONE = {"stock-released", "out-of-stock"}
_PAYMENT_UNDONE = {"payment-failed", "payment-refunded"}

ONLY_AFTER: dict[str, tuple[set[str], ...]] = {
    "order-confirmed": ({"stock-reserved"}, {"payment-succeeded"}),
    "order-completed": ({"item-shipped"}, {"stock-committed"}),
    "order-cancellation-refused": ({"item-shipped"},),
    "order-cancelled": ({"shipping-cancelled", "shipping-failed"}, _STOCK_UNDONE, _PAYMENT_UNDONE),
    "order-expired": ({"reservation-expired"}, {"payment-failed"}),
    "order-rejected/out_of_stock": ({"out-of-stock"},),
    "order-rejected/payment_failed": ({"payment-failed"}, {"stock-released"}),
    "order-rejected/shipping_failed": ({"shipping-failed"}, {"payment-refunded"}, _STOCK_UNDONE),
}
"""What a turn of the order stands on: one fact of each set. Its direct cause is only the last of them."""


def missing(fact: Event, entries: Collection[Entry], causation_id: str) -> str | None:
    """Return what must be in the story before the fact, or None when everything is."""
    if _FACT_ID.fullmatch(causation_id) and all(entry.id != causation_id for entry in entries):
        return f"its cause {causation_id}"
    told = {entry.type for entry in entries}
    return next((" or ".join(sorted(ground)) for ground in _grounds(fact, told) if not ground & told), None)


def _grounds(fact: Event, told: set[str]) -> tuple[set[str], ...]:
    name = STORY[type(fact)][0]
    if not isinstance(fact, orders.OrderRejected):
        return ONLY_AFTER.get(name, ())
    grounds = ONLY_AFTER.get(f"{name}/{fact.reason}", ())
    if fact.reason == "out_of_stock" and "reservation-expired" in told:
        return (*grounds, _PAYMENT_UNDONE)
    return grounds
