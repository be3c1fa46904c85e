"""What the API tells of an order.

Neighbours: `routes` answers with these; the pages show them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import msgspec

from millrace import Event, Recorded
from parcomolo.contracts.lines import Line, ShipTo
from parcomolo.contracts.money import Money
from parcomolo.orders.checkout import FulfilmentStatus, PaymentStatus
from parcomolo.orders.messages import CheckoutProgressed
from parcomolo.orders.order import Order, Outcome, Status, evolve
from parcomolo.orders.timeline import STORY, Entry
from parcomolo.orders.views import OrderStatus


class OrderAnswer(msgspec.Struct, kw_only=True):
    """An order. `version` counts what it has learned; `reason` says why it ended, is on hold, or is being cancelled.

    `settling`: how an order that is on hold is about to end, when an operator has said so and not everybody has answered yet.
    """

    order_id: str
    number: str
    customer_id: str
    lines: tuple[Line, ...]
    total: Money
    ship_to: ShipTo | None
    status: Status
    payment_status: PaymentStatus
    fulfilment_status: FulfilmentStatus
    reason: str | None
    settling: Outcome | None = None
    placed_at: datetime
    version: int


class TimelineEntry(msgspec.Struct, kw_only=True):
    """A fact that has happened, from whichever service."""

    type: str
    at: datetime
    service: str
    text: str


class OrderStory(OrderAnswer, kw_only=True):
    """An order with its story. No status is told before every fact that caused it is in the timeline."""

    timeline: tuple[TimelineEntry, ...]


class OrderPage(msgspec.Struct, kw_only=True):
    """Some orders, newest first; `next` is the cursor of the next page, null after the last."""

    items: tuple[OrderAnswer, ...]
    next: str | None


class StoredEvent(msgspec.Struct, kw_only=True):
    """An event of the order's own stream; personal fields are masked."""

    version: int
    type: str
    id: str
    at: datetime
    data: dict[str, Any]


def answer_of(order: Order) -> OrderAnswer:
    """Return the order as the API tells it."""
    return OrderAnswer(
        order_id=order.order_id,
        number=order.number,
        customer_id=order.customer_id,
        lines=order.lines,
        total=order.total,
        ship_to=order.ship_to,
        status=order.status,
        payment_status=order.payment_status,
        fulfilment_status=order.fulfilment_status,
        reason=order.reason,
        settling=order.settlement.outcome if order.settlement is not None and order.status == "on_hold" else None,
        placed_at=order.placed_at,
        version=order.version,
    )


def story_of(order: Order, entries: Collection[Entry]) -> OrderStory:
    """Return the order with its story."""
    told = tuple(TimelineEntry(type=entry.type, at=entry.at, service=entry.service, text=entry.text) for entry in entries)
    return OrderStory(**msgspec.structs.asdict(answer_of(order)), timeline=told)


def story_from_view(view: OrderStatus) -> OrderStory:
    """Return what the view knows."""
    return story_of(view.order, view.timeline)


def story_as_placed(events: Sequence[Recorded]) -> OrderStory | None:
    """Return the order as it was before any other service answered: for the moment until the view has it."""
    order: Order | None = None
    entries: list[Entry] = []
    for recorded in events:
        message: Any = recorded.message
        if isinstance(message, CheckoutProgressed):
            break
        order = evolve(order, message)
        entries.append(own_entry(recorded))
    return story_of(order, entries) if order is not None else None


def story_as_of(order: Order, events: Sequence[Recorded], view: OrderStatus | None) -> OrderStory:
    """Return the order as it was after its first events: those, and of other services what they followed.

    Args:
        order: as of then.
        events: all of the order's, of which it has `version`.
        view: tells what others said.
    """
    past, later = events[: order.version], events[order.version :]
    entries = [own_entry(recorded) for recorded in past if type(recorded.message) in STORY]
    mixed = _told_before(view.timeline if view is not None else (), {entry.id for entry in entries})
    told = {entry.id for entry in mixed}
    for recorded in later:
        if isinstance(recorded.message, CheckoutProgressed) and recorded.envelope.causationid in told:
            order = msgspec.structs.replace(evolve(order, recorded.message), version=order.version)
    causes = {recorded.envelope.causationid for recorded in past}
    others = [entry for entry in view.timeline if entry.id in causes and entry.id not in told] if view is not None else []
    return story_of(order, [*mixed, *(entry for entry in entries if entry.id not in told), *others])


def _told_before(timeline: Sequence[Entry], own: Collection[str]) -> list[Entry]:
    """Return what a story tells up to the last of the order's own events, without those that came later."""
    last = max((number for number, entry in enumerate(timeline) if entry.id in own), default=-1)
    return [entry for entry in timeline[: last + 1] if entry.service != "orders" or entry.id in own]


def own_entry(recorded: Recorded) -> Entry:
    """Return a stored event of the order as an entry of its story."""
    message, envelope = recorded.message, recorded.envelope
    assert isinstance(message, Event)  # noqa: S101  # a stream holds events only
    name, sentence = STORY[type(message)]
    at = datetime.fromisoformat(envelope.time)
    return Entry(type=name, at=at, service="orders", text=sentence(message), id=envelope.id)
