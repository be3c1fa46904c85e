"""The checkout as a table of steps: what is asked for, what the answers are, and how each step is taken back. Pure.

    review            only where the content may still change: waits until it is final
    reserve-stock     release-stock
    process-payment   refund-payment, at once even while the provider is being asked: whoever is told twice what to do does the second
    confirm-order     nothing of its own to undo: how the order ends is said at the end
    schedule-shipping cancel-shipping; `item-shipped` means that it came too late, and the order goes on
    item-shipped      the pivot: what has left is not called back
    commit-stock, complete-order      only repeated, until they are done

A cancel asks all three of stock, payment and shipping to take the order back, whether they have heard of it or not, so each says what is
left there. Commands that take back name in `closed` who had said by then that nothing is left.

Whoever takes a checkout over finds its order on hold, where nobody else moves it, and says there how it ends.

Times: a step has 30 seconds. Payments asks a silent provider for half a minute and may need some more, so it has 75, and a refund, which is
tried for half a minute before it counts as refused, 45. A reservation that expires while the payment runs calls the payment off; once it is
paid, `keep-stock` has kept it.

Neighbours: `case` makes and keeps what the commands need; the toolkit runs the table.
"""

from __future__ import annotations

from datetime import timedelta

from millrace import Saga
from millrace.saga import SagaEnd, SagaReason
from parcomolo.checkout.case import Case, begin, booked_out, final_content, learn
from parcomolo.contracts.closing import closed_by
from parcomolo.contracts.inventory import (
    CommitStock,
    KeepStock,
    OutOfStock,
    ReleaseStock,
    ReservationExpired,
    ReserveStock,
    StockCommandRejected,
    StockCommitted,
    StockReleased,
    StockReserved,
)
from parcomolo.contracts.orders import (
    CancelOrder,
    CompleteOrder,
    ConfirmOrder,
    HoldOrder,
    OrderCancellationRequested,
    OrderCommandRejected,
    OrderCompleted,
    OrderConfirmed,
    OrderPlaced,
    OrderReviewEnded,
    OrderStandsCompleted,
    OrderStandsConfirmed,
    RejectOrder,
)
from parcomolo.contracts.payments import (
    PaymentCommandRejected,
    PaymentFailed,
    PaymentRefunded,
    PaymentSucceeded,
    ProcessPayment,
    RefundFailed,
    RefundPayment,
)
from parcomolo.contracts.shipping import (
    CancelShipping,
    ItemShipped,
    ScheduleShipping,
    ShippingCancelled,
    ShippingCommandRejected,
    ShippingFailed,
    ShippingScheduled,
)

PAYMENT_TIME = timedelta(seconds=75)
REFUND_TIME = timedelta(seconds=45)
CANCELLED, EXPIRED, OUT_OF_STOCK, NOT_CONFIRMED = "order_cancelled", "reservation_expired", "out_of_stock", "not_confirmed"
NO_ANSWER, REFUSED = "no_answer", "refused"
_MESSAGES = {"reservation-expired": EXPIRED, "out-of-stock": OUT_OF_STOCK}
_STEPS = {"reserve-stock": OUT_OF_STOCK, "process-payment": "payment_failed", "confirm-order": NOT_CONFIRMED}

_TOLD = {"payment_failed": {"payment-failed"}, "shipping_failed": {"shipping-failed", "shipping-cancelled"}}
"""By which fact a reader of the story learns of a reason."""


def why(cause: SagaReason | SagaEnd) -> str:
    """Return the word that commands and facts use for it."""
    if cause.reason == "cancelled":
        return CANCELLED
    return _MESSAGES.get(cause.message) or _STEPS.get(cause.step, "shipping_failed")


def why_undone(cause: SagaReason) -> str:
    """Return the word that undo commands and their answers use: payment_failed and shipping_failed only where a fact has said so."""
    if cause.reason == "timeout":
        return NO_ANSWER
    reason = why(cause)
    return reason if cause.message in _TOLD.get(reason, {cause.message}) else REFUSED


# Forward


def reserve(case: Case) -> ReserveStock:
    """All lines or nothing."""
    return ReserveStock(order_id=case.order_id, lines=case.lines)


def pay(case: Case) -> ProcessPayment:
    """Take the total."""
    return ProcessPayment(order_id=case.order_id, amount=case.total, token=case.token)


def confirm(case: Case) -> tuple[ConfirmOrder, KeepStock]:
    """Reserved and paid; what is paid does not expire."""
    return ConfirmOrder(order_id=case.order_id), KeepStock(order_id=case.order_id)


