"""How far the three others are with an order, and what that means on the order's axes. Pure.

Stock, payment and shipping each publish on a topic of their own, so their facts arrive in order within an axis and in
any order across axes. `Progress` keeps the three apart; everything else is a function of it.

Neighbours: the aggregate remembers each fact as the `CheckoutProgressed` made here; the status view makes the same.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from parcomolo.contracts.inventory import OutOfStock, ReservationExpired, StockCommitted, StockReleased, StockReserved
from parcomolo.contracts.payments import VOIDED_BECAUSE, PaymentFailed, PaymentRefunded, PaymentSucceeded
from parcomolo.contracts.shipping import ItemShipped, ShippingCancelled, ShippingFailed, ShippingScheduled
from parcomolo.orders.messages import CheckoutProgressed

PaymentStatus = Literal["unpaid", "authorised", "paid", "refunded", "voided", "failed"]
FulfilmentStatus = Literal["unfulfilled", "reserved", "scheduled", "shipped", "delivered"]

StockFact = StockReserved | OutOfStock | StockReleased | StockCommitted | ReservationExpired
PaymentFact = PaymentSucceeded | PaymentFailed | PaymentRefunded
ShippingFact = ShippingScheduled | ItemShipped | ShippingFailed | ShippingCancelled
CheckoutFact = StockFact | PaymentFact | ShippingFact


FINAL = frozenset({"released", "committed", "refunded", "shipped", "cancelled"})
"""States of an axis after which there is no other; what was short may still leave empty-handed."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the others are, whatever the order in which they said so.

    `lapsed`: the reservation has expired once; `undone`: what was really taken back, by name; the details are the
    reasons that the others gave.
    """

    stock: str = "none"
    payment: str = "none"
    shipping: str = "none"
    lapsed: bool = False
    undone: tuple[str, ...] = ()
    stock_detail: str = ""
    payment_detail: str = ""
    shipping_detail: str = ""

    @property
    def stock_undone(self) -> bool:
        """Nothing is reserved, and nothing will be."""
        return self.stock in ("released", "short")

    @property
    def payment_undone(self) -> bool:
        """No money is kept, and none will be taken."""
        return self.payment in ("failed", "voided", "refunded")

    @property
    def shipping_undone(self) -> bool:
        """Nothing has left, and nothing will."""
        return self.shipping in ("cancelled", "failed")


def progressed(fact: CheckoutFact) -> CheckoutProgressed:
    """Return a fact of another context as the order remembers it."""
    match fact:
        case StockReserved() | OutOfStock() | StockReleased() | StockCommitted() | ReservationExpired():
            return _stock(fact)
        case PaymentSucceeded() | PaymentFailed() | PaymentRefunded():
            return _payment(fact)
        case _:
            return _shipping(fact)


def _stock(fact: StockFact) -> CheckoutProgressed:
    match fact:
        case StockReserved():
            return CheckoutProgressed(order_id=fact.order_id, axis="stock", state="reserved")
        case OutOfStock():
            short = "; ".join(f"{s.sku}: {s.requested} requested, {s.available} available" for s in fact.short)
            return CheckoutProgressed(order_id=fact.order_id, axis="stock", state="short", detail=short)
        case StockReleased():
            undone = "stock_released" if fact.lines else None
            return CheckoutProgressed(order_id=fact.order_id, axis="stock", state="released", undone=undone)
        case StockCommitted():
            return CheckoutProgressed(order_id=fact.order_id, axis="stock", state="committed")
        case ReservationExpired():
            return CheckoutProgressed(order_id=fact.order_id, axis="stock", state="expired")


def _payment(fact: PaymentFact) -> CheckoutProgressed:
    match fact:
        case PaymentSucceeded():
            return CheckoutProgressed(order_id=fact.order_id, axis="payment", state="succeeded")
        case PaymentFailed():
            voided = fact.reason in VOIDED_BECAUSE
            state, undone = ("voided", "payment_voided" if fact.amount else None) if voided else ("failed", None)
            return CheckoutProgressed(order_id=fact.order_id, axis="payment", state=state, detail=fact.reason, undone=undone)
        case PaymentRefunded():
            return CheckoutProgressed(order_id=fact.order_id, axis="payment", state="refunded", undone="payment_refunded")


def _shipping(fact: ShippingFact) -> CheckoutProgressed:
    match fact:
        case ShippingScheduled():
            return CheckoutProgressed(order_id=fact.order_id, axis="shipping", state="scheduled")
        case ItemShipped():
            return CheckoutProgressed(order_id=fact.order_id, axis="shipping", state="shipped")
        case ShippingFailed():
            return CheckoutProgressed(order_id=fact.order_id, axis="shipping", state="failed", detail=fact.reason)
        case ShippingCancelled():
            undone = "shipping_cancelled" if fact.shipment_id else None
            return CheckoutProgressed(order_id=fact.order_id, axis="shipping", state="cancelled", undone=undone)


def advanced(progress: Progress, step: CheckoutProgressed) -> Progress:
    """Return the progress after a step. What an axis ended with stays, whoever says again what was before."""
    if getattr(progress, step.axis) in FINAL:
        return progress
    return Progress(
        stock=step.state if step.axis == "stock" else progress.stock,
        payment=step.state if step.axis == "payment" else progress.payment,
        shipping=step.state if step.axis == "shipping" else progress.shipping,
        lapsed=progress.lapsed or step.state == "expired",
        undone=tuple(sorted({*progress.undone, step.undone})) if step.undone else progress.undone,
        stock_detail=step.detail if step.axis == "stock" else progress.stock_detail,
        payment_detail=step.detail if step.axis == "payment" else progress.payment_detail,
        shipping_detail=step.detail if step.axis == "shipping" else progress.shipping_detail,
    )


def payment_status_of(progress: Progress) -> PaymentStatus:
    """Return the payment axis."""
    match progress.payment:
        case "succeeded":
            return "paid"
        case "refunded" | "voided" | "failed" as status:
            return status
        case _:
            return "unpaid"


def fulfilment_status_of(progress: Progress) -> FulfilmentStatus:
    """Return the fulfilment axis, as far as checkout goes; delivery is the order's own."""
    if progress.shipping in ("shipped", "scheduled"):
        return "shipped" if progress.shipping == "shipped" else "scheduled"
    return "reserved" if progress.stock in ("reserved", "committed") else "unfulfilled"
