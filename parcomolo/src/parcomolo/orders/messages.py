"""What is asked of orders from inside this process, and what it says to itself.

The commands that other contexts may send are in the contracts; these come from people (over HTTP) and from timers.
"""

from __future__ import annotations

from typing import Annotated, Literal

from millrace import Command, Event, Personal
from parcomolo.contracts.lines import Line, ShipTo
from parcomolo.contracts.money import Money


class PlaceOrder(Command, key="order_id"):
    """Take an order; its lines carry the prices of this moment. `number` is derived when it is not given."""

    order_id: str
    customer_id: str
    lines: tuple[Line, ...]
    payment_token: Annotated[str, Personal]
    ship_to: Annotated[ShipTo | None, Personal] = None
    number: str | None = None
    review_seconds: float = 0


class AddLine(Command, key="order_id"):
    """Add pieces at this price, which then holds for all pieces of the product."""

    order_id: str
    sku: str
    name: str
    quantity: int
    unit_price: Money


class RemoveLine(Command, key="order_id"):
    """Remove pieces of a product; without a quantity all of them."""

    order_id: str
    sku: str
    quantity: int | None = None


class DeliverOrder(Command, key="order_id"):
    """The parcel has arrived."""

    order_id: str


class SettleOrder(Command, key="order_id"):
    """An operator says how an order that is on hold ends, and why; `by` is the operator, if a name was given. Said again, it asks again."""

    order_id: str
    outcome: Literal["cancelled", "completed"]
    reason: str
    by: str = ""


class EndReview(Command, key="order_id", internal=True):
    """The time to change the content is over."""

    order_id: str


class CheckoutProgressed(Event, topic="internal.orders", key="order_id", internal=True):
    """What another context said about the order, as the order remembers it."""

    order_id: str
    axis: Literal["stock", "payment", "shipping"]
    state: str
    detail: str = ""
    undone: str | None = None
