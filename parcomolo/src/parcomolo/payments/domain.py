"""Payment of an order: what to ask the provider, when to ask again, and what to tell the others. Pure.

    waiting -> charging <-> retrying        asked, and asked again after a soft decline or an unknown outcome
    charging -> succeeded -> refunding -> refunded
    waiting, charging, retrying -> failed

The outcome of a charge may stay unknown. Then the provider is asked again with the same key, which charges once at
most, and in the end the key is voided, which keeps the money out even if a charge went through. (Source: Stripe's
rules for idempotency keys; retry soft declines, never hard ones.)

Stopping an order may come at any time, even before the order is known here: `stop` remembers it. Whoever commands gets an answer each
time: to a repeated command the first one again, unless the provider is being asked, whose answer is the answer then.

Neighbours: `service` calls the provider with the requests decided here, and hands its answers to the decisions about them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from msgspec.structs import replace

from millrace import Cancel, Command, Event, NotYet, State, Timer
from parcomolo.contracts.inventory import ReservationExpired, StockReserved
from parcomolo.contracts.lines import Line, StockLine, merged, price_of, summed, without
from parcomolo.contracts.money import Money
from parcomolo.contracts.orders import (
    OrderCancelled,
    OrderExpired,
    OrderLineAdded,
    OrderLineRemoved,
    OrderPlaced,
    OrderRejected,
)
from parcomolo.contracts.payments import (
    PaymentFailed,
    PaymentRefunded,
    PaymentSucceeded,
    ProcessPayment,
    RefundFailed,
    RefundPayment,
)
from parcomolo.contracts.shipping import ShippingCancelled, ShippingFailed
from parcomolo.payments.answers import ChargeAnswered, RefundAnswered
from parcomolo.payments.messages import ChargeAgain, ChargeCard, RefundAgain, RefundCard, VoidCard

Items = list[State | Event | Command | Timer | Cancel]
Kept = list[State]
"""Changes state and says nothing, so it need not be taken at once."""

SOFT_DECLINE_DELAYS = (timedelta(seconds=1), timedelta(seconds=2))
"""A soft decline is tried again after these; the next one is final."""
UNKNOWN_DELAYS = (timedelta(seconds=5),) * 5
"""An unknown outcome is asked about again after these: 25 s in all, so that an order ends well within a minute."""
REFUND_DELAYS = tuple(timedelta(seconds=seconds) for seconds in (1, 2, 4, 8, 16))
"""A refused refund is tried again after these; then a person has to look."""

RETRY = "charge"
RETRY_REFUND = "refund"


class PaymentCase(State, key="order_id"):
    """What payments knows of an order.

    `stopped`: why the money is not wanted any more, while a charge is out; `closed`: who had nothing left of the order when that was
    commanded; `failure`: why no money is kept, as it was told.
    """

    order_id: str
    status: Literal["waiting", "charging", "retrying", "succeeded", "failed", "refunding", "refund_failed", "refunded"] = "waiting"
    lines: tuple[Line, ...] = ()
    token: str = ""
    amount: Money | None = None
    attempt: int = 0
    stopped: str | None = None
    closed: tuple[str, ...] = ()
    failure: str = ""
    retryable: bool = False

    @property
    def payment_id(self) -> str:
        """The payment's id, which is also its key at the provider."""
        return f"pay-{self.order_id}"

    @property
    def asked(self) -> Money:
        """What the provider was asked for; nothing before it was asked."""
        return self.amount or Money(amount=0)


# What is to be paid


def remember(event: OrderPlaced, case: PaymentCase | None) -> Kept:
    """Keep what the charge will need; an order that was stopped before it was known stays so."""
    if case is not None:
        return []
    return [PaymentCase(order_id=event.order_id, lines=event.lines, token=event.payment_token)]


