"""What inventory says to itself.

Most facts that move stock name an order, not its products. The handler of such a fact knows the reservation and says
`MoveStock` with its lines; the handler of that has the rows of these products loaded, and decides.
"""

from __future__ import annotations

from typing import Literal

from millrace import Command
from parcomolo.contracts.lines import StockLine

Movement = Literal["reserve", "release", "commit"]


class MoveStock(Command, topic="internal.inventory", key="order_id", internal=True):
    """Do to the stock what was decided for the order, if its reservation still allows it."""

    order_id: str
    movement: Movement
    lines: tuple[StockLine, ...]
    reason: str = ""


class ExpireReservation(Command, key="order_id", internal=True):
    """The time to pay is over."""

    order_id: str
    lines: tuple[StockLine, ...]


class OpenStock(Command, key="sku"):
    """Put a product on the shelf for the first time."""

    sku: str
    quantity: int
