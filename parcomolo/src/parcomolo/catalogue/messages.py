"""What is asked of the catalogue from inside this process."""

from __future__ import annotations

from millrace import Command
from parcomolo.contracts.money import Money


class AddProduct(Command, key="sku"):
    """Offer a product."""

    sku: str
    name: str
    group: str
    description: str
    unit_price: Money
    picture: str


class ChangePrice(Command, key="sku"):
    """Ask another price from now on."""

    sku: str
    unit_price: Money
