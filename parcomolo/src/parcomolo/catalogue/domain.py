"""Products and their prices. Pure.

Neighbours: orders keeps a copy of the prices; inventory counts the same skus and asks nobody about them.
"""

from __future__ import annotations

from msgspec.structs import replace

from millrace import Event, Rejected, State
from parcomolo.catalogue.messages import AddProduct, ChangePrice
from parcomolo.contracts.catalogue import PriceChanged, ProductAdded
from parcomolo.contracts.money import Money

Items = list[State | Event]


class Product(State, key="sku"):
    """A product as it is offered now; `picture` names a drawing of the storefront."""

    sku: str
    name: str
    group: str
    description: str
    unit_price: Money
    picture: str


def add_product(command: AddProduct, product: Product | None) -> Items:
    """Offer a product; one that is offered already is left alone."""
    if product is not None:
        return []
    sku, name, group = command.sku, command.name, command.group
    description, price, picture = command.description, command.unit_price, command.picture
    return [
        Product(sku=sku, name=name, group=group, description=description, unit_price=price, picture=picture),
        ProductAdded(sku=sku, name=name, group=group, description=description, unit_price=price, picture=picture),
    ]


def change_price(command: ChangePrice, product: Product | None) -> Items:
    """Ask another price from now on.

    Raises:
        Rejected: unknown_product, invalid_price.
    """
    if product is None:
        raise Rejected("unknown_product", sku=command.sku)
    if command.unit_price.amount < 0 or command.unit_price.currency != product.unit_price.currency:
        raise Rejected("invalid_price", sku=command.sku)
    if command.unit_price == product.unit_price:
        return []
    changed = PriceChanged(sku=command.sku, unit_price=command.unit_price)
    return [replace(product, unit_price=command.unit_price), changed]
