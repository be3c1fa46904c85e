"""Facts and commands of the context shipping, keyed by `order_id`.

An order has one shipment; its `shipment_id` follows from the order's id.
"""

from __future__ import annotations

from typing import Annotated

from millrace import Command, Event, Personal
from parcomolo.contracts.lines import ShipTo, StockLine


class ShippingScheduled(Event, name="shipping-scheduled", topic="shipping", key="order_id"):
    """The carrier has taken the booking."""

    order_id: str
    shipment_id: str


class ItemShipped(Event, name="item-shipped", topic="shipping", key="order_id"):
    """The parcel has left; from here on there is no cancelling."""

    order_id: str
    shipment_id: str


class ShippingFailed(Event, name="shipping-failed", topic="shipping", key="order_id"):
    """The carrier refused the booking."""

    order_id: str
    shipment_id: str
    reason: str


class ShippingCancelled(Event, name="shipping-cancelled", topic="shipping", key="order_id"):
    """Nothing will leave for this order; a `shipment_id` means that a booking was taken back."""

    order_id: str
    reason: str
    shipment_id: str | None = None


class ShippingCommandRejected(Event, name="command-rejected", topic="shipping", key="order_id"):
    """The answer to a command from `shipping.commands` that was refused."""

    order_id: str
    command: str
    reason: str


class ScheduleShipping(Command, name="schedule-shipping", topic="shipping.commands", key="order_id"):
    """Book a parcel."""

    order_id: str
    lines: tuple[StockLine, ...] = ()
    ship_to: Annotated[ShipTo | None, Personal] = None


class CancelShipping(Command, name="cancel-shipping", topic="shipping.commands", key="order_id"):
    """Take the booking back, if the parcel has not left; nothing leaves for the order afterwards."""

    order_id: str
    reason: str = "order_cancelled"
