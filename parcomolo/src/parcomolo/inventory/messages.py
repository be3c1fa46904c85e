"""What inventory says to itself."""

from __future__ import annotations

from millrace import Command
from parcomolo.contracts.lines import StockLine


class ExpireReservation(Command, key="order_id", internal=True):
    """The time to pay is over."""

    order_id: str
    lines: tuple[StockLine, ...]


class OpenStock(Command, key="sku"):
    """Put a product on the shelf for the first time."""

    sku: str
    quantity: int
