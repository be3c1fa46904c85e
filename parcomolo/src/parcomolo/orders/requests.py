"""What clients send to the routes of orders; the constraints are part of the API's description."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec

from parcomolo.contracts.lines import ShipTo, StockLine
from parcomolo.orders.order import Status
from parcomolo.web.endpoint import Cursor, Limit, Name, Quantity, Sku, Text


class WantedLine(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A product and how many pieces of it."""

    sku: Sku
    quantity: Quantity


class Payment(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How it is paid: a single-use token of the payment provider, which is simulated and does as its token says."""

    token: Text


class Address(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where the parcel goes; the name `FAIL_SHIPPING` is one that no carrier finds."""

    name: Text
    street: Text | None = None
    city: Text | None = None
    country: Text | None = None


class OrderRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A new order. Repeating it with the same `order_id` gives the first answer again."""

    customer_id: Text
    lines: Annotated[list[WantedLine], msgspec.Meta(min_length=1, max_length=100)]
    payment: Payment
    ship_to: Address | None = None
    order_id: UUID | None = None
    review_seconds: Annotated[float, msgspec.Meta(ge=0, le=86_400, description="for how long its content may still change")] = 0


class CancelRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Why the order is to be cancelled; the reason is stored and published."""

    reason: Text


class CancelOrderRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which order is to be cancelled, and why."""

    order_id: UUID
    reason: Text


class SettleRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How an order that is on hold ends, why, and who says so."""

    outcome: Literal["cancelled", "completed"]
    reason: Text
    by: Name = ""


class NoFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An empty object."""


class OrdersQuery(msgspec.Struct, kw_only=True):
    """Which orders."""

    status: Status | None = None
    customer_id: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    limit: Limit = 20
    cursor: Cursor | None = None


class OrderQuery(msgspec.Struct, kw_only=True):
    """As of when."""

    at_version: Annotated[int, msgspec.Meta(ge=1, le=2**53, description="as it was after so many of its events")] | None = None


class RemoveQuery(msgspec.Struct, kw_only=True):
    """How many pieces; without it all of them."""

    quantity: Quantity | None = None


def stock_lines(request: OrderRequest) -> tuple[StockLine, ...]:
    """Return the lines without prices."""
    return tuple(StockLine(sku=line.sku, quantity=line.quantity) for line in request.lines)


def ship_to(request: OrderRequest) -> ShipTo | None:
    """Return the address as orders keeps it."""
    to = request.ship_to
    return ShipTo(name=to.name, street=to.street, city=to.city, country=to.country) if to is not None else None
