"""Values that the domain's tests are written with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from millrace import Context
from parcomolo.contracts.lines import Line, ShipTo, StockLine
from parcomolo.contracts.money import Money
from parcomolo.contracts.orders import OrderPlaced
from parcomolo.orders.messages import PlaceOrder

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PRICES = {"bland": 599, "cheese": 699, "a-lot-of-cheese": 899}


def line(sku: str = "cheese", quantity: int = 1, *, cents: int | None = None) -> Line:
    """Return a priced line."""
    price = Money(amount=PRICES[sku] if cents is None else cents)
    return Line(sku=sku, name=sku.title(), quantity=quantity, unit_price=price)


def pieces(sku: str = "cheese", quantity: int = 1) -> StockLine:
    """Return a line without a price."""
    return StockLine(sku=sku, quantity=quantity)


def place(order_id: str = "o1", *lines: Line, token: str = "tok_ok", to: str = "Ada", **more: Any) -> PlaceOrder:
    """Return the command to place an order."""
    return PlaceOrder(
        order_id=order_id,
        customer_id=more.pop("customer_id", "c1"),
        lines=lines or (line(),),
        payment_token=token,
        ship_to=ShipTo(name=to),
        **more,
    )


def placed(order_id: str = "o1", *lines: Line, at: datetime = NOON, **more: Any) -> OrderPlaced:
    """Return the fact of a placed order."""
    content = lines or (line(),)
    return OrderPlaced(
        order_id=order_id,
        number="n1",
        customer_id=more.pop("customer_id", "c1"),
        lines=content,
        total=Money(amount=sum(x.unit_price.amount * x.quantity for x in content)),
        ship_to=ShipTo(name="Ada"),
        payment_token=more.pop("token", "tok_ok"),
        placed_at=at,
        **more,
    )


def at(moment: datetime = NOON, **more: Any) -> Context:
    """Return the context of a message."""
    return Context.example(now=moment, time=moment.isoformat(), **more)
