"""The HTTP route of operations."""

from __future__ import annotations

from millrace import Application
from parcomolo.operations.views import Alert
from parcomolo.web.endpoint import Endpoint
from parcomolo.web.lists import list_of


def endpoints(app: Application) -> tuple[Endpoint, ...]:
    """Return the routes."""
    return (list_of(app, Alert, path="/api/operations/alerts", summary="List late deliveries", tag="operations"),)
