"""The service shipping: reacts to facts, books with the carrier, and decides what follows from its answer.

Two processors: `handlers` decides (pure), `carrier` calls the outside world (at least once, keyed by the shipment's
id) and decides about the answer in the transaction that notes the request as answered. Requests go over the internal topic,
which keeps the order per order id.
"""

from __future__ import annotations

from datetime import timedelta

from millrace import Breaker, RetryPolicy, Service
from parcomolo.contracts.shipping import (
    ItemShipped,
    ShippingCancelled,
    ShippingCommandRejected,
    ShippingFailed,
    ShippingScheduled,
)
from parcomolo.settings import Settings
from parcomolo.shipping import domain
from parcomolo.shipping.carrier import Carrier, ParcelBooked
from parcomolo.shipping.domain import Items, Parcel
from parcomolo.shipping.messages import BookParcel, UnbookParcel
from parcomolo.shipping.views import Shipment, shipment, shipments_of

SAYS = (ShippingScheduled, ItemShipped, ShippingFailed, ShippingCancelled, BookParcel, UnbookParcel)
DECISIONS = (
    domain.remember,
    domain.schedule_paid,
    domain.schedule_on_command,
    domain.send,
    domain.cancel,
    domain.cancel_on_command,
    domain.withhold,
)


RETRIES = RetryPolicy(attempts=10, first_s=0.2, factor=2.0, most_s=30.0)
"""A request that the carrier does not answer is made again with the same id."""
CARRIER = Breaker("carrier", failures=5, first_s=1.0, factor=2.0, most_s=15.0)
"""While nothing is answered, parcels wait and one request at a time looks for the carrier."""


def build(settings: Settings, carrier: Carrier) -> Service:
    """Return the service, wired to a carrier."""
    shipping = Service("shipping", says=SAYS, rejection=ShippingCommandRejected)
    for decision in DECISIONS:
        shipping.handler(parcel=Parcel.by("order_id"))(decision)
    shipping.view(Shipment, key=shipments_of)(shipment)
    _call_carrier(shipping, carrier, delay=settings.shipping_delay)
    return shipping


def _call_carrier(shipping: Service, carrier: Carrier, *, delay: timedelta) -> None:
    def booked(answer: ParcelBooked, parcel: Parcel | None) -> Items:
        return domain.booked(answer, parcel, delay=delay)

    @shipping.handler(processor="carrier", retry=RETRIES, breaker=CARRIER, then=booked, parcel=Parcel.by("order_id"))
    async def book(command: BookParcel) -> ParcelBooked:
        booking = await carrier.book(command.shipment_id, ship_to=command.ship_to)
        return ParcelBooked(order_id=command.order_id, refusal=booking.refusal)

    @shipping.handler(processor="carrier", retry=RETRIES, breaker=CARRIER)
    async def unbook(command: UnbookParcel) -> None:
        await carrier.unbook(command.shipment_id)
