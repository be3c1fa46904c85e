"""What orders decides: the answers to commands, and how an order ends. Pure.

    pending -> confirmed -> completed                       stock reserved and paid; shipped and stock committed
    pending -> rejected, expired                            out of stock, payment failed, not paid in time
    confirmed -> rejected                                   shipping failed, or the stock was gone after all
    pending, confirmed -> cancelling -> cancelled           shipping says that nothing will leave; all is undone
    cancelling -> pending, confirmed -> completed           the parcel had already left: the cancellation is refused
    pending, confirmed, cancelling -> on_hold               a person has taken the checkout over; see `holding` for the way out

An end is only said after the answers of everybody who has something to undo. In choreography (`decide`) `next_fact` is the whole rule: a
function of what the order remembers, so it does not matter in which order the answers come in. In orchestration (`decide_as_told`) whoever
orchestrates knows that and says so by commands (`obey`, `told`); the facts of the others are remembered for the order's axes, and for
refusing a cancellation once the parcel has left.

Neighbours: `content` decides about lines, `holding` about orders on hold; `order` folds the events; `checkout` reads the others' facts.
"""

from __future__ import annotations

from datetime import datetime

from millrace import Cancel, Context, Rejected
from parcomolo.contracts.orders import (
    CancelOrder,
    CompleteOrder,
    ConfirmOrder,
    HoldOrder,
    OrderCancellationRefused,
    OrderCancellationRequested,
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderDelivered,
    OrderExpired,
    OrderRejected,
    OrderReviewEnded,
    OrderStandsCompleted,
    OrderStandsConfirmed,
    RejectOrder,
)
from parcomolo.orders.checkout import CheckoutFact, advanced, progressed
from parcomolo.orders.content import REVIEW, Items, add_line, place, remove_line
from parcomolo.orders.holding import go_on, hold, settle
from parcomolo.orders.messages import AddLine, CheckoutProgressed, DeliverOrder, EndReview, PlaceOrder, RemoveLine, SettleOrder
from parcomolo.orders.order import Order, StatusFact, evolve

ORCHESTRATOR = "/checkout"
"""How the source of the service ends that runs the checkout."""
OrderCommand = (
    AddLine | RemoveLine | CancelOrder | DeliverOrder | EndReview | SettleOrder | ConfirmOrder | RejectOrder | CompleteOrder | HoldOrder
)


def decide(message: PlaceOrder | OrderCommand | CheckoutFact, order: Order | None, context: Context) -> Items:
    """Return what a message leads to.

    Raises:
        Rejected: the command cannot be done now; its reason is stable.
    """
    if isinstance(message, CheckoutFact):
        return follow(message, order)
    return _command(message, order, context.now)


def decide_as_told(message: PlaceOrder | OrderCommand | CheckoutFact, order: Order | None, context: Context) -> Items:
    """Return what a message leads to where somebody orchestrates.

    Raises:
        Rejected: the command cannot be done now; its reason is stable.
    """
    if isinstance(message, CheckoutFact):
        return remember(message, order, context.time)
    if order is not None and context.source.endswith(ORCHESTRATOR) and (said := told(message, order)):
        return said
    return _command(message, order, context.now)


def _command(command: PlaceOrder | OrderCommand, order: Order | None, now: datetime) -> Items:
    if isinstance(command, PlaceOrder):
        return place(command, order, now)
    if order is None:
        raise Rejected("order_unknown", order_id=command.order_id)
    if order.status == "on_hold" and not isinstance(command, DeliverOrder | EndReview | SettleOrder):
        raise Rejected("on_hold", order_id=order.order_id)
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
            return [OrderReviewEnded(order_id=order.order_id, lines=order.lines, total=order.total)] if order.in_review else []
        case SettleOrder():
            return settle(command, order, now)
        case HoldOrder():
            raise Rejected("not_orchestrated", order_id=order.order_id)
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
    if order is None or not (step := _news(fact, order)):
        return []
    return [step, *settled(evolve(order, step))]


