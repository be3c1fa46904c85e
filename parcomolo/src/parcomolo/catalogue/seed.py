"""The products that a new installation offers: three groups, prices in euro cents."""

from __future__ import annotations

from parcomolo.catalogue.messages import AddProduct
from parcomolo.contracts.money import Money


def _product(sku: str, *, name: str, group: str, cents: int, description: str) -> AddProduct:
    price = Money(amount=cents, currency="EUR")
    return AddProduct(sku=sku, name=name, group=group, description=description, unit_price=price, picture=f"{sku}.svg")


def _burger(sku: str, name: str, cents: int, description: str) -> AddProduct:
    return _product(sku, name=name, group="burgers", cents=cents, description=description)


def _side(sku: str, name: str, cents: int, description: str) -> AddProduct:
    return _product(sku, name=name, group="sides", cents=cents, description=description)


def _drink(sku: str, name: str, cents: int, description: str) -> AddProduct:
    return _product(sku, name=name, group="drinks", cents=cents, description=description)


PRODUCTS: tuple[AddProduct, ...] = (
    _burger("bland", "Bland Burger", 599, "Bun, beef, nothing to argue about."),
    _burger("cheese", "Cheese Burger", 699, "The bland one with a slice of cheddar."),
    _burger("a-lot-of-cheese", "A Lot of Cheese", 899, "Cheddar, gouda, blue cheese, and room for little else."),
    _burger("veggie", "Garden Burger", 749, "Bean patty, tomato, rocket, lemon mayonnaise."),
    _burger("double-trouble", "Double Trouble", 1099, "Two patties, two cheeses, one napkin."),
    _side("fries", "Fries", 299, "Twice fried, salted once."),
    _side("sweet-fries", "Sweet Potato Fries", 379, "Orange, crisp, with smoked paprika."),
    _side("onion-rings", "Onion Rings", 349, "Eight rings in beer batter."),
    _side("coleslaw", "Coleslaw", 249, "White cabbage, carrot, a little vinegar."),
    _drink("cola", "Cola", 249, "0.4 litres, cold."),
    _drink("lemonade", "Lemonade", 279, "Lemons, water, sugar, mint."),
    _drink("milkshake", "Vanilla Milkshake", 399, "Thick enough for a spoon."),
    _drink("water", "Water", 199, "Still or sparkling."),
)
