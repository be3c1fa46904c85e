"""The prices of the catalogue as orders keeps them: a local copy, so that taking an order asks nobody. Pure.

Neighbours: fed by the facts of the catalogue; routes read the copy and put prices on lines with `priced`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from millrace import Rejected, State
from parcomolo.contracts.catalogue import PriceChanged, ProductAdded
from parcomolo.contracts.lines import Line, StockLine
from parcomolo.contracts.money import Money


class Price(State, key="sku"):
    """A product as the storefront shows it."""

    sku: str
    name: str
    group: str
    description: str
    unit_price: Money
    picture: str


def copy_price(event: ProductAdded | PriceChanged, price: Price | None) -> Price | None:
    """Follow the catalogue."""
    if isinstance(event, ProductAdded):
        return Price(
            sku=event.sku,
            name=event.name,
            group=event.group,
            description=event.description,
            unit_price=event.unit_price,
            picture=event.picture,
        )
    return replace(price, unit_price=event.unit_price) if price is not None else None


def priced(wanted: Iterable[StockLine], prices: Mapping[str, Price | None]) -> tuple[Line, ...]:
    """Return order lines with the prices of this moment.

    Raises:
        Rejected: unknown_product, with its sku.
    """
    return tuple(_line(line, prices.get(line.sku)) for line in wanted)


def _line(wanted: StockLine, price: Price | None) -> Line:
    if price is None:
        raise Rejected("unknown_product", sku=wanted.sku)
    return Line(sku=price.sku, name=price.name, quantity=wanted.quantity, unit_price=price.unit_price)
