"""The HTTP route of the catalogue: what the shop offers."""

from __future__ import annotations

from millrace import Application
from parcomolo.catalogue.domain import Product
from parcomolo.web.endpoint import Answer, Call, Endpoint, ok
from parcomolo.web.positions import catch_up

ALL = 1000


def endpoints(app: Application) -> tuple[Endpoint, ...]:
    """Return the routes."""

    async def browse(call: Call) -> Answer:
        await catch_up(app, call, Product)
        return ok((await app.states(Product).list(limit=ALL)).items)

    return (
        Endpoint(
            method="GET",
            path="/api/products",
            handler=browse,
            summary="List the products",
            tag="catalogue",
            description="What can be ordered and what it costs now; by sku.",
            answers={200: list[Product]},
            problems=(400, 409, 503),
            positioned=True,
        ),
    )
