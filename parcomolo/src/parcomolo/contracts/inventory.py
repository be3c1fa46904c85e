"""Facts and commands of the context inventory.

A fact that answers an order is keyed by the order's id; a fact about a product is keyed by its sku.
"""

from __future__ import annotations

from datetime import datetime

from millrace import Command, Event
from parcomolo.contracts.lines import Shortage, StockLine


class StockReserved(Event, name="stock-reserved", topic="inventory", key="order_id"):
    """Everything the order asked for is reserved, summed per product."""

    order_id: str
    lines: tuple[StockLine, ...]


class OutOfStock(Event, name="out-of-stock", topic="inventory", key="order_id"):
    """Nothing is reserved; `short` lists every product of which too little is available."""

    order_id: str
    short: tuple[Shortage, ...]


class StockReleased(Event, name="stock-released", topic="inventory", key="order_id"):
    """The reservation was given back; without lines there was nothing to give back. `closed` is what the command said."""

    order_id: str
    lines: tuple[StockLine, ...]
    reason: str
    closed: tuple[str, ...] = ()


class StockCommitted(Event, name="stock-committed", topic="inventory", key="order_id"):
    """The pieces left the building: on hand and reserved went down."""

    order_id: str
    lines: tuple[StockLine, ...]


class ReservationExpired(Event, name="reservation-expired", topic="inventory", key="order_id"):
    """The reservation was given back because it was not paid in time."""

    order_id: str
    lines: tuple[StockLine, ...]


class StockAdjusted(Event, name="stock-adjusted", topic="inventory", key="sku"):
    """On hand changed by `delta` outside of an order."""

    sku: str
    delta: int
    on_hand: int
    reason: str


class StockLow(Event, name="stock-low", topic="inventory", key="sku"):
    """Available fell to the threshold; said once until `stock-replenished`."""

    sku: str
    available: int
    threshold: int


class StockReplenished(Event, name="stock-replenished", topic="inventory", key="sku"):
    """Available rose to twice the threshold again."""

    sku: str
    available: int


class StockCommandRejected(Event, name="command-rejected", topic="inventory", key="subject"):
    """The answer to a command from `inventory.commands` that was refused; the subject is an order or a product."""

    subject: str
    command: str
    reason: str


class ReserveStock(Command, name="reserve-stock", topic="inventory.commands", key="order_id"):
    """Reserve all lines or nothing, until `expires_at`; each of 1 to 1,000,000,000 pieces, else refused as `invalid_quantity`."""

    order_id: str
    lines: tuple[StockLine, ...]
    expires_at: datetime | None = None


class KeepStock(Command, name="keep-stock", topic="inventory.commands", key="order_id"):
    """The order is paid: its reservation does not expire any more. One that just has is renewed, or answered by `out-of-stock`."""

    order_id: str


class ReleaseStock(Command, name="release-stock", topic="inventory.commands", key="order_id"):
    """Give back what is reserved for the order, and never reserve for it again. `closed`: who else has nothing left of the order."""

    order_id: str
    reason: str
    closed: tuple[str, ...] = ()


class CommitStock(Command, name="commit-stock", topic="inventory.commands", key="order_id"):
    """The parcel left: take what is reserved out of the stock."""

    order_id: str


class AdjustStock(Command, name="adjust-stock", topic="inventory.commands", key="sku"):
    """Change on hand by `delta`; refused when less than what is reserved would remain, and beyond 1,000,000,000 as `invalid_quantity`."""

    sku: str
    delta: int
    reason: str


class ReceiveStock(Command, name="receive-stock", topic="inventory.commands", key="sku"):
    """Goods arrived: 1 to 1,000,000,000 pieces, else refused as `invalid_quantity`."""

    sku: str
    quantity: int
