"""The service catalogue: offers products, changes prices, and offers the first ones itself."""

from __future__ import annotations

from millrace import Application, IdempotencyKey, Service
from parcomolo.catalogue.domain import Product, add_product, change_price
from parcomolo.catalogue.seed import PRODUCTS
from parcomolo.contracts.catalogue import PriceChanged, ProductAdded


def build() -> Service:
    """Return the service."""
    catalogue = Service("catalogue", says=(ProductAdded, PriceChanged))
    catalogue.handler(product=Product.by("sku"))(add_product)
    catalogue.handler(product=Product.by("sku"))(change_price)
    catalogue.on_start(offer_first_products)
    return catalogue


async def offer_first_products(app: Application) -> None:
    """Offer the seed; what is offered already, at whatever price by now, is left alone."""
    for product in PRODUCTS:
        await app.execute(product, idempotency=IdempotencyKey("first-products", product.sku, "v1"))
