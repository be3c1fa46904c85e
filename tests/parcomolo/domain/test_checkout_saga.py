"""The table of the checkout, message by message: what is asked for, what is taken back, and what is said at the end."""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace

from millrace.testing import given
from parcomolo.contracts import inventory as stock
from parcomolo.contracts import orders, payments, shipping
from parcomolo.contracts.lines import Shortage
from parcomolo.contracts.money import Money
from tests.parcomolo.domain.examples import NOON, line, pieces, placed
from tests.parcomolo.domain.world import CHECKOUT

ID, TOTAL = "o1", Money(amount=699)
PLACED, RESERVED = placed(), stock.StockReserved(order_id=ID, lines=(pieces(),))
PAID = payments.PaymentSucceeded(order_id=ID, payment_id="p", amount=TOTAL)
CONFIRMED = orders.OrderConfirmed(order_id=ID, customer_id="c1", lines=(line(),), total=TOTAL)
SCHEDULED = shipping.ShippingScheduled(order_id=ID, shipment_id="s")
SHIPPED = shipping.ItemShipped(order_id=ID, shipment_id="s")
CANCEL = orders.OrderCancellationRequested(order_id=ID, reason="it rains")
RESERVE, PAY = stock.ReserveStock(order_id=ID, lines=(pieces(),)), payments.ProcessPayment(order_id=ID, amount=TOTAL, token="tok_ok")
CONFIRM = (orders.ConfirmOrder(order_id=ID), stock.KeepStock(order_id=ID))
UNSHIP = shipping.CancelShipping(order_id=ID, reason="order_cancelled")
REFUND = payments.RefundPayment(order_id=ID, reason="order_cancelled", closed=("shipping",))
RELEASE = stock.ReleaseStock(order_id=ID, reason="order_cancelled", closed=("payment", "shipping"))
EVERYBODY = ("stock", "payment", "shipping")


def test_the_way_of_an_order_that_completes():
    """Each answer leads to the next command; what is paid is kept from expiring."""
    way = given(CHECKOUT).when(PLACED).then(RESERVE).when(RESERVED).then(PAY).when(PAID).then(*CONFIRM)
    way = way.when(CONFIRMED).then(shipping.ScheduleShipping(order_id=ID, lines=(pieces(),), ship_to=PLACED.ship_to))
    way = way.when(SCHEDULED).nothing().when(SHIPPED).then(stock.CommitStock(order_id=ID))
    way = way.when(stock.StockCommitted(order_id=ID, lines=())).then(orders.CompleteOrder(order_id=ID, closed=("stock", "shipping")))
    way.when(orders.OrderCompleted(order_id=ID)).status("completed")


def test_a_cancel_under_review_asks_everybody_all_the_same():
    """Nobody has heard of the order, each says so, and what ends it names nothing as undone."""
    asked = given(CHECKOUT).events(placed(review_until=NOON + timedelta(hours=1))).when(CANCEL).then(UNSHIP)
    asked = asked.when(shipping.ShippingCancelled(order_id=ID, reason="order_cancelled")).then(REFUND)
    asked = asked.when(payments.PaymentFailed(order_id=ID, payment_id="p", reason="order_cancelled")).then(RELEASE)
    ended = orders.CancelOrder(order_id=ID, reason="it rains", compensations=(), closed=EVERYBODY)
    asked.when(stock.StockReleased(order_id=ID, lines=(), reason="order_cancelled")).then(ended).status("undone")


def test_a_cancel_while_the_parcel_is_leaving_is_given_up():
    """What has left is not called back: the order goes on, whatever shipping says to the command behind it."""
    leaving = given(CHECKOUT).events(PLACED, RESERVED, PAID, CONFIRMED, SCHEDULED).when(CANCEL).then(UNSHIP)
    gone = leaving.when(SHIPPED).then(stock.CommitStock(order_id=ID))
    late = shipping.ShippingCommandRejected(order_id=ID, command="cancel-shipping", reason="already_shipped")
    gone.when(late).nothing().status("running")


def test_a_reservation_that_expires_calls_the_payment_off():
    """Only while it runs; the stock has been given back, so nobody is asked for it; the order ends as expired."""
    expired = stock.ReservationExpired(order_id=ID, lines=(pieces(),))
    off = payments.RefundPayment(order_id=ID, reason="reservation_expired")
    voided = payments.PaymentFailed(order_id=ID, payment_id="p", reason="reservation_expired", amount=TOTAL)
    ended = orders.RejectOrder(order_id=ID, reason="reservation_expired", compensations=("payment_voided",), closed=("payment",))
    given(CHECKOUT).events(PLACED, RESERVED).when(expired).then(off).when(voided).then(ended).status("undone")
    given(CHECKOUT).events(PLACED, RESERVED, PAID).when(expired).nothing().status("running")


def test_what_is_gone_after_the_payment_is_paid_back():
    """C7: a reservation that could not be renewed; and a refusal at once names what was short."""
    short = stock.OutOfStock(order_id=ID, short=(Shortage(sku="cheese", requested=1, available=0),))
    detail = "cheese: 1 requested, 0 available"
    given(CHECKOUT).events(PLACED).when(short).then(
        orders.RejectOrder(order_id=ID, reason="out_of_stock", detail=detail, closed=("stock",))
    )
    gone = given(CHECKOUT).events(PLACED, RESERVED, PAID, CONFIRMED, SCHEDULED).when(short)
    gone.then(replace(UNSHIP, reason="out_of_stock")).status("compensating")


def test_a_step_without_an_answer_is_asked_for_again_and_then_undone():
    """Three times, each given twice as long; then what may have happened is taken back."""
    asked = given(CHECKOUT).events(PLACED).after(seconds=30).then(RESERVE).after(seconds=60).then(RESERVE)
    undone = asked.after(seconds=120).then(stock.ReleaseStock(order_id=ID, reason="no_answer"))
    ended = orders.RejectOrder(order_id=ID, reason="out_of_stock", detail="no_answer", compensations=("stock_released",), closed=("stock",))
    undone.when(stock.StockReleased(order_id=ID, lines=(pieces(),), reason="no_answer")).then(ended)
