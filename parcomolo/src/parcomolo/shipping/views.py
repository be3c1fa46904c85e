"""The list of shipments that people look at: one row per order for which a carrier was asked."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from millrace import Context, View
from parcomolo.contracts.shipping import ItemShipped, ShippingCancelled, ShippingFailed, ShippingScheduled


class Shipment(View, key="shipment_id", lookups=("order_id", "status"), sort="at", version=1):
    """A shipment and what became of it; `at` is the time of its latest fact."""

    shipment_id: str
    order_id: str
    status: Literal["scheduled", "shipped", "cancelled", "failed"]
    at: datetime


ShipmentFact = ShippingScheduled | ItemShipped | ShippingCancelled | ShippingFailed


def shipments_of(event: ShipmentFact) -> list[str]:
    """Return the row that a fact is about; a cancellation before any booking is about none."""
    return [event.shipment_id] if event.shipment_id else []


def shipment(
    view: Shipment | None,
    event: ShipmentFact,
    context: Context,
) -> Shipment | None:
    """Show the latest fact; what is said again is none."""
    if event.shipment_id is None:
        return None
    match event:
        case ShippingScheduled():
            status = "scheduled"
        case ItemShipped():
            status = "shipped"
        case ShippingCancelled():
            status = "cancelled"
        case ShippingFailed():
            status = "failed"
    if view is not None and (status == "scheduled" or view.status != "scheduled"):
        return None
    return Shipment(shipment_id=event.shipment_id, order_id=event.order_id, status=status, at=context.time)