def change_content(event: OrderLineAdded | OrderLineRemoved, case: PaymentCase | None) -> Kept:
    """Follow the content while it may change."""
    if case is None or case.status != "waiting":
        return []
    if isinstance(event, OrderLineRemoved):
        return [replace(case, lines=without(case.lines, sku=event.sku, quantity=event.quantity))]
    added = Line(sku=event.sku, name=event.name, quantity=event.quantity, unit_price=event.unit_price)
    return [replace(case, lines=merged(case.lines, added))]


# Taking it


def charge_reserved(event: StockReserved, case: PaymentCase | None) -> Items:
    """Charge for what was reserved; an order whose content has not arrived here yet is waited for."""
    if case is None:
        raise NotYet("order-placed of what was reserved")
    if case.status != "waiting":
        return []
    if _by_sku(summed(case.lines)) != _by_sku(event.lines):
        raise NotYet("the changes of content that were reserved")
    return _begin(case, price_of(case.lines))


def charge_on_command(command: ProcessPayment, case: PaymentCase | None) -> Items:
    """Charge what the command says; an order that was charged, or stopped, is not charged again."""
    known = case or PaymentCase(order_id=command.order_id)
    if known.status == "waiting":
        return _begin(replace(known, token=command.token), command.amount)
    return [_succeeded_again(known)] if known.status == "succeeded" else _undone_again(known)


def charge_again(_command: ChargeAgain, case: PaymentCase | None) -> Items:
    """Ask again, with the same key."""
    return _ask(case) if case is not None and case.status == "retrying" else []


def charge_answered(answer: ChargeAnswered, case: PaymentCase | None) -> Items:
    """Turn the provider's answer into a fact, or into another attempt."""
    if case is None or case.status != "charging" or answer.attempt != case.attempt:
        return []
    if answer.outcome == "ok":
        return _succeeded(case)
    if case.stopped is not None:
        return _failed(case, case.stopped, void=answer.outcome == "unknown")
    if answer.outcome == "declined_hard":
        return _failed(case, answer.reason)
    delays = SOFT_DECLINE_DELAYS if answer.outcome == "declined_soft" else UNKNOWN_DELAYS
    if case.attempt <= len(delays):
        timer = Timer(RETRY, ChargeAgain(order_id=case.order_id), after=delays[case.attempt - 1])
        return [replace(case, status="retrying"), timer]
    return _failed(case, answer.reason, retryable=True, void=answer.outcome == "unknown")


def _begin(case: PaymentCase, amount: Money) -> Items:
    return _ask(replace(case, amount=amount, attempt=0))


def _ask(case: PaymentCase) -> Items:
    asking = replace(case, status="charging", attempt=case.attempt + 1)
    request = ChargeCard(order_id=case.order_id, payment_id=case.payment_id, amount=case.asked, token=case.token, attempt=asking.attempt)
    return [asking, request]


def _succeeded(case: PaymentCase) -> Items:
    paid = replace(case, status="succeeded")
    said = _succeeded_again(case)
    if case.stopped is None:
        return [paid, said]
    return [said, *_refund(paid, case.stopped)]


def _succeeded_again(case: PaymentCase) -> PaymentSucceeded:
    return PaymentSucceeded(order_id=case.order_id, payment_id=case.payment_id, amount=case.asked)


def _failed(case: PaymentCase, reason: str, *, retryable: bool = False, void: bool = False) -> Items:
    failed = replace(case, status="failed", failure=reason, retryable=retryable)
    items: Items = [failed, _failed_again(failed)]
    return [*items, VoidCard(order_id=case.order_id, payment_id=case.payment_id)] if void else items


def _failed_again(case: PaymentCase) -> PaymentFailed:
    return PaymentFailed(
        order_id=case.order_id,
        payment_id=case.payment_id,
        reason=case.failure,
        retryable=case.retryable,
        amount=case.amount,
        closed=case.closed,
    )


# Stopping, and giving it back


def stop(event: ShippingCancelled | ShippingFailed, case: PaymentCase | None) -> Items:
    """Nothing will leave for this order: never charge, or give back. Every order gets exactly one last answer."""
    reason = "shipping_failed" if isinstance(event, ShippingFailed) else event.reason
    return _stop(case or PaymentCase(order_id=event.order_id), reason)


