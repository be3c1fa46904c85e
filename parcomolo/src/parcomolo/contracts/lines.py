"""Lines of an order, with and without a price, and how they change.

The rules for content are here because three contexts follow the same facts (orders, inventory, payments) and must
come to the same content: the same product merges and the newest price wins; removing takes away at most what is
there.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from parcomolo.contracts.money import Money, total_of

ORDERED_MAX = 1_000_000
"""So many pieces of a product can be ordered at once."""
COUNTED_MAX = 1_000_000_000
"""By so many pieces stock can change at once."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A product in an order with the price at the moment it was ordered."""

    sku: str
    name: str
    quantity: int
    unit_price: Money


class StockLine(msgspec.Struct, frozen=True, kw_only=True):
    """A product and a quantity; what stock is counted in."""

    sku: str
    quantity: int


class Shortage(msgspec.Struct, frozen=True, kw_only=True):
    """A product of which less is available than was requested."""

    sku: str
    requested: int
    available: int


class ShipTo(msgspec.Struct, frozen=True, kw_only=True):
    """Where a parcel goes."""

    name: str
    street: str | None = None
    city: str | None = None
    country: str | None = None


def price_of(lines: Iterable[Line]) -> Money:
    """Return the total of the lines."""
    return total_of(line.unit_price.times(line.quantity) for line in lines)


def summed(lines: Iterable[Line] | Iterable[StockLine]) -> tuple[StockLine, ...]:
    """Return one stock line per product, in order of first appearance."""
    quantities: dict[str, int] = {}
    for line in lines:
        quantities[line.sku] = quantities.get(line.sku, 0) + line.quantity
    return tuple(StockLine(sku=sku, quantity=quantity) for sku, quantity in quantities.items())


def merged(lines: Iterable[Line], added: Line) -> tuple[Line, ...]:
    """Return the lines with `added`: the same product becomes one line, and the newest price and name win."""
    kept = tuple(lines)
    before = sum(line.quantity for line in kept if line.sku == added.sku)
    if not before:
        return (*kept, added)
    one = msgspec.structs.replace(added, quantity=before + added.quantity)
    first = next(index for index, line in enumerate(kept) if line.sku == added.sku)
    return (*kept[:first], one, *(line for line in kept[first:] if line.sku != added.sku))


def without(lines: Iterable[Line], *, sku: str, quantity: int) -> tuple[Line, ...]:
    """Return the lines with at most `quantity` pieces of a product taken away, from the last line on."""
    left: list[Line] = []
    for line in reversed(tuple(lines)):
        taken = min(quantity, line.quantity) if line.sku == sku else 0
        quantity -= taken
        if line.quantity > taken:
            left.append(msgspec.structs.replace(line, quantity=line.quantity - taken))
    return tuple(reversed(left))
