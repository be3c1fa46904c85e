"""Booking, sending, and the one decision on which a cancellation turns."""

from __future__ import annotations

from datetime import timedelta

import pytest

from millrace import Cancel, NotYet, Rejected, Timer
from parcomolo.contracts.inventory import OutOfStock
from parcomolo.contracts.lines import ShipTo
from parcomolo.contracts.money import Money
from parcomolo.contracts.orders import OrderCancellationRequested
from parcomolo.contracts.payments import PaymentSucceeded
from parcomolo.contracts.shipping import (
    CancelShipping,
    ItemShipped,
    ScheduleShipping,
    ShippingCancelled,
    ShippingFailed,
    ShippingScheduled,
)
from parcomolo.shipping import domain
from parcomolo.shipping.carrier import ParcelBooked
from parcomolo.shipping.domain import Parcel
from parcomolo.shipping.messages import BookParcel, SendParcel, UnbookParcel
from parcomolo.shipping.views import Shipment, shipment, shipments_of
from tests.parcomolo.domain.examples import NOON, at, placed

ADA = ShipTo(name="Ada")
DELAY = timedelta(seconds=3)
PAID = PaymentSucceeded(order_id="o1", payment_id="p", amount=Money(amount=1))
CANCEL = OrderCancellationRequested(order_id="o1", reason="changed my mind")
SHORT = OutOfStock(order_id="o1", short=())


def parcel(status="waiting", **more) -> Parcel:
    """Return what shipping knows of an order."""
    return Parcel(order_id="o1", status=status, ship_to=ADA, **more)


def test_a_paid_order_is_booked_and_leaves_after_the_delay():
    """Paid, booked, scheduled, sent; each once."""
    [known] = domain.remember(placed(), None)
    booking, request = domain.schedule_paid(PAID, known)
    assert request == BookParcel(order_id="o1", shipment_id="ship-o1", ship_to=ADA)
    scheduled, said, timer = domain.booked(ParcelBooked(order_id="o1"), booking, delay=DELAY)
    assert said == ShippingScheduled(order_id="o1", shipment_id="ship-o1")
    assert timer == Timer("pick-up", SendParcel(order_id="o1"), after=DELAY)
    shipped, said = domain.send(timer.message, scheduled)
    assert said == ItemShipped(order_id="o1", shipment_id="ship-o1")
    assert domain.send(timer.message, shipped) == domain.schedule_paid(PAID, shipped) == []


def test_a_payment_that_overtook_the_order_waits():
    """The address is not known yet: the fact is put back."""
    with pytest.raises(NotYet):
        domain.schedule_paid(PAID, None)


def test_a_refused_booking_fails_the_shipment():
    """Said once, with the carrier's reason."""
    refusal = ParcelBooked(order_id="o1", refusal="address_unknown")
    after, said = domain.booked(refusal, parcel("booking"), delay=DELAY)
    assert said == ShippingFailed(order_id="o1", shipment_id="ship-o1", reason="address_unknown")
    assert domain.booked(refusal, after, delay=DELAY) == []


@pytest.mark.parametrize("known", [None, parcel(), parcel("withheld")], ids=["unknown", "waiting", "withheld"])
def test_a_cancellation_before_any_booking_is_remembered(known):
    """Nothing will leave, said once; a later payment books nothing, a later order does not forget."""
    cancelled, _, said = domain.cancel(CANCEL, known)
    assert said == ShippingCancelled(order_id="o1", reason="order_cancelled")
    assert domain.schedule_paid(PAID, cancelled) == domain.cancel(CANCEL, cancelled) == []
    assert domain.remember(placed(), cancelled) == []


@pytest.mark.parametrize("status", ["booking", "scheduled"])
def test_a_cancellation_before_the_parcel_leaves_takes_the_booking_back(status):
    """The timer goes, the carrier is told, and the parcel does not leave even if the timer was already due."""
    cancelled, timer, said, unbook = domain.cancel(CANCEL, parcel(status))
    assert timer == Cancel("pick-up")
    assert said.shipment_id == unbook.shipment_id == "ship-o1"
    assert isinstance(unbook, UnbookParcel)
    assert domain.send(SendParcel(order_id="o1"), cancelled) == []
    assert domain.booked(ParcelBooked(order_id="o1"), cancelled, delay=DELAY) == []


@pytest.mark.parametrize("status", ["shipped", "failed", "cancelled"])
def test_a_cancellation_after_the_decision_says_nothing(status):
    """item-shipped, shipping-failed or shipping-cancelled was the answer."""
    assert domain.cancel(CANCEL, parcel(status)) == []


def test_commands_share_the_decisions():
    """An orchestrator books once, and is told when it is too late to cancel."""
    command = ScheduleShipping(order_id="o1", ship_to=ADA)
    booking, request = domain.schedule_on_command(command, None)
    assert isinstance(request, BookParcel)
    assert domain.schedule_on_command(command, booking) == []
    assert isinstance(domain.cancel_on_command(CancelShipping(order_id="o1"), booking)[-1], UnbookParcel)
    with pytest.raises(Rejected, match="already_shipped"):
        domain.cancel_on_command(CancelShipping(order_id="o1"), parcel("shipped"))


def test_a_repeated_command_is_answered_again():
    """Whoever has missed the first answer gets it; while the carrier is asked, its answer is on its way."""
    command, cancel = ScheduleShipping(order_id="o1", ship_to=ADA), CancelShipping(order_id="o1")
    scheduled = ShippingScheduled(order_id="o1", shipment_id="ship-o1")
    failed = ShippingFailed(order_id="o1", shipment_id="ship-o1", reason="address_unknown")
    cancelled = ShippingCancelled(order_id="o1", reason="order_cancelled")
    assert domain.schedule_on_command(command, parcel("scheduled")) == [scheduled]
    assert domain.schedule_on_command(command, parcel("shipped")) == [scheduled, ItemShipped(order_id="o1", shipment_id="ship-o1")]
    for known, said in ((parcel("failed", reason="address_unknown"), failed), (parcel("cancelled", reason="order_cancelled"), cancelled)):
        assert domain.schedule_on_command(command, known) == domain.cancel_on_command(cancel, known) == [said]


def test_an_order_without_stock_is_not_sent():
    """Before any payment that is quiet; a payment, before or after, is answered by a cancelled shipment."""
    for known in (None, parcel()):
        [withheld] = domain.withhold(SHORT, known)
        assert domain.schedule_paid(PAID, withheld)[-1] == ShippingCancelled(order_id="o1", reason="out_of_stock")
    for status in ("booking", "scheduled"):
        assert isinstance(domain.withhold(SHORT, parcel(status))[-2], ShippingCancelled)
    assert domain.withhold(SHORT, parcel("shipped")) == []


def test_the_list_shows_what_became_of_each_shipment():
    """One row per shipment with its latest status; a cancellation before any booking is about none."""
    facts = {
        "scheduled": ShippingScheduled(order_id="o1", shipment_id="s"),
        "shipped": ItemShipped(order_id="o1", shipment_id="s"),
        "cancelled": ShippingCancelled(order_id="o1", reason="x", shipment_id="s"),
        "failed": ShippingFailed(order_id="o1", shipment_id="s", reason="x"),
    }
    for status, fact in facts.items():
        assert shipments_of(fact) == ["s"]
        assert shipment(None, fact, at()) == Shipment(shipment_id="s", order_id="o1", status=status, at=NOON)
    assert shipments_of(ShippingCancelled(order_id="o1", reason="x")) == []
