"""The HTTP route of shipping."""

from __future__ import annotations

from millrace import Application
from parcomolo.shipping.views import Shipment
from parcomolo.web.endpoint import Endpoint
from parcomolo.web.lists import list_of


def endpoints(app: Application) -> tuple[Endpoint, ...]:
    """Return the routes."""
    return (list_of(app, Shipment, path="/api/shipments", summary="List shipments", tag="shipping", by_order=True),)
