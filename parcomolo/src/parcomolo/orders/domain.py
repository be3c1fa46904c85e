"""What orders decides: the answers to commands, and how an order ends. Pure.

    pending -> confirmed -> completed                       stock reserved and paid; shipped and stock committed
    pending -> rejected, expired                            out of stock, payment failed, not paid in time
    confirmed -> rejected                                   shipping failed, or the stock was gone after all
    pending, confirmed -> cancelling -> cancelled           shipping says that nothing will leave; all is undone
    cancelling -> pending, confirmed -> completed           the parcel had already left: the cancellation is refused

An end is only said after the answers of everybody who has something to undo. `next_fact` is the whole rule: a
function of what the order remembers, so it does not matter in which order the answers come in.

Neighbours: `content` decides about lines; `order` folds the events; `checkout` reads the facts of the others.
"""

from __future__ import annotations

from datetime import datetime

from millrace import Cancel, Context, Rejected
from parcomolo.contracts.orders import (
    CancelOrder,
    CompleteOrder,
    ConfirmOrder,
    OrderCancellationRefused,
    OrderCancellationRequested,
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderDelivered,
    OrderExpired,
    OrderRejected,
    OrderReviewEnded,
    RejectOrder,
)
from parcomolo.orders.checkout import CheckoutFact, progressed
from parcomolo.orders.content import REVIEW, Items, add_line, place, remove_line
from parcomolo.orders.messages import AddLine, DeliverOrder, EndReview, PlaceOrder, RemoveLine
from parcomolo.orders.order import Order, StatusFact, evolve

OrderCommand = AddLine | RemoveLine | CancelOrder | DeliverOrder | EndReview | ConfirmOrder | RejectOrder | CompleteOrder


def decide(message: PlaceOrder | OrderCommand | CheckoutFact, order: Order | None, context: Context) -> Items:
    """Return what a message leads to.

    Raises:
        Rejected: the command cannot be done now; its reason is stable.
    """
    if isinstance(message, PlaceOrder):
        return place(message, order, context.now)
    if isinstance(message, CheckoutFact):
        return follow(message, order)
    if order is None:
        raise Rejected("order_unknown", order_id=message.order_id)
    return _command(message, order, context.now)


def _command(command: OrderCommand, order: Order, now: datetime) -> Items:
    match command:
        case AddLine():
            return add_line(command, order, now)
        case RemoveLine():
            return remove_line(command, order, now)
        case CancelOrder():
            return cancel(command, order)
        case DeliverOrder():
            return deliver(order, now)
        case EndReview():
            return [OrderReviewEnded(order_id=order.order_id)] if order.in_review else []
        case ConfirmOrder() | RejectOrder() | CompleteOrder():
            return obey(command, order)


# Cancelling and delivering


def cancel(command: CancelOrder, order: Order) -> Items:
    """Ask shipping to stop the order; a second request, and one after the end or the departure, is refused."""
    if order.status == "cancelling":
        raise Rejected("cancellation_already_requested", order_id=order.order_id)
    if order.progress.shipping == "shipped":
        raise Rejected("already_shipped", order_id=order.order_id)
    if order.status not in ("pending", "confirmed"):
        raise Rejected(f"already_{order.status}", order_id=order.order_id)
    if not command.reason.strip():
        raise Rejected("reason_required", order_id=order.order_id)
    return [OrderCancellationRequested(order_id=order.order_id, reason=command.reason), Cancel(REVIEW)]


def deliver(order: Order, now: datetime) -> Items:
    """The parcel has arrived: once, and only when it has left."""
    if order.delivered_at is not None:
        raise Rejected("already_delivered", order_id=order.order_id)
    if order.fulfilment_status != "shipped":
        raise Rejected("not_shipped", order_id=order.order_id)
    return [OrderDelivered(order_id=order.order_id, customer_id=order.customer_id, placed_at=order.placed_at, delivered_at=now)]


# Following the others


def follow(fact: CheckoutFact, order: Order | None) -> Items:
    """Remember what another context said, and say what follows from it."""
    if order is None:
        return []
    step = progressed(fact)
    return [step, *settled(evolve(order, step))]


def settled(order: Order) -> list[StatusFact]:
    """Return everything that can be said of the order as it is."""
    facts: list[StatusFact] = []
    while fact := next_fact(order):
        facts.append(fact)
        order = evolve(order, fact)
    return facts


def next_fact(order: Order) -> StatusFact | None:
    """Return the next thing that can be said of the order, if there is one."""
    match order.status:
        case "cancelling":
            return _cancellation(order)
        case "pending":
            return _failure(order) or _confirmation(order)
        case "confirmed":
            return _failure(order) or _completion(order)
        case _:
            return None


def _cancellation(order: Order) -> StatusFact | None:
    progress = order.progress
    if progress.shipping == "shipped":
        return OrderCancellationRefused(order_id=order.order_id, reason="already_shipped")
    if progress.shipping_undone and progress.stock_undone and progress.payment_undone:
        return OrderCancelled(
            order_id=order.order_id,
            reason=order.reason or "",
            compensations=progress.undone,
            lines=order.lines,
            was_confirmed=order.confirmed,
        )
    return None


def _failure(order: Order) -> StatusFact | None:
    """An order fails when the first refusal is known and everything that was done before it is undone.

    Out of stock at once needs no more answers; after a lapsed reservation somebody has paid, and must have it back.
    """
    progress = order.progress
    if progress.shipping == "failed" and progress.stock_undone and progress.payment == "refunded":
        return _rejected(order, "shipping_failed", progress.shipping_detail)
    if progress.stock == "short" and (progress.payment_undone or not progress.lapsed):
        return _rejected(order, "out_of_stock", progress.stock_detail)
    if progress.payment in ("failed", "voided") and progress.stock == "expired":
        return OrderExpired(order_id=order.order_id, lines=order.lines, was_confirmed=order.confirmed)
    if progress.payment in ("failed", "voided") and progress.stock == "released":
        return _rejected(order, "payment_failed", progress.payment_detail)
    return None


def _rejected(order: Order, reason: str, detail: str) -> OrderRejected:
    return OrderRejected(
        order_id=order.order_id,
        reason=reason,
        detail=detail,
        lines=order.lines,
        was_confirmed=order.confirmed,
    )


def _confirmation(order: Order) -> OrderConfirmed | None:
    progress = order.progress
    if progress.payment != "succeeded" or progress.stock not in ("reserved", "committed") or progress.shipping_undone:
        return None
    return _confirmed(order)


def _completion(order: Order) -> OrderCompleted | None:
    progress = order.progress
    done = progress.shipping == "shipped" and progress.stock == "committed"
    return OrderCompleted(order_id=order.order_id) if done else None


def _confirmed(order: Order) -> OrderConfirmed:
    return OrderConfirmed(order_id=order.order_id, customer_id=order.customer_id, lines=order.lines, total=order.total)


# Obeying the one who orchestrates


def obey(command: ConfirmOrder | RejectOrder | CompleteOrder, order: Order) -> Items:
    """Do what the orchestrator found out; a command that does not fit the order's status is refused."""
    match command, order.status:
        case ConfirmOrder(), "pending":
            return [_confirmed(order)]
        case RejectOrder(), "pending" | "confirmed":
            return [_rejected(order, command.reason, command.detail)]
        case CompleteOrder(), "confirmed":
            return [OrderCompleted(order_id=order.order_id)]
        case _:
            raise Rejected(f"order_{order.status}", order_id=order.order_id)
