"""What shipping says to itself: requests to the carrier, and the timer until the parcel leaves."""

from __future__ import annotations

from typing import Annotated

from millrace import Command, Personal
from parcomolo.contracts.lines import ShipTo


class BookParcel(Command, topic="internal.shipping", key="order_id", internal=True):
    """Ask the carrier for a parcel; `shipment_id` is the same in every attempt."""

    order_id: str
    shipment_id: str
    ship_to: Annotated[ShipTo | None, Personal] = None


class UnbookParcel(Command, topic="internal.shipping", key="order_id", internal=True):
    """Tell the carrier that the parcel will not come."""

    order_id: str
    shipment_id: str


class SendParcel(Command, key="order_id", internal=True):
    """The carrier has come for the parcel."""

    order_id: str
