"""Late deliveries. Pure.

Business time from placed to delivered strictly above the limit is late; exactly the limit is not. An order that is
not delivered in time is late too. The deadline is judged in event time, a little after it (grace), so a delivery that
still waits in the log counts as what it is. Either way it is said once, and the fact is the record: a rebuild judges
nothing anew.

Neighbours: follows the facts of orders; the list of alerts is a view of the fact said here.
"""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace

from millrace import Cancel, Delete, Event, State, Timer
from parcomolo.contracts.operations import DeliveryLate
from parcomolo.contracts.orders import OrderCancelled, OrderDelivered, OrderExpired, OrderPlaced, OrderRejected
from parcomolo.operations.messages import JudgeDelivery

Items = list[State | Delete | Event | Timer | Cancel]
Kept = list[State | Delete | Timer | Cancel]
"""Changes state and says nothing, so it need not be taken at once."""
DEADLINE = "delivery"


class Watch(State, key="order_id"):
    """An order whose delivery is waited for; `late` once that has been said."""

    order_id: str
    late: bool = False


def watch(event: OrderPlaced, watched: Watch | None, *, limit: timedelta, grace: timedelta) -> Kept:
    """Wait for the delivery."""
    if watched is not None:
        return []
    judge = JudgeDelivery(order_id=event.order_id, seconds=(limit + grace).total_seconds())
    deadline = Timer(DEADLINE, judge, at=event.placed_at + limit + grace, event_time=True)
    return [Watch(order_id=event.order_id), deadline]


def judge_delivered(event: OrderDelivered, watched: Watch | None, *, limit: timedelta) -> Items:
    """Say late when it took longer than the limit and nobody has said so; the order is watched no more."""
    if watched is None:
        return []
    took = event.delivered_at - event.placed_at
    done: Items = [Delete(watched), Cancel(DEADLINE)]
    if watched.late or took <= limit:
        return done
    return [*done, DeliveryLate(order_id=event.order_id, seconds=took.total_seconds())]


def judge_missing(command: JudgeDelivery, watched: Watch | None) -> Items:
    """Say late of what is not delivered in time."""
    if watched is None or watched.late:
        return []
    return [replace(watched, late=True), DeliveryLate(order_id=command.order_id, seconds=command.seconds)]


def leave(_event: OrderCancelled | OrderRejected | OrderExpired, watched: Watch | None) -> Kept:
    """An order that ended without a parcel is watched no more."""
    return [Delete(watched), Cancel(DEADLINE)] if watched is not None else []
