"""What orders decides about the content of an order: placing it, and changing it while it is under review. Pure.

Neighbours: `domain` dispatches here; inventory and payments follow the facts with the rules in the contracts.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timedelta

from millrace import Cancel, Command, Event, Rejected, Timer
from parcomolo.contracts.lines import ORDERED_MAX, Line, merged, price_of, without
from parcomolo.contracts.orders import OrderLineAdded, OrderLineRemoved, OrderPlaced
from parcomolo.orders.messages import AddLine, EndReview, PlaceOrder, RemoveLine
from parcomolo.orders.order import Order

Items = list[Event | Command | Timer | Cancel]
REVIEW = "review"


def number_of(order_id: str, *, placed_at: datetime) -> str:
    """Return a number that people can read to each other: the day, and seven characters of the id."""
    digest = hashlib.blake2b(order_id.encode(), digest_size=5).digest()
    return f"{placed_at:%y%m%d}-{base64.b32encode(digest).decode()[:7]}"


def place(command: PlaceOrder, order: Order | None, now: datetime) -> Items:
    """Take the order. The total is computed here, from the lines."""
    if order is not None:
        raise Rejected("order_exists", order_id=order.order_id)
    if not command.lines or any(not 1 <= line.quantity <= ORDERED_MAX for line in command.lines):
        raise Rejected("no_lines" if not command.lines else "invalid_quantity", order_id=command.order_id)
    until = now + timedelta(seconds=command.review_seconds) if command.review_seconds > 0 else None
    placed = OrderPlaced(
        order_id=command.order_id,
        number=command.number or number_of(command.order_id, placed_at=now),
        customer_id=command.customer_id,
        lines=command.lines,
        total=price_of(command.lines),
        ship_to=command.ship_to,
        payment_token=command.payment_token,
        placed_at=now,
        review_until=until,
    )
    return [placed, Timer(REVIEW, EndReview(order_id=command.order_id), at=until)] if until else [placed]


def _require_open_content(order: Order, now: datetime) -> None:
    if order.status != "pending":
        raise Rejected(f"order_{order.status}", order_id=order.order_id)
    if not order.in_review or order.review_until is None or now >= order.review_until:
        raise Rejected("checkout_started", order_id=order.order_id)


def add_line(command: AddLine, order: Order, now: datetime) -> Items:
    """Add pieces while the order is under review; the same product merges and the newest price wins."""
    _require_open_content(order, now)
    if not 1 <= command.quantity <= ORDERED_MAX:
        raise Rejected("invalid_quantity", order_id=order.order_id)
    added = Line(sku=command.sku, name=command.name, quantity=command.quantity, unit_price=command.unit_price)
    return [
        OrderLineAdded(
            order_id=order.order_id,
            sku=added.sku,
            name=added.name,
            quantity=added.quantity,
            unit_price=added.unit_price,
            total=price_of(merged(order.lines, added)),
        )
    ]


def remove_line(command: RemoveLine, order: Order, now: datetime) -> Items:
    """Remove pieces while the order is under review: not more than there are, and not the last of the order."""
    _require_open_content(order, now)
    there = sum(line.quantity for line in order.lines if line.sku == command.sku)
    quantity = there if command.quantity is None else command.quantity
    if not there or not 1 <= quantity <= there:
        reason = "not_in_order" if not there else "invalid_quantity" if quantity < 1 else "more_than_ordered"
        raise Rejected(reason, order_id=order.order_id, sku=command.sku, ordered=there)
    left = without(order.lines, sku=command.sku, quantity=quantity)
    if not left:
        raise Rejected("last_line", order_id=order.order_id, sku=command.sku)
    return [OrderLineRemoved(order_id=order.order_id, sku=command.sku, quantity=quantity, total=price_of(left))]
