"""Reservations: what inventory decides for an order. Pure.

    collecting -> reserved -> committed                 the way of an order that is paid and shipped
    collecting -> short                                 too little of something: nothing is reserved
    reserved -> released                                undone: payment failed, cancelled, shipping failed
    reserved -> expired -> reserved | short             not paid in time; a payment that had won the race reserves again
    any but short and committed -> released             nothing will leave for this order, so nothing is reserved later

Every order gets exactly one last answer. Facts of other contexts may overtake each other (payments, shipping and
orders are different topics); what arrives early is remembered in the reservation, even before the order itself is
known. Whoever commands gets an answer each time: to a repeated command the first one again, and nothing happens twice.

Neighbours: `stock` does the arithmetic; `service` loads the rows and hands them in.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from msgspec.structs import replace

from millrace import Cancel, Event, NotYet, Rejected, State, Timer
from parcomolo.contracts.inventory import (
    AdjustStock,
    CommitStock,
    KeepStock,
    OutOfStock,
    ReceiveStock,
    ReleaseStock,
    ReservationExpired,
    ReserveStock,
    StockAdjusted,
    StockCommitted,
    StockReleased,
    StockReserved,
)
from parcomolo.contracts.lines import COUNTED_MAX, Shortage, StockLine, summed
from parcomolo.contracts.orders import OrderLineAdded, OrderLineRemoved, OrderPlaced, OrderReviewEnded
from parcomolo.contracts.payments import PaymentFailed, PaymentSucceeded
from parcomolo.contracts.shipping import ItemShipped, ShippingCancelled, ShippingFailed
from parcomolo.inventory.messages import ExpireReservation, OpenStock
from parcomolo.inventory.stock import Stock, StockRows, changed, moved, shortages

Items = list[State | Event | Timer | Cancel]
EXPIRY = "expiry"


class Reservation(State, key="order_id"):
    """What is, was or will be reserved for an order. `paid` stops the expiry; `short` is what there was too little of."""

    order_id: str
    status: Literal["collecting", "reserved", "short", "released", "expired", "committed"] = "collecting"
    lines: tuple[StockLine, ...] = ()
    paid: bool = False
    short: tuple[Shortage, ...] = ()


def place(event: OrderPlaced, stock: StockRows, reservation: Reservation | None, *, ttl: timedelta) -> Items:
    """Reserve at once, or keep the content while it is under review. An order that was stopped before stays so."""
    if reservation is not None:
        return []
    wanted = Reservation(order_id=event.order_id, lines=summed(event.lines))
    return [wanted] if event.review_until else reserve(wanted, stock, ttl=ttl)


def reserve_on_command(command: ReserveStock, stock: StockRows, reservation: Reservation | None, *, ttl: timedelta) -> Items:
    """Reserve what the command says; an order that has an answer gets the same one again.

    Raises:
        Rejected: nothing is reserved for it any more, or a quantity is none.
    """
    if reservation is not None:
        return [_answer_again(reservation)]
    for line in command.lines:
        if not 1 <= line.quantity <= COUNTED_MAX:  # one below 1 would give back what is promised to others
            raise Rejected("invalid_quantity", order_id=command.order_id, sku=line.sku)
    wanted = Reservation(order_id=command.order_id, lines=summed(command.lines))
    return reserve(wanted, stock, ttl=ttl, expires_at=command.expires_at)


def _answer_again(reservation: Reservation) -> Event:
    match reservation.status:
        case "reserved":
            return StockReserved(order_id=reservation.order_id, lines=reservation.lines)
        case "short":
            return OutOfStock(order_id=reservation.order_id, short=reservation.short)
        case "expired":
            return ReservationExpired(order_id=reservation.order_id, lines=reservation.lines)
        case other:
            raise Rejected(f"already_{other}", order_id=reservation.order_id)


def reserve(wanted: Reservation, stock: StockRows, *, ttl: timedelta, expires_at: datetime | None = None) -> Items:
    """Reserve all or nothing; the quantities are summed per product, so two lines of 20 are 40."""
    if short := shortages(wanted.lines, stock):
        return [replace(wanted, status="short", short=short), OutOfStock(order_id=wanted.order_id, short=short)]
    answer = StockReserved(order_id=wanted.order_id, lines=wanted.lines)
    items: Items = [replace(wanted, status="reserved"), *moved(wanted.lines, stock, reserved=+1), answer]
    return items if wanted.paid else [*items, _expiry(wanted, ttl, expires_at)]


def _expiry(wanted: Reservation, ttl: timedelta, expires_at: datetime | None) -> Timer:
    message = ExpireReservation(order_id=wanted.order_id, lines=wanted.lines)
    return Timer(EXPIRY, message, at=expires_at) if expires_at else Timer(EXPIRY, message, after=ttl)


def change_content(event: OrderLineAdded | OrderLineRemoved, reservation: Reservation | None) -> Items:
    """Follow a change of content under review; orders refuses it later on."""
    if reservation is None or reservation.status != "collecting":
        return []
    sign = +1 if isinstance(event, OrderLineAdded) else -1
    lines = summed((*reservation.lines, StockLine(sku=event.sku, quantity=sign * event.quantity)))
    return [replace(reservation, lines=tuple(line for line in lines if line.quantity > 0))]


def end_review(_event: OrderReviewEnded, stock: StockRows, reservation: Reservation | None, *, ttl: timedelta) -> Items:
    """Reserve the content as it is now."""
    if reservation is None or reservation.status != "collecting":
        return []
    return reserve(reservation, stock, ttl=ttl)


def note_payment(_event: PaymentSucceeded | KeepStock, stock: StockRows, reservation: Reservation | None, *, ttl: timedelta) -> Items:
    """A paid reservation does not expire. If it just did, the payment won the race: try to reserve again."""
    if reservation is None or reservation.status not in ("reserved", "expired") or reservation.paid:
        return []
    paid = replace(reservation, paid=True)
    if reservation.status == "reserved":
        return [paid, Cancel(EXPIRY)]
    return reserve(paid, stock, ttl=ttl)


def release_unpaid(event: PaymentFailed, stock: StockRows, reservation: Reservation | None) -> Items:
    """Give back what was reserved; whoever stops the order for another reason says so in a fact of its own."""
    if reservation is None or reservation.status != "reserved":
        return []
    return _give_back(reservation, stock, "payment_failed" if event.reason != "order_cancelled" else event.reason)


def stop(event: ShippingCancelled | ShippingFailed, stock: StockRows, reservation: Reservation | None) -> Items:
    """Nothing will leave for this order: give back, or say that there was nothing, and never reserve later."""
    if reservation is not None and reservation.status in ("short", "released", "committed"):
        return []
    return _close(event.order_id, stock, reservation, "shipping_failed" if isinstance(event, ShippingFailed) else event.reason)


def release_on_command(command: ReleaseStock, stock: StockRows, reservation: Reservation | None) -> Items:
    """Like `stop`, but whoever commands gets an answer each time; releasing twice changes nothing and says so."""
    if reservation is not None and reservation.status == "committed":
        raise Rejected("already_committed", order_id=command.order_id)
    if reservation is not None and reservation.status in ("short", "released"):
        return [StockReleased(order_id=command.order_id, lines=(), reason=command.reason, closed=command.closed)]
    return _close(command.order_id, stock, reservation, command.reason, closed=command.closed)


def _close(order_id: str, stock: StockRows, reservation: Reservation | None, reason: str, *, closed: tuple[str, ...] = ()) -> Items:
    if reservation is not None and reservation.status == "reserved":
        return _give_back(reservation, stock, reason, closed=closed)
    known = reservation or Reservation(order_id=order_id)
    return [
        replace(known, status="released"),
        Cancel(EXPIRY),
        StockReleased(order_id=order_id, lines=(), reason=reason, closed=closed),
    ]


def _give_back(reservation: Reservation, stock: StockRows, reason: str, *, closed: tuple[str, ...] = ()) -> Items:
    order_id, lines = reservation.order_id, reservation.lines
    back = moved(lines, stock, reserved=-1)
    released = StockReleased(order_id=order_id, lines=lines, reason=reason, closed=closed)
    return [replace(reservation, status="released"), Cancel(EXPIRY), *back, released]


def ship(event: ItemShipped, stock: StockRows, reservation: Reservation | None) -> Items:
    """The parcel has left: commit what is reserved. A lapsed reservation waits for the payment that will renew it."""
    if reservation is None or reservation.status in ("collecting", "expired"):
        raise NotYet("the reservation of what was shipped")
    if reservation.status == "short":
        return [StockCommitted(order_id=event.order_id, lines=())]
    return _take_out(reservation, stock) if reservation.status == "reserved" else []


def commit_on_command(command: CommitStock, stock: StockRows, reservation: Reservation | None) -> Items:
    """Commit what is reserved. What was paid and could not be renewed leaves empty-handed.

    Raises:
        Rejected: nothing is reserved.
    """
    if reservation is not None and reservation.status == "reserved":
        return _take_out(reservation, stock)
    if reservation is not None and reservation.status == "committed":
        return [StockCommitted(order_id=command.order_id, lines=())]  # nothing leaves a second time
    if reservation is not None and reservation.status == "short" and reservation.paid:
        return [StockCommitted(order_id=command.order_id, lines=())]
    raise Rejected("nothing_reserved", order_id=command.order_id)


def _take_out(reservation: Reservation, stock: StockRows) -> Items:
    order_id, lines = reservation.order_id, reservation.lines
    out = moved(lines, stock, on_hand=-1, reserved=-1)
    return [replace(reservation, status="committed"), Cancel(EXPIRY), *out, StockCommitted(order_id=order_id, lines=lines)]


def expire(command: ExpireReservation, stock: StockRows, reservation: Reservation | None) -> Items:
    """Give back what was not paid in time, by a fact."""
    if reservation is None or reservation.status != "reserved" or reservation.paid:
        return []
    said = ReservationExpired(order_id=command.order_id, lines=reservation.lines)
    return [replace(reservation, status="expired"), *moved(reservation.lines, stock, reserved=-1), said]


def open_stock(command: OpenStock, stock: Stock | None) -> Items:
    """Start with an opening stock; a product that is there already is left alone."""
    if stock is not None:
        return []
    row = Stock(sku=command.sku, initial=command.quantity, on_hand=command.quantity)
    return [row, StockAdjusted(sku=row.sku, delta=row.on_hand, on_hand=row.on_hand, reason="opening_stock")]


def adjust(command: AdjustStock | ReceiveStock, stock: Stock | None) -> Items:
    """Change what is on hand.

    Raises:
        Rejected: unknown_product, invalid_quantity, or below_reserved when less would remain than is promised.
    """
    if stock is None:
        raise Rejected("unknown_product", sku=command.sku)
    delta, reason = (command.delta, command.reason) if isinstance(command, AdjustStock) else (command.quantity, "received")
    if not (1 if isinstance(command, ReceiveStock) else -COUNTED_MAX) <= delta <= COUNTED_MAX:
        raise Rejected("invalid_quantity", sku=stock.sku)
    on_hand = stock.on_hand + delta
    if on_hand < stock.reserved:
        raise Rejected("below_reserved", sku=stock.sku, on_hand=stock.on_hand, reserved=stock.reserved, delta=delta)
    changes = changed(stock, on_hand=on_hand, reserved=stock.reserved)
    return [*changes, StockAdjusted(sku=stock.sku, delta=delta, on_hand=on_hand, reason=reason)]
