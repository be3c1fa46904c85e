"""The HTTP routes of reports."""

from __future__ import annotations

import msgspec

from millrace import Application
from parcomolo.contracts.money import Money
from parcomolo.reports.views import ALL, OrderCounts, ProductSales
from parcomolo.web.endpoint import Answer, Call, Endpoint, ok
from parcomolo.web.positions import catch_up

PAGE = 1000


class SoldProduct(msgspec.Struct, kw_only=True):
    """Pieces of a product sold at a price, in confirmed orders that were not undone later."""

    sku: str
    unit_price: Money
    quantity: int


class OrderReport(msgspec.Struct, kw_only=True):
    """Orders placed; confirmed and not undone; rejected or expired. Open and cancelled ones are in the total only."""

    total: int
    succeeded: int
    failed: int


class ReportRoutes:
    """The handlers.

    Args:
        app: the running application; reports must be hosted in this process.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def products(self, call: Call) -> Answer:
        """Return what was sold."""
        await catch_up(self._app, call, ProductSales)
        sales = [row async for row in self._sales()]
        sales.sort(key=lambda row: (row.sku, row.unit_price.amount))
        return ok([SoldProduct(sku=row.sku, unit_price=row.unit_price, quantity=row.quantity) for row in sales])

    async def _sales(self):  # noqa: ANN202
        cursor: str | None = None
        while True:
            page = await self._app.views(ProductSales).list(limit=PAGE, cursor=cursor)
            for row in page.items:
                yield row
            cursor = page.next
            if cursor is None:
                return

    async def orders(self, call: Call) -> Answer:
        """Return how orders ended."""
        await catch_up(self._app, call, OrderCounts)
        counts = await self._app.views(OrderCounts).get(ALL) or OrderCounts()
        return ok(OrderReport(total=counts.total, succeeded=counts.succeeded, failed=counts.failed))


def endpoints(app: Application) -> tuple[Endpoint, ...]:
    """Return the routes."""
    routes = ReportRoutes(app)
    return (
        Endpoint(
            method="GET",
            path="/api/reports/products",
            handler=routes.products,
            summary="What was sold",
            tag="reports",
            description="By sku and price.",
            answers={200: list[SoldProduct]},
            problems=(400, 409, 503),
            positioned=True,
        ),
        Endpoint(
            method="GET",
            path="/api/reports/orders",
            handler=routes.orders,
            summary="How orders ended",
            tag="reports",
            answers={200: OrderReport},
            problems=(400, 409, 503),
            positioned=True,
        ),
    )
