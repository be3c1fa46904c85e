"""What becomes of an order whose checkout a person has taken over: it is held, and an operator settles how it ends. Pure.

    pending, confirmed, cancelling -> on_hold       whoever orchestrates says that a person has taken over
    on_hold -> cancelled                            unless the parcel has left: the parcel is called off, and then the stock given back
    on_hold -> completed                            once it was confirmed: what is reserved leaves the shelf

A settlement begins: the order stays on hold while the others are asked, and ends when they have answered. Cancelled: shipping decides
whether the parcel leaves, and when it has said that none will, the stock is given back; the end is said behind both. Completed: the stock
leaves, and the end is said behind that. Where the order knows an answer already, nobody is asked for it. Said again, a settlement asks
again, which changes nothing with those who were asked; the other outcome takes its place. What turns out to be impossible is refused by a
fact, and the order is on hold as before: cancelled though the parcel leaves at that moment, completed though the checkout had asked for the
stock back before it was taken over.

Else the machine does nothing for an order that is on hold, and refuses what is asked of it, but for the news that its parcel has arrived.
What the others still say is remembered as ever.

Money that had been taken when the settlement began is not touched: whoever has taken over has seen to it, and the machine cannot know how.
Money that had not been is not taken any more for an order that is settled as cancelled, and given back where it is taken all the same: in
payments, which is told at once, or behind the fact that it was taken, where that was said after the settlement had begun. No end waits for
the money.

There is always a way out. What has left was confirmed before, so it can be completed; what has not left can be cancelled. An order that was
never confirmed is not completed, so that whoever counts confirmations counts it right; nor is one whose stock is known to be gone and whose
parcel has not left, for nobody could have got anything.

Neighbours: `domain` dispatches here; `settling` is the route; inventory, payments and shipping obey the commands said here.
"""

from __future__ import annotations

from datetime import datetime

from millrace import Cancel, Rejected
from parcomolo.contracts.inventory import CommitStock, ReleaseStock
from parcomolo.contracts.orders import (
    SETTLED,
    HoldOrder,
    OrderCancelled,
    OrderCompleted,
    OrderHeld,
    OrderSettlementBegun,
    OrderSettlementRefused,
)
from parcomolo.contracts.payments import RefundPayment
from parcomolo.contracts.shipping import CancelShipping
from parcomolo.orders.checkout import Progress
from parcomolo.orders.content import REVIEW, Items
from parcomolo.orders.messages import CheckoutProgressed, SettleOrder
from parcomolo.orders.order import Order, Settlement, evolve

GONE = ("released", "short", "expired")
"""States of the stock in which nothing of an order is reserved, and nothing has left."""


def hold(command: HoldOrder, order: Order) -> Items:
    """Leave the order to a person.

    Raises:
        Rejected: it has ended.
    """
    if order.status not in ("pending", "confirmed", "cancelling"):
        raise Rejected(f"order_{order.status}", order_id=order.order_id)
    return [OrderHeld(order_id=order.order_id, reason=command.reason, heard=command.heard), Cancel(REVIEW)]


def settle(command: SettleOrder, order: Order, now: datetime) -> Items:
    """Begin to end an order that is on hold, or ask once more.

    Raises:
        Rejected: it is not on hold, or cannot end so.
    """
    if order.status != "on_hold":
        raise Rejected("not_on_hold", order_id=order.order_id)
    if not command.reason.strip():
        raise Rejected("reason_required", order_id=order.order_id)
    if command.outcome == "completed" and not order.confirmed:
        raise Rejected("not_confirmed", order_id=order.order_id)
    if reason := _impossible(command.outcome, order.progress):
        raise Rejected(reason, order_id=order.order_id)
    settlement = _settlement(command, order.settlement, now)
    begun = OrderSettlementBegun(
        order_id=order.order_id, outcome=settlement.outcome, reason=settlement.reason, by=settlement.by, at=settlement.at
    )
    said: Items = [begun] if settlement != order.settlement else []
    after = evolve(order, begun)
    return [*said, *(_end(after, settlement) or _parcel_and_stock(after, settlement)), *_open_money(after, settlement)]


