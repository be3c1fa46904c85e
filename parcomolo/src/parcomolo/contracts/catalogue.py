"""Facts of the context catalogue, keyed by `sku`."""

from __future__ import annotations

from millrace import Event
from parcomolo.contracts.money import Money


class ProductAdded(Event, name="product-added", topic="catalogue", key="sku"):
    """A product can be ordered."""

    sku: str
    name: str
    group: str
    description: str
    unit_price: Money
    picture: str


class PriceChanged(Event, name="price-changed", topic="catalogue", key="sku"):
    """New orders pay this price; orders placed before keep theirs."""

    sku: str
    unit_price: Money
