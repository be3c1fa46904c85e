"""Shipment of an order, and the one decision on which a cancellation turns. Pure.

    waiting -> booking -> scheduled -> shipped      the way of a paid order
    booking -> failed                               the carrier refuses
    waiting, booking, scheduled -> cancelled        asked for in time, or the stock is gone
    waiting -> withheld -> cancelled                out of stock before any payment: a late payment books nothing

`cancelled` and `shipped` exclude each other, and both are decided here, one message at a time per order: whichever
comes first wins, and everybody else follows the fact. A cancellation is remembered even before the order is known
here. Whoever commands gets an answer each time: to a repeated command the first one again.

Neighbours: `service` books with the carrier what is decided here and brings its answer back.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from msgspec.structs import replace

from millrace import Cancel, Command, Event, NotYet, Rejected, State, Timer
from parcomolo.contracts.inventory import OutOfStock
from parcomolo.contracts.lines import ShipTo
from parcomolo.contracts.orders import OrderCancellationRequested, OrderPlaced
from parcomolo.contracts.payments import PaymentSucceeded
from parcomolo.contracts.shipping import (
    CancelShipping,
    ItemShipped,
    ScheduleShipping,
    ShippingCancelled,
    ShippingFailed,
    ShippingScheduled,
)
from parcomolo.shipping.carrier import ParcelBooked
from parcomolo.shipping.messages import BookParcel, SendParcel, UnbookParcel

Items = list[State | Event | Command | Timer | Cancel]
Kept = list[State]
"""Changes state and says nothing, so it need not be taken at once."""
PICK_UP = "pick-up"


class Parcel(State, key="order_id"):
    """What shipping knows of an order; `reason` is why it failed or was cancelled."""

    order_id: str
    status: Literal["waiting", "booking", "scheduled", "shipped", "failed", "cancelled", "withheld"] = "waiting"
    ship_to: ShipTo | None = None
    reason: str = ""

    @property
    def shipment_id(self) -> str:
        """The shipment's id, which is also its key at the carrier."""
        return shipment_id_of(self.order_id)


def shipment_id_of(order_id: str) -> str:
    """Return the id of the one shipment that an order has."""
    return f"ship-{order_id}"


def remember(event: OrderPlaced, parcel: Parcel | None) -> Kept:
    """Keep the address; an order that was stopped before it was known stays so."""
    return [Parcel(order_id=event.order_id, ship_to=event.ship_to)] if parcel is None else []


def schedule_paid(event: PaymentSucceeded, parcel: Parcel | None) -> Items:
    """Book a parcel for a paid order; if its stock is gone meanwhile, say that nothing will leave."""
    if parcel is None:
        raise NotYet("order-placed of what was paid")
    if parcel.status == "withheld":
        return _cancelled(parcel, "out_of_stock")
    return _book(parcel) if parcel.status == "waiting" else []


def schedule_on_command(command: ScheduleShipping, parcel: Parcel | None) -> Items:
    """Book a parcel as the command says, once. While the carrier is asked, its answer is the answer."""
    known = parcel or Parcel(order_id=command.order_id)
    if known.status == "waiting":
        return _book(replace(known, ship_to=command.ship_to))
    return _answer_again(known)


def _answer_again(parcel: Parcel) -> Items:
    order_id, shipment_id = parcel.order_id, parcel.shipment_id
    match parcel.status:
        case "scheduled":
            return [ShippingScheduled(order_id=order_id, shipment_id=shipment_id)]
        case "shipped":
            return [ShippingScheduled(order_id=order_id, shipment_id=shipment_id), ItemShipped(order_id=order_id, shipment_id=shipment_id)]
        case "failed":
            return [ShippingFailed(order_id=order_id, shipment_id=shipment_id, reason=parcel.reason)]
        case "cancelled" | "withheld":
            return [ShippingCancelled(order_id=order_id, reason=parcel.reason)]
        case _:
            return []


def _book(parcel: Parcel) -> Items:
    booking = replace(parcel, status="booking")
    return [booking, BookParcel(order_id=parcel.order_id, shipment_id=parcel.shipment_id, ship_to=parcel.ship_to)]


def booked(answer: ParcelBooked, parcel: Parcel | None, *, delay: timedelta) -> Items:
    """Follow the carrier's answer; the parcel leaves after `delay`. What was cancelled meanwhile is unbooked behind it."""
    if parcel is None or parcel.status != "booking":
        return []
    order_id, shipment_id = parcel.order_id, parcel.shipment_id
    if answer.refusal is not None:
        failed = ShippingFailed(order_id=order_id, shipment_id=shipment_id, reason=answer.refusal)
        return [replace(parcel, status="failed", reason=answer.refusal), failed]
    waiting, scheduled = replace(parcel, status="scheduled"), ShippingScheduled(order_id=order_id, shipment_id=shipment_id)
    pick_up = SendParcel(order_id=order_id)
    if not delay:
        return [scheduled, *send(pick_up, waiting)]
    return [waiting, scheduled, Timer(PICK_UP, pick_up, after=delay)]


def send(command: SendParcel, parcel: Parcel | None) -> Items:
    """The parcel leaves, unless it was cancelled a moment before."""
    if parcel is None or parcel.status != "scheduled":
        return []
    return [replace(parcel, status="shipped"), ItemShipped(order_id=command.order_id, shipment_id=parcel.shipment_id)]


def cancel(event: OrderCancellationRequested, parcel: Parcel | None) -> Items:
    """Cancel if nothing has left, exactly once; what has left or failed has had its answer."""
    known = parcel or Parcel(order_id=event.order_id)
    return _cancelled(known, "order_cancelled") if known.status not in ("shipped", "failed", "cancelled") else []


def cancel_on_command(command: CancelShipping, parcel: Parcel | None) -> Items:
    """Like `cancel`, but whoever commands is told when it is too late, or has been done.

    Raises:
        Rejected: the parcel has left.
    """
    known = parcel or Parcel(order_id=command.order_id)
    if known.status == "shipped":
        raise Rejected("already_shipped", order_id=command.order_id)
    return _answer_again(known) if known.status in ("failed", "cancelled") else _cancelled(known, command.reason)


def withhold(event: OutOfStock, parcel: Parcel | None) -> Items:
    """Send nothing for an order without stock. One that was paid and not sent is cancelled, so that it is refunded."""
    known = parcel or Parcel(order_id=event.order_id)
    if known.status == "waiting":
        return [replace(known, status="withheld")]
    return _cancelled(known, "out_of_stock") if known.status in ("booking", "scheduled") else []


def _cancelled(parcel: Parcel, reason: str) -> Items:
    booked_id = parcel.shipment_id if parcel.status in ("booking", "scheduled") else None
    said = ShippingCancelled(order_id=parcel.order_id, reason=reason, shipment_id=booked_id)
    items: Items = [replace(parcel, status="cancelled", reason=reason), Cancel(PICK_UP), said]
    return [*items, UnbookParcel(order_id=parcel.order_id, shipment_id=booked_id)] if booked_id else items
