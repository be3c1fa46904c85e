"""The stock of a product and its arithmetic: the only place where `on_hand` and `reserved` change.

Invariant, whatever the order of commands: 0 <= reserved <= on_hand, so `available` is never negative.
Neighbours: `domain` decides for orders and calls in here with rows that are loaded under the store's lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from millrace import Event, State
from parcomolo.contracts.inventory import StockLow, StockReplenished
from parcomolo.contracts.lines import Shortage, StockLine

LOW_SHARE = 10
"""Stock is low at a tenth of what there was at first ..."""
REPLENISHED_FACTOR = 2
"""... and replenished at twice that, so that the two facts do not flap around one number."""


class Stock(State, key="sku"):
    """A product on the shelf. `initial` is the opening stock, `low` remembers that `stock-low` was said."""

    sku: str
    initial: int = 0
    on_hand: int = 0
    reserved: int = 0
    low: bool = False

    @property
    def available(self) -> int:
        """What can still be promised."""
        return self.on_hand - self.reserved

    @property
    def threshold(self) -> int:
        """At or below this, stock is low."""
        return max(1, self.initial // LOW_SHARE)


StockRows = Mapping[str, Stock | None]
Changes = list[Stock | Event]


def shortages(asked: Iterable[StockLine], stock: StockRows) -> tuple[Shortage, ...]:
    """Return every product of which less is available than asked; an unknown product has none."""
    return tuple(
        Shortage(sku=line.sku, requested=line.quantity, available=available)
        for line in asked
        if (available := row.available if (row := stock.get(line.sku)) else 0) < line.quantity
    )


def moved(lines: Iterable[StockLine], stock: StockRows, *, on_hand: int = 0, reserved: int = 0) -> Changes:
    """Return the rows after each line's quantity times the factors, and what there is to say about their levels.

    Args:
        lines: one per product.
        stock: their rows.
        on_hand: +1 brings in, -1 takes out.
        reserved: +1 promises, -1 gives back.
    """
    changes: Changes = []
    for line in lines:
        row = stock.get(line.sku) or Stock(sku=line.sku)
        changes += changed(row, on_hand=row.on_hand + on_hand * line.quantity, reserved=row.reserved + reserved * line.quantity)
    return changes


def changed(row: Stock, *, on_hand: int, reserved: int) -> Changes:
    """Return the row with new figures, with `stock-low` or `stock-replenished` when a level was crossed.

    Raises:
        ValueError: the figures break the invariant; a caller has not checked.
    """
    if not 0 <= reserved <= on_hand:
        raise ValueError(f"stock of {row.sku!r}: reserved {reserved} must be between 0 and on hand {on_hand}")
    after = msgspec.structs.replace(row, on_hand=on_hand, reserved=reserved)
    if not row.low and after.available <= row.threshold < row.available:
        low = StockLow(sku=row.sku, available=after.available, threshold=row.threshold)
        return [msgspec.structs.replace(after, low=True), low]
    if row.low and after.available >= row.threshold * REPLENISHED_FACTOR:
        return [msgspec.structs.replace(after, low=False), StockReplenished(sku=row.sku, available=after.available)]
    return [after]
