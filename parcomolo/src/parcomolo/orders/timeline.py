"""The story of an order in short sentences, one per fact, and which facts a fact may not be shown without. Pure.

Neighbours: the status view appends an `Entry` per fact and waits as `missing` says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any

import msgspec

from millrace import Context, Event
from parcomolo.contracts import inventory, operations, orders, payments, shipping
from parcomolo.contracts.closing import CLOSED_BY
from parcomolo.contracts.payments import VOIDED_BECAUSE

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


def _completed(fact: orders.OrderCompleted) -> str:
    return f"Order completed: {fact.reason}." if fact.reason else "Order completed."


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
    orders.OrderHeld: ("order-held", lambda f: f"Order held: {f.reason}."),
    orders.OrderSettlementBegun: ("order-settlement-begun", lambda f: f"Settlement begun: {f.outcome}, {f.reason}."),
    orders.OrderSettlementRefused: ("order-settlement-refused", lambda f: f"Settlement refused: {_words(f.reason)}."),
    orders.OrderCompleted: ("order-completed", _completed),
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
NAMES = frozenset(name for name, _ in STORY.values())


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


NO_ANSWER = "no_answer"
"""What `order-rejected` says in detail where a step got no answer, so that no fact stands behind it."""
_UNDOING = (
    inventory.StockReleased,
    payments.PaymentFailed,
    payments.PaymentRefunded,
    shipping.ShippingCancelled,
    shipping.ShippingFailed,
)
"""Facts whose reason is that of an undo command, where one led to them; whoever orchestrates chooses the word, not a person."""
FAILURES = {"out_of_stock": "out-of-stock", "payment_failed": "payment-failed", "shipping_failed": "shipping-failed"}
_FACT_ID = re.compile(r"(orders|inventory|payments|shipping|operations)-\d+-\d+")
_COMMANDED = re.compile(r"checkout-\d+-\d+")
"""The id of a command of whoever orchestrates. Commands are no part of the story, so `TOLD_AFTER` says what stood behind them."""
Ground = AbstractSet[str]
"""Names of facts of which one must have been told."""

ONLY_AFTER: dict[str, tuple[Ground, ...]] = {
    "order-confirmed": ({"stock-reserved"}, {"payment-succeeded"}),
    "order-completed": ({"item-shipped"}, {"stock-committed"}),
    "order-cancellation-refused": ({"item-shipped"},),
    "order-cancelled": (CLOSED_BY["shipping"], CLOSED_BY["stock"], CLOSED_BY["payment"]),
    "order-expired": ({"reservation-expired"}, {"payment-failed"}),
    "order-rejected/out_of_stock": ({"out-of-stock"},),
    "order-rejected/payment_failed": ({"payment-failed"}, {"stock-released"}),
    "order-rejected/shipping_failed": ({"shipping-failed"}, {"payment-refunded"}, CLOSED_BY["stock"]),
}
"""What a turn of the order stands on: one fact of each set. Its direct cause is only the last of them."""

UNDONE_AFTER: dict[str, Ground] = {
    "order_cancelled": {"order-cancellation-requested"},
    "reservation_expired": {"reservation-expired"},
    orders.SETTLED: {"order-settlement-begun"},
}
"""What an undo was commanded after, by its reason, besides what had been closed by then."""

TOLD_AFTER: dict[str, tuple[Ground, ...]] = {
    "payment-succeeded": ({"stock-reserved"},),
    "order-confirmed": ({"stock-reserved"}, {"payment-succeeded"}),
    "shipping-scheduled": ({"order-confirmed"},),
    "shipping-failed": ({"order-confirmed"},),
    "stock-committed": ({"item-shipped"},),
    "order-completed": ({"item-shipped"},),
    "order-cancellation-refused": ({"item-shipped"},),
    "order-expired": ({"reservation-expired"},),
    "stock_released": ({"stock-released"},),
    "payment_refunded": ({"payment-refunded"},),
    "payment_voided": ({"payment-failed"},),
    "shipping_cancelled": ({"shipping-cancelled"},),
}
"""The same where whoever orchestrates commanded it, after these: by the fact's name, and by what it names as undone.

