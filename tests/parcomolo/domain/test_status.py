"""The materialised status: a story that never shows a consequence without its causes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from millrace import NotYet
from parcomolo.contracts.inventory import OutOfStock, ReservationExpired, StockReleased, StockReserved
from parcomolo.contracts.money import Money
from parcomolo.contracts.operations import DeliveryLate
from parcomolo.contracts.orders import OrderCancelled, OrderConfirmed, OrderExpired, OrderRejected
from parcomolo.contracts.payments import PaymentFailed, PaymentRefunded, PaymentSucceeded
from parcomolo.contracts.shipping import ShippingCancelled, ShippingFailed
from parcomolo.orders.timeline import STORY, entry_of, missing
from parcomolo.orders.views import OrderStatus, order_status
from tests.parcomolo.domain.examples import at, line, pieces, placed

AMOUNT = Money(amount=699)
RESERVED = StockReserved(order_id="o1", lines=(pieces(),))
PAID = PaymentSucceeded(order_id="o1", payment_id="p", amount=AMOUNT)
CONFIRMED = OrderConfirmed(order_id="o1", customer_id="c1", lines=(line(),), total=AMOUNT)
REJECTED = OrderRejected(order_id="o1", reason="out_of_stock")


def told(*facts) -> OrderStatus:
    """Return the status after facts, given with their ids and causes."""
    view = None
    for fact, fact_id, cause in (*[(placed(), "orders-1-1", "")], *facts):
        service = fact_id.split("-", 1)[0]
        view = order_status(view, fact, at(id=fact_id, source=f"/parcomolo/{service}", causationid=cause)) or view
    assert view is not None
    return view


def test_the_status_is_the_order_and_its_story():
    """Order, axes and timeline move together; entries name type, service and what happened in words."""
    view = told((RESERVED, "inventory-1-1", "orders-1-1"), (PAID, "payments-1-1", "inventory-1-1"))
    assert (view.status, view.order.payment_status, view.order.fulfilment_status) == ("pending", "paid", "reserved")
    assert [(entry.type, entry.service) for entry in view.timeline] == [
        ("order-placed", "orders"),
        ("stock-reserved", "inventory"),
        ("payment-succeeded", "payments"),
    ]
    assert view.timeline[0].text == "Order placed: n1, €6.99."


def test_a_fact_waits_for_its_cause():
    """Its cause is a fact of ours that is not told yet; a cause from outside is not waited for."""
    with pytest.raises(NotYet, match="inventory-1-1"):
        told((PAID, "payments-1-1", "inventory-1-1"))
    assert len(told((RESERVED, "inventory-1-1", "0190-a-command-of-somebody")).timeline) == 2
    with pytest.raises(NotYet, match="order-placed"):
        order_status(None, RESERVED, at(id="inventory-1-1"))


def test_a_turn_of_the_order_waits_for_everything_it_stands_on():
    """order-confirmed names one cause but stands on two facts."""
    with pytest.raises(NotYet, match="stock-reserved"):
        told((PAID, "payments-1-1", ""), (CONFIRMED, "orders-1-2", "payments-1-1"))
    confirmed = told(
        (RESERVED, "inventory-1-1", ""),
        (PAID, "payments-1-1", "inventory-1-1"),
        (CONFIRMED, "orders-1-2", "payments-1-1"),
    )
    assert confirmed.status == "confirmed"


def test_a_cancelled_order_shows_all_its_compensations():
    """Shipping, stock and money have settled in the story before the status says cancelled."""
    cancelled = OrderCancelled(order_id="o1", reason="x", compensations=("stock_released",))
    settled = (
        (ShippingCancelled(order_id="o1", reason="x"), "shipping-1-1", ""),
        (StockReleased(order_id="o1", lines=(), reason="x"), "inventory-1-2", ""),
        (PaymentRefunded(order_id="o1", payment_id="p", amount=AMOUNT, reason="x"), "payments-1-2", ""),
    )
    assert told(*settled, (cancelled, "orders-1-3", "")).status == "cancelled"
    for one in settled:
        with pytest.raises(NotYet):
            told(*(fact for fact in settled if fact is not one), (cancelled, "orders-1-3", ""))


def test_what_was_undone_on_command_waits_for_what_was_closed_before_it():
    """A refund or a release is not told before the failures and undos that its command names; what was skipped is not waited for."""
    paid = ((RESERVED, "inventory-1-1", "checkout-1-1"), (PAID, "payments-1-1", "checkout-1-2"))
    confirmed = (*paid, (CONFIRMED, "orders-1-2", "checkout-1-3"))
    failed = (ShippingFailed(order_id="o1", shipment_id="s", reason="address_unknown"), "shipping-1-1", "checkout-1-4")
    refunded = PaymentRefunded(order_id="o1", payment_id="p", amount=AMOUNT, reason="shipping_failed", closed=("shipping",))
    refund = (refunded, "payments-1-2", "checkout-1-5")
    released = StockReleased(order_id="o1", lines=(pieces(),), reason="shipping_failed", closed=("payment", "shipping"))
    release = (released, "inventory-1-2", "checkout-1-6")

    assert told(*confirmed, failed, refund, release).order.payment_status == "refunded"
    for story, waited_for in (
        ((refund,), "shipping-cancelled or shipping-failed"),
        ((release,), "payment-failed or payment-refunded"),
        ((failed, release), "payment-failed or payment-refunded"),
    ):
        with pytest.raises(NotYet, match=waited_for):
            told(*confirmed, *story)
    skipped = (replace(released, closed=("shipping",)), "inventory-1-2", "checkout-1-6")
    assert told(*confirmed, failed, skipped).timeline[-1].type == "stock-released"
    without_an_answer = (replace(refunded, reason="no_answer", closed=()), "payments-1-2", "checkout-1-5")
    assert told(*confirmed, without_an_answer).order.payment_status == "refunded"


def test_the_end_of_an_order_waits_for_all_that_was_closed():
    """Rejected or expired: the fact names whom the orchestrator had heard."""
    reserved = (RESERVED, "inventory-1-1", "checkout-1-1")
    expired = (OrderExpired(order_id="o1", closed=("payment",)), "orders-1-2", "checkout-1-4")
    lapsed = (ReservationExpired(order_id="o1", lines=()), "inventory-1-2", "")
    with pytest.raises(NotYet, match="payment-failed or payment-refunded"):
        told(reserved, lapsed, expired)
    voided = (PaymentFailed(order_id="o1", payment_id="p", reason="reservation_expired"), "payments-1-1", "checkout-1-3")
    assert told(reserved, lapsed, voided, expired).status == "expired"


def test_out_of_stock_after_a_lapse_shows_the_refund_first():
    """Without a lapse nobody has paid, and nothing is waited for."""
    short = (OutOfStock(order_id="o1", short=()), "inventory-1-3", "")
    lapsed = (ReservationExpired(order_id="o1", lines=()), "inventory-1-2", "")
    rejected = (REJECTED, "orders-1-2", "")
    assert told(short, rejected).status == "rejected"
    with pytest.raises(NotYet, match="refunded"):
        told(lapsed, short, rejected)
    failed = PaymentFailed(order_id="o1", payment_id="p", reason="x")
    assert told(lapsed, short, (failed, "payments-1-1", ""), rejected).order.reason == "out_of_stock"


def test_a_fact_is_told_once_and_asides_change_no_order():
    """A repeated id changes nothing; a late delivery is part of the story only."""
    view = told((RESERVED, "inventory-1-1", ""))
    assert order_status(view, RESERVED, at(id="inventory-1-1")) is None
    late = order_status(view, DeliveryLate(order_id="o1", seconds=31.0), at(id="operations-1-1"))
    assert late is not None
    assert late.order == view.order
    assert late.timeline[-1].text == "Delivery late: 31 seconds so far."


@pytest.mark.parametrize(
    "reason, amount, text",
    [
        ("order_cancelled", None, "Payment called off: nothing was charged (order cancelled)."),
        ("reservation_expired", None, "Payment called off: nothing was charged (reservation expired)."),
        ("order_cancelled", Money(amount=699), "Payment failed: order cancelled."),
        ("card_declined", Money(amount=699), "Payment failed: card declined."),
    ],
)
def test_a_payment_that_nobody_asked_for_did_not_fail(reason, amount, text):
    """Before the provider is asked nothing can fail: the story says that nothing was charged."""
    fact = PaymentFailed(order_id="o1", payment_id="pay-o1", reason=reason, amount=amount)
    assert entry_of(fact, at(id="payments-1-1")).text == text


def test_every_fact_about_an_order_has_a_sentence():
    """No public fact keyed by an order is left out of the story."""
    from millrace import Event
    from millrace.message import declaration
    from parcomolo.contracts import inventory, operations, orders, payments, shipping

    for module in (orders, inventory, payments, shipping, operations):
        for cls in vars(module).values():
            if not (isinstance(cls, type) and issubclass(cls, Event) and cls is not Event):
                continue
            declared = declaration(cls)
            if declared.key == "order_id" and declared.name != "command-rejected" and not declared.internal:
                assert STORY[cls][0] == declared.name
    assert missing(RESERVED, (), "") is None
