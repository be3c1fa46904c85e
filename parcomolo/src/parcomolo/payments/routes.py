"""The HTTP route of payments."""

from __future__ import annotations

from millrace import Application
from parcomolo.payments.views import Payment
from parcomolo.web.endpoint import Endpoint
from parcomolo.web.lists import list_of


def endpoints(app: Application) -> tuple[Endpoint, ...]:
    """Return the routes."""
    return (list_of(app, Payment, path="/api/payments", summary="List payments", tag="payments", by_order=True),)