def stop_on_command(command: RefundPayment, case: PaymentCase | None) -> Items:
    """Like `stop`, but whoever commands is told again what was done before, and may leave alone what was taken."""
    known = replace(case or PaymentCase(order_id=command.order_id), closed=command.closed)
    if command.only_open and known.status in ("succeeded", "refunding", "refund_failed"):
        return [] if known.status == "refunding" else [_succeeded_again(known)]
    return _undone_again(known) or _stop(known, command.reason)


def _undone_again(case: PaymentCase) -> Items:
    match case.status:
        case "failed":
            return [_failed_again(case)]
        case "refunded":
            return [_refunded_again(case)]
        case _:
            return []


def _stop(known: PaymentCase, reason: str) -> Items:
    match known.status:
        case "waiting":
            return _failed(known, reason)
        case "charging":
            return [replace(known, stopped=known.stopped or reason)]
        case "retrying":
            return [Cancel(RETRY), *_failed(known, reason, void=True)]
        case "succeeded" | "refund_failed":
            return _refund(known, reason)
        case _:
            return []


def void_expired(event: ReservationExpired, case: PaymentCase | None) -> Items:
    """The reservation is gone: what is not yet paid is never paid. A payment that has succeeded stands.

    A charge on its way is voided behind it, and its answer is not listened to any more.
    """
    known = case or PaymentCase(order_id=event.order_id)
    if known.status not in ("waiting", "charging", "retrying"):
        return []
    asked = known.status != "waiting"
    return [Cancel(RETRY), *_failed(known, known.stopped or "reservation_expired", void=asked)]


def close(_event: OrderCancelled | OrderRejected | OrderExpired, case: PaymentCase | None) -> Items:
    """The order has ended. Nothing should be open here; whatever is, is not charged any more, or given back."""
    if case is None:
        return []
    if case.status == "waiting":
        return [replace(case, status="failed", failure="order_ended")]
    if case.status == "charging":
        return [replace(case, stopped=case.stopped or "order_ended")]
    return _refund(case, "order_ended") if case.status == "succeeded" else []


def refund_again(_command: RefundAgain, case: PaymentCase | None) -> Items:
    """Try once more to give back."""
    return _ask_refund(case) if case is not None and case.status == "refunding" else []


def refund_answered(answer: RefundAnswered, case: PaymentCase | None) -> Items:
    """Say that it is given back only when the provider has said so; try again, and say when nothing helped."""
    if case is None or case.status != "refunding" or answer.attempt != case.attempt:
        return []
    if answer.refunded:
        return [replace(case, status="refunded"), _refunded_again(case)]
    if case.attempt <= len(REFUND_DELAYS):
        return [Timer(RETRY_REFUND, RefundAgain(order_id=case.order_id), after=REFUND_DELAYS[case.attempt - 1])]
    failed = RefundFailed(order_id=case.order_id, payment_id=case.payment_id, reason=answer.reason)
    return [replace(case, status="refund_failed"), failed]


def _refunded_again(case: PaymentCase) -> PaymentRefunded:
    reason, closed = case.stopped or "", case.closed
    return PaymentRefunded(order_id=case.order_id, payment_id=case.payment_id, amount=case.asked, reason=reason, closed=closed)


def _refund(case: PaymentCase, reason: str) -> Items:
    return _ask_refund(replace(case, status="refunding", stopped=reason, attempt=0))


def _ask_refund(case: PaymentCase) -> Items:
    asking = replace(case, attempt=case.attempt + 1)
    request = RefundCard(order_id=case.order_id, payment_id=case.payment_id, amount=case.asked, attempt=asking.attempt)
    return [asking, request]


def _by_sku(lines: tuple[StockLine, ...]) -> dict[str, int]:
    return {line.sku: line.quantity for line in lines}