def remember(fact: CheckoutFact, order: Order | None, said_at: datetime) -> Items:
    """Remember what another context said; say only that it is too late to cancel, and what follows for a settlement."""
    if order is None or not (step := _news(fact, order)):
        return []
    after = evolve(order, step)
    too_late = after.status == "cancelling" and after.progress.shipping == "shipped"
    return [step, _refused(order)] if too_late else [step, *go_on(step, after, said_at)]


def _news(fact: CheckoutFact, order: Order) -> CheckoutProgressed | None:
    """Return a fact as the order remembers it; None for one that is said again."""
    step = progressed(fact)
    return step if advanced(order.progress, step) != order.progress else None


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
        return _refused(order)
    if progress.shipping_undone and progress.stock_undone and progress.payment_undone:
        return _cancelled(order, progress.undone, closed=())
    return None


def _refused(order: Order, *, closed: tuple[str, ...] = ()) -> OrderCancellationRefused:
    return OrderCancellationRefused(order_id=order.order_id, reason="already_shipped", closed=closed)


def _cancelled(order: Order, compensations: tuple[str, ...], *, closed: tuple[str, ...]) -> OrderCancelled:
    return OrderCancelled(
        order_id=order.order_id,
        reason=order.reason or "",
        compensations=compensations,
        closed=closed,
        lines=order.lines,
        was_confirmed=order.confirmed,
    )


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
        return _expired(order, progress.undone)
    if progress.payment in ("failed", "voided") and progress.stock == "released":
        return _rejected(order, "payment_failed", progress.payment_detail)
    return None


def _expired(order: Order, compensations: tuple[str, ...], *, closed: tuple[str, ...] = ()) -> OrderExpired:
    return OrderExpired(
        order_id=order.order_id,
        lines=order.lines,
        was_confirmed=order.confirmed,
        compensations=compensations,
        closed=closed,
    )


def _rejected(
    order: Order, reason: str, detail: str, *, compensations: tuple[str, ...] | None = None, closed: tuple[str, ...] = ()
) -> OrderRejected:
    return OrderRejected(
        order_id=order.order_id,
        reason=reason,
        detail=detail,
        lines=order.lines,
        was_confirmed=order.confirmed,
        compensations=order.progress.undone if compensations is None else compensations,
        closed=closed,
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
    """Do what somebody has found out; a command that does not fit the order's status is refused."""
    match command, order.status:
        case ConfirmOrder(), "pending":
            return [_confirmed(order)]
        case RejectOrder(), "pending" | "confirmed":
            return [_rejected(order, command.reason, command.detail, compensations=command.compensations, closed=command.closed)]
        case CompleteOrder(closed=closed), "confirmed":
            return [OrderCompleted(order_id=order.order_id, closed=closed)]
        case _:
            raise Rejected(f"order_{order.status}", order_id=order.order_id)


def told(message: PlaceOrder | OrderCommand, order: Order) -> Items:
    """Return what only the orchestrator may say: how a cancellation ends, that the order has expired, that a person sees to it; and the
    answer to what it repeats.

    Raises:
        Rejected: nobody has asked for the cancellation that it ends; or the order that a person is to see to has ended.
    """
    match message, order.status:
        case _, "on_hold":
            return []
        case HoldOrder(), _:
            return hold(message, order)
        case ConfirmOrder(), _ if order.confirmed:
            return [OrderStandsConfirmed(order_id=order.order_id)]
        case CompleteOrder(), "completed":
            return [OrderStandsCompleted(order_id=order.order_id)]
        case CompleteOrder(closed=closed), "cancelling" if order.confirmed:
            return [_refused(order, closed=closed), OrderCompleted(order_id=order.order_id, closed=closed)]
        case ((RejectOrder(compensations=done, closed=closed) | CancelOrder(compensations=tuple(done), closed=closed)), "cancelling"):
            return [_cancelled(order, done, closed=closed)]
        case CancelOrder(compensations=tuple()), _:
            raise Rejected(f"order_{order.status}", order_id=order.order_id)
        case RejectOrder(reason="reservation_expired", compensations=done, closed=closed), "pending" | "confirmed":
            return [_expired(order, done, closed=closed)]
        case _:
            return []
