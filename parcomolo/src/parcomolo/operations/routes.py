"""The HTTP route of operations."""

from __future__ import annotations

from millrace import Application
from parcomolo.operations.views import Alert
from parcomolo.web.endpoint import Answer, Call, Endpoint
from parcomolo.web.lists import PageQuery, listed


def endpoints(app: Application) -> tuple[Endpoint, ...]:
    """Return the routes."""

    async def browse(call: Call) -> Answer:
        return await listed(app, call, Alert, call.ask(PageQuery))

    return (
        Endpoint(
            method="GET",
            path="/api/operations/alerts",
            handler=browse,
            summary="List late deliveries",
            description="Newest first.",
            tag="operations",
            query=PageQuery,
            answers={200: list[Alert]},
            problems=(400, 409, 422, 503),
            positioned=True,
        ),
    )