def go_on(step: CheckoutProgressed, order: Order, said_at: datetime) -> Items:
    """Go on with a settlement when one of the others has said something, which the order has learned already.

    Args:
        step: what was said.
        order: as it is now.
        said_at: when it was said.
    """
    settlement = order.settlement
    if settlement is None:
        return []
    if step.axis == "payment":
        late = settlement.outcome == "cancelled" and step.state == "succeeded" and said_at > settlement.at
        return [RefundPayment(order_id=order.order_id, reason=SETTLED)] if late else []
    if order.status != "on_hold":
        return []
    if reason := _impossible(settlement.outcome, order.progress, for_good=True):
        return [OrderSettlementRefused(order_id=order.order_id, outcome=settlement.outcome, reason=reason)]
    return _end(order, settlement) or (_parcel_and_stock(order, settlement) if _frees_stock(step, order, settlement) else [])


def _settlement(command: SettleOrder, before: Settlement | None, now: datetime) -> Settlement:
    """Return what is settled now; the same outcome has begun when it was first said."""
    since = before.at if before is not None and before.outcome == command.outcome else now
    return Settlement(outcome=command.outcome, reason=command.reason, by=command.by, at=since)


def _impossible(outcome: str, progress: Progress, *, for_good: bool = False) -> str | None:
    """Return why an order cannot end so, as it knows; `for_good`: what has expired may still be renewed by the `keep-stock` behind it."""
    if outcome == "cancelled":
        return "already_shipped" if progress.shipping == "shipped" or progress.stock == "committed" else None
    gone = progress.stock == "released" if for_good else progress.stock in GONE
    return "nothing_reserved" if gone and progress.shipping != "shipped" else None


def _end(order: Order, settlement: Settlement) -> Items:
    """Return the end, where nobody has to be asked any more."""
    order_id, progress = order.order_id, order.progress
    if settlement.outcome == "completed":
        if progress.stock not in ("committed", "released"):
            return []
        return [OrderCompleted(order_id=order_id, closed=_closed(progress), reason=settlement.reason, settled_by=settlement.by)]
    if not (progress.shipping_undone and progress.stock_undone):
        return []
    return [
        OrderCancelled(
            order_id=order_id,
            reason=settlement.reason,
            compensations=progress.undone,
            closed=_closed(progress),
            lines=order.lines,
            was_confirmed=order.confirmed,
            settled_by=settlement.by,
        )
    ]


def _parcel_and_stock(order: Order, settlement: Settlement) -> Items:
    """Ask whoever comes next; who is asked twice answers twice, and does it once."""
    if settlement.outcome == "completed":
        return [CommitStock(order_id=order.order_id)]
    if not order.progress.shipping_undone:
        return [CancelShipping(order_id=order.order_id, reason=SETTLED)]
    return [ReleaseStock(order_id=order.order_id, reason=SETTLED, closed=("shipping",))]


def _frees_stock(step: CheckoutProgressed, order: Order, settlement: Settlement) -> bool:
    """Return whether this is shipping's answer, behind which the stock is given back."""
    return settlement.outcome == "cancelled" and step.axis == "shipping" and order.progress.shipping_undone


def _open_money(order: Order, settlement: Settlement) -> Items:
    """Let none be taken that has not been, as far as the order knows."""
    unknown = settlement.outcome == "cancelled" and order.progress.payment == "none"
    return [RefundPayment(order_id=order.order_id, reason=SETTLED, only_open=True)] if unknown else []


def _closed(progress: Progress) -> tuple[str, ...]:
    """Return who has nothing left of an order, as it knows."""
    closed = {
        "stock": progress.stock_undone or progress.stock == "committed",
        "payment": progress.payment_undone,
        "shipping": progress.shipping_undone or progress.shipping == "shipped",
    }
    return tuple(axis for axis, left in closed.items() if left)
