"""What becomes of an order whose checkout a person has taken over: it is held, and an operator settles how it ends. Pure.

    pending, confirmed, cancelling -> on_hold       whoever orchestrates says that a person has taken over
    on_hold -> cancelled                            unless the parcel has left: the parcel is called off, and then the stock given back
    on_hold -> completed                            once it was confirmed: what is reserved leaves the shelf behind it

The machine does nothing for an order that is on hold, and refuses what is asked of it, but for the news that its parcel has arrived. What
the others still say is remembered as ever. It touches no money here: whoever has taken over has seen to it, and it cannot know how.

There is always a way out. What has left was confirmed before, so it can be completed; what has not left can be cancelled. An order that was
never confirmed is not completed, so that whoever counts confirmations counts it right; nor is one whose stock is known to be gone and whose
parcel has not left, for nobody could have got anything.

Shipping decides whether a parcel leaves, and says so once. Where the order knows already that none will, the stock is given back in the
transaction of the settlement; else it goes the way of the parcel when shipping has answered, so that it is exact also where the parcel left
in the very moment in which its order was cancelled. Such an order is `cancelled` and `shipped`, and its stock is booked out.

One thing is left to the operator: where the checkout had asked for the stock back in the moment before it was taken over, and the order is
completed before it hears of that, the stock is free again. Its story says so (`stock-released`), and it is booked out by hand.

Neighbours: `domain` dispatches here; `settling` is the route; inventory and shipping obey the commands said here.
"""

from __future__ import annotations

from millrace import Cancel, Rejected
from parcomolo.contracts.inventory import CommitStock, ReleaseStock
from parcomolo.contracts.orders import SETTLED, HoldOrder, OrderCancelled, OrderCompleted, OrderHeld
from parcomolo.contracts.shipping import CancelShipping
from parcomolo.orders.checkout import Progress
from parcomolo.orders.content import REVIEW, Items
from parcomolo.orders.messages import CheckoutProgressed, SettleOrder
from parcomolo.orders.order import Order

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


def settle(command: SettleOrder, order: Order) -> Items:
    """End an order that is on hold.

    Raises:
        Rejected: it is not on hold, or cannot end so.
    """
    if order.status != "on_hold":
        raise Rejected("not_on_hold", order_id=order.order_id)
    if not command.reason.strip():
        raise Rejected("reason_required", order_id=order.order_id)
    return _cancel(command, order) if command.outcome == "cancelled" else _complete(command, order)


def follow_parcel(step: CheckoutProgressed, order: Order) -> Items:
    """Let the stock of an order that was settled as cancelled go the way of its parcel, when shipping has said which that is."""
    if not order.settled or order.status != "cancelled" or step.axis != "shipping":
        return []
    if order.progress.shipping == "shipped":
        return [CommitStock(order_id=order.order_id)]
    return [_release(order)] if order.progress.shipping_undone else []


def _release(order: Order) -> ReleaseStock:
    return ReleaseStock(order_id=order.order_id, reason=SETTLED, closed=("shipping",))


def _closed(progress: Progress) -> tuple[str, ...]:
    """Return who has nothing left of an order, as it knows."""
    closed = {
        "stock": progress.stock_undone or progress.stock == "committed",
        "payment": progress.payment_undone,
        "shipping": progress.shipping_undone or progress.shipping == "shipped",
    }
    return tuple(axis for axis, left in closed.items() if left)


def _cancel(command: SettleOrder, order: Order) -> Items:
    """Shipping is asked for an answer, or for the same one again; the stock waits for it."""
    order_id, progress = order.order_id, order.progress
    if progress.shipping == "shipped" or progress.stock == "committed":
        raise Rejected("already_shipped", order_id=order_id)
    cancelled = OrderCancelled(
        order_id=order_id,
        reason=command.reason,
        compensations=progress.undone,
        closed=_closed(progress),
        lines=order.lines,
        was_confirmed=order.confirmed,
        settled_by=command.by,
    )
    called_off = CancelShipping(order_id=order_id, reason=SETTLED)
    return [cancelled, called_off, _release(order)] if progress.shipping_undone else [cancelled, called_off]


def _complete(command: SettleOrder, order: Order) -> Items:
    """Stock that is not known to have left leaves now: told twice, inventory does it once."""
    order_id, progress = order.order_id, order.progress
    if not order.confirmed:
        raise Rejected("not_confirmed", order_id=order_id)
    if progress.shipping != "shipped" and progress.stock in GONE:
        raise Rejected("nothing_reserved", order_id=order_id)
    completed = OrderCompleted(order_id=order_id, closed=_closed(progress), reason=command.reason, settled_by=command.by)
    return [completed] if progress.stock == "committed" else [completed, CommitStock(order_id=order_id)]
