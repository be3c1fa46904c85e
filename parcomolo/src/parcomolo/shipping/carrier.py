"""The port to a carrier, and a simulated one.

A carrier is asked with the shipment's id and must book once per id. Neighbours: `service` calls it outside of any
transaction.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from parcomolo.contracts.lines import ShipTo
from parcomolo.outages import Outage

REFUSED_NAME = "FAIL_SHIPPING"


class Booking(msgspec.Struct, frozen=True):
    """What came of a request to book; without a refusal the parcel is booked."""

    refusal: str | None = None


class ParcelBooked(msgspec.Struct, frozen=True, kw_only=True):
    """What the carrier's answer means to an order; a `refusal` means that there is no booking."""

    order_id: str
    refusal: str | None = None


class Carrier(Protocol):
    """What shipping needs of a carrier; both may be repeated with the same id.

    One that does not answer raises an `OSError`: shipping asks again later.
    """

    async def book(self, shipment_id: str, *, ship_to: ShipTo | None) -> Booking:
        """Book a parcel."""
        ...

    async def unbook(self, shipment_id: str) -> None:
        """Take the booking back, if there is one."""
        ...


class SimulatedCarrier:
    """A carrier that takes every parcel, except to an addressee named `FAIL_SHIPPING`. It keeps nothing.

    Args:
        outage: says when it does not answer.
    """

    def __init__(self, outage: Outage | None = None) -> None:
        self._outage = outage

    async def book(self, shipment_id: str, *, ship_to: ShipTo | None) -> Booking:
        """Book, or refuse the one address that it does not know.

        Raises:
            ConnectionError: the carrier is down.
        """
        self._answer()
        if ship_to is not None and ship_to.name == REFUSED_NAME:
            return Booking(refusal="address_unknown")
        return Booking()

    async def unbook(self, shipment_id: str) -> None:
        """Forget it; raises as `book` does."""
        self._answer()

    def _answer(self) -> None:
        if self._outage is not None:
            self._outage.check()