def schedule(case: Case) -> ScheduleShipping:
    """Book a parcel."""
    return ScheduleShipping(order_id=case.order_id, lines=case.lines, ship_to=case.ship_to)


def commit(case: Case) -> CommitStock:
    """The parcel has left."""
    return CommitStock(order_id=case.order_id)


def complete(case: Case) -> CompleteOrder:
    """Nothing is left to do."""
    return CompleteOrder(order_id=case.order_id, closed=("stock", "shipping") if case.committed else ("shipping",))


# Back


def release(case: Case, cause: SagaReason) -> ReleaseStock | None:
    """Give the stock back; an expired reservation has been."""
    reason = why_undone(cause)
    return None if reason == EXPIRED else ReleaseStock(order_id=case.order_id, reason=reason, closed=closed_by(cause.answers, but="stock"))


def refund(case: Case, cause: SagaReason) -> RefundPayment:
    """Give the money back, or see to it that none is taken."""
    return RefundPayment(order_id=case.order_id, reason=why_undone(cause), closed=closed_by(cause.answers, but="payment"))


def unship(case: Case, cause: SagaReason) -> CancelShipping:
    """Call the carrier off."""
    return CancelShipping(order_id=case.order_id, reason=why_undone(cause))


def end(case: Case, cause: SagaEnd) -> CancelOrder | RejectOrder:
    """Say how the order ends, when everything is undone."""
    reason, closed = why(cause), closed_by(cause.answers)
    if reason == CANCELLED:
        return CancelOrder(order_id=case.order_id, reason=cause.detail, compensations=case.undone, closed=closed)
    detail = NO_ANSWER if cause.reason == "timeout" else case.detail
    reason = "shipping_failed" if reason == NOT_CONFIRMED else reason
    return RejectOrder(order_id=case.order_id, reason=reason, detail=detail, compensations=case.undone, closed=closed)


def hold(case: Case, cause: SagaReason) -> HoldOrder:
    """A person has taken over: the order is left to whoever settles it."""
    return HoldOrder(order_id=case.order_id, reason=str(cause), heard=cause.answers)


def table() -> Saga:
    """Return the saga."""
    checkout = Saga("checkout", key="order_id", starts=OrderPlaced, begin=begin, keys={StockCommandRejected: "subject"})
    _until_it_leaves(checkout)
    checkout.step("item-shipped", done=ItemShipped, given_up=(OutOfStock, ShippingCancelled), timeout=None, pivot=True, learn_back=learn)
    checkout.step("commit-stock", send=commit, done=StockCommitted, failed=StockCommandRejected, learn=booked_out)
    checkout.step("complete-order", send=complete, done=(OrderCompleted, OrderStandsCompleted), failed=OrderCommandRejected)
    checkout.cancel(OrderCancellationRequested)
    checkout.ended(undone=end, taken_over=hold)
    return checkout


def _until_it_leaves(checkout: Saga) -> None:
    checkout.step(
        "review",
        needed=lambda case: case.in_review,
        done=OrderReviewEnded,
        learn=final_content,
        timeout=None,
        nothing_to_undo="nothing is asked for before the content is final",
    )
    checkout.step(
        "reserve-stock",
        send=reserve,
        done=StockReserved,
        failed=(OutOfStock, StockCommandRejected),
        undo=release,
        undone=StockReleased,
        interrupt=True,
        undo_anyway=True,
        learn_back=learn,
    )
    checkout.step(
        "process-payment",
        send=pay,
        done=PaymentSucceeded,
        failed=(PaymentFailed, PaymentCommandRejected),
        given_up=ReservationExpired,
        undo=refund,
        undone=(PaymentRefunded, PaymentFailed),
        undo_failed=RefundFailed,
        timeout=PAYMENT_TIME,
        undo_timeout=REFUND_TIME,
        interrupt=True,
        undo_anyway=True,
        learn_back=learn,
    )
    checkout.step(
        "confirm-order",
        send=confirm,
        done=(OrderConfirmed, OrderStandsConfirmed),
        failed=OrderCommandRejected,
        given_up=OutOfStock,
        nothing_to_undo="how the order ends is said at the end",
        learn_back=learn,
    )
    checkout.step(
        "schedule-shipping",
        send=schedule,
        done=ShippingScheduled,
        failed=(ShippingFailed, ShippingCommandRejected),
        given_up=OutOfStock,
        undo=unship,
        undone=(ShippingCancelled, ShippingFailed),
        kept=ItemShipped,
        interrupt=True,
        undo_anyway=True,
        learn_back=learn,
    )