Only what has surely happened is listed: an operator may have skipped an undo, and a step may have got no answer at all. What had by then,
the command has named as `closed`.
"""


def missing(fact: Event, entries: Collection[Entry], causation_id: str, *, in_review: bool = False) -> str | None:
    """Return what must be in the story before the fact, or None when everything is.

    Args:
        fact: what is to be told.
        entries: what has been told.
        causation_id: of the fact's envelope.
        in_review: as told so far, the order's content may still change.
    """
    told = {entry.type for entry in entries}
    commanded = _grounds_behind_settlement(fact, causation_id)
    if not commanded and _FACT_ID.fullmatch(causation_id) and all(entry.id != causation_id for entry in entries):
        return f"its cause {causation_id}"
    if in_review and _COMMANDED.fullmatch(causation_id) and not isinstance(fact, orders.OrderCancelled | orders.OrderHeld):
        return "order-review-ended"
    grounds = _grounds(fact, told, causation_id, commanded=commanded)
    return next((" or ".join(sorted(ground)) for ground in grounds if not ground & told), None)


def _grounds_behind_settlement(fact: Event, causation_id: str) -> tuple[Ground, ...]:
    """Return what stood behind a command that orders gave when an operator settled an order: commands are in no story."""
    commanded = isinstance(fact, inventory.StockCommitted) or (isinstance(fact, _UNDOING) and fact.reason == orders.SETTLED)
    return (UNDONE_AFTER[orders.SETTLED],) if commanded and causation_id.startswith("orders-") else ()


def _grounds(fact: Event, told: set[str], causation_id: str, *, commanded: tuple[Ground, ...]) -> tuple[Ground, ...]:
    if isinstance(fact, orders.OrderHeld):
        return tuple({name} for name in fact.heard if name in NAMES)
    if isinstance(fact, orders.OrderSettlementBegun):
        return ({"order-held"},)
    if isinstance(fact, orders.OrderCancelled | orders.OrderCompleted) and fact.settled_by is not None:
        grounds = _grounds_of_settlement(fact)
    elif _COMMANDED.fullmatch(causation_id):
        grounds = _grounds_of_command(fact, told)
    else:
        grounds = commanded or _grounds_of_fact(fact, told)
    return (*grounds, *(CLOSED_BY[axis] for axis in getattr(fact, "closed", ()) if axis in CLOSED_BY))


def _grounds_of_command(fact: Event, told: set[str]) -> tuple[Ground, ...]:
    """Return what the orchestrator knew when it sent the command that led to the fact."""
    names = [STORY[type(fact)][0], *getattr(fact, "compensations", ())]
    seen: tuple[Ground, ...] = ()
    if isinstance(fact, orders.OrderRejected) and fact.detail != NO_ANSWER and fact.reason in FAILURES:
        seen = ({FAILURES[fact.reason]},)
    if isinstance(fact, _UNDOING) and fact.reason in UNDONE_AFTER:
        seen = (UNDONE_AFTER[fact.reason],)
    if isinstance(fact, inventory.StockReserved | inventory.OutOfStock) and "reservation-expired" in told:
        seen = ({"payment-succeeded"},)  # only what is paid is reserved once more
    if isinstance(fact, payments.PaymentFailed) and fact.amount is not None:
        names.append("payment-succeeded")  # it was asked for, and so has the same ground
    if isinstance(fact, shipping.ShippingCancelled) and fact.shipment_id is not None:
        names.append("shipping-scheduled")
    return (*seen, *(ground for name in names for ground in TOLD_AFTER.get(name, ())))


def _grounds_of_settlement(fact: orders.OrderCancelled | orders.OrderCompleted) -> tuple[Ground, ...]:
    """An operator decides without what is not undone; what the order knew by then, the fact names."""
    names = getattr(fact, "compensations", ())
    return (UNDONE_AFTER[orders.SETTLED], *(ground for name in names for ground in TOLD_AFTER.get(name, ())))


def _grounds_of_fact(fact: Event, told: set[str]) -> tuple[Ground, ...]:
    name = STORY[type(fact)][0]
    if not isinstance(fact, orders.OrderRejected):
        return ONLY_AFTER.get(name, ())
    grounds = ONLY_AFTER.get(f"{name}/{fact.reason}", ())
    if fact.reason == "out_of_stock" and "reservation-expired" in told:
        return (*grounds, CLOSED_BY["payment"])
    return grounds
