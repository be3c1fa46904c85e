"""What checkout knows of an order: what its commands need, and what was really undone. Pure.

Neighbours: `saga` is the table that is made of these functions.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from millrace import Personal
from parcomolo.contracts.inventory import OutOfStock, StockCommitted, StockReleased
from parcomolo.contracts.lines import Line, ShipTo, StockLine, summed
from parcomolo.contracts.money import Money
from parcomolo.contracts.orders import OrderPlaced, OrderReviewEnded
from parcomolo.contracts.payments import VOIDED_BECAUSE, PaymentFailed, PaymentRefunded
from parcomolo.contracts.shipping import ShippingCancelled, ShippingFailed


class Case(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An order in checkout.

    Args:
        order_id: the order's id.
        lines: what is wanted, one line per product.
        total: what is to be paid.
        token: how.
        ship_to: where it goes.
        in_review: the content may still change.
        undone: what was really taken back, by the names that `order-cancelled` uses.
        committed: the stock has left.
        detail: what a refusal said.
    """

    order_id: str
    lines: tuple[StockLine, ...]
    total: Money
    token: Annotated[str, Personal]
    ship_to: Annotated[ShipTo | None, Personal] = None
    in_review: bool = False
    undone: tuple[str, ...] = ()
    committed: bool = False
    detail: str = ""


def begin(event: OrderPlaced) -> Case:
    """Return the case of a new order."""
    return Case(
        order_id=event.order_id,
        lines=_content(event.lines),
        total=event.total,
        token=event.payment_token,
        ship_to=event.ship_to,
        in_review=event.review_until is not None,
    )


def _content(lines: tuple[Line, ...]) -> tuple[StockLine, ...]:
    return summed(lines)


def final_content(case: Case, event: OrderReviewEnded) -> Case:
    """Take the content as it is when its review has ended."""
    return replace(case, lines=_content(event.lines), total=event.total or case.total, in_review=False)


def booked_out(case: Case, _answer: StockCommitted) -> Case:
    """The stock has left."""
    return replace(case, committed=True)


def learn(case: Case, answer: Any) -> Case:
    """Keep what an answer tells of what was undone, or why something was refused; other answers tell nothing."""
    match answer:
        case StockReleased() if answer.lines:
            return _with(case, "stock_released")
        case PaymentRefunded():
            return _with(case, "payment_refunded")
        case PaymentFailed() if answer.amount is not None and answer.reason in VOIDED_BECAUSE:
            return _with(case, "payment_voided")
        case ShippingCancelled() if answer.shipment_id:
            return _with(case, "shipping_cancelled")
        case OutOfStock():
            short = "; ".join(f"{s.sku}: {s.requested} requested, {s.available} available" for s in answer.short)
            return replace(case, detail=short)
        case PaymentFailed() | ShippingFailed() if not case.detail:
            return replace(case, detail=answer.reason)
        case _:
            return case


def _with(case: Case, undone: str) -> Case:
    return replace(case, undone=tuple(sorted({*case.undone, undone})))
