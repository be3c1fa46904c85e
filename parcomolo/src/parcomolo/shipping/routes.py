"""The HTTP route of shipping."""

from __future__ import annotations

from millrace import Application
from parcomolo.shipping.views import Shipment
from parcomolo.web.endpoint import Answer, Call, Endpoint
from parcomolo.web.lists import OrderPageQuery, listed


def endpoints(app: Application) -> tuple[Endpoint, ...]:
    """Return the routes."""

    async def browse(call: Call) -> Answer:
        query = call.ask(OrderPageQuery)
        equals = {"order_id": query.order_id.lower()} if query.order_id else {}
        return await listed(app, call, Shipment, query, **equals)

    return (
        Endpoint(
            method="GET",
            path="/api/shipments",
            handler=browse,
            summary="List shipments",
            tag="shipping",
            description="Of one order, or all; newest first.",
            query=OrderPageQuery,
            answers={200: list[Shipment]},
            problems=(400, 409, 422, 503),
            positioned=True,
        ),
    )
