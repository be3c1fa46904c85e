"""What orders answers to commands, and how an order ends whatever the order of the others' facts."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations

import pytest
from msgspec.structs import replace

from millrace import Cancel, Rejected, Timer
from parcomolo.contracts.inventory import OutOfStock, ReservationExpired, StockCommitted, StockReleased, StockReserved
from parcomolo.contracts.lines import Shortage
from parcomolo.contracts.money import Money
from parcomolo.contracts.orders import (
    CancelOrder,
    CompleteOrder,
    ConfirmOrder,
    OrderCancellationRefused,
    OrderCancellationRequested,
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderDelivered,
    OrderExpired,
    OrderPlaced,
    OrderRejected,
    OrderReviewEnded,
    OrderStandsCompleted,
    OrderStandsConfirmed,
    RejectOrder,
)
from parcomolo.contracts.payments import PaymentFailed, PaymentRefunded, PaymentSucceeded
from parcomolo.contracts.shipping import ItemShipped, ShippingCancelled, ShippingFailed, ShippingScheduled
from parcomolo.orders.content import number_of
from parcomolo.orders.domain import decide, decide_as_told
from parcomolo.orders.messages import AddLine, CheckoutProgressed, DeliverOrder, EndReview, RemoveLine
from parcomolo.orders.order import Order, evolve
from parcomolo.orders.prices import Price, priced
from tests.parcomolo.domain.examples import NOON, at, line, pieces, place, placed

AMOUNT = Money(amount=699)
RESERVED = StockReserved(order_id="o1", lines=(pieces(),))
SHORT = OutOfStock(order_id="o1", short=(Shortage(sku="cheese", requested=26, available=25),))
RELEASED = StockReleased(order_id="o1", lines=(pieces(),), reason="r")
NOTHING_RELEASED = StockReleased(order_id="o1", lines=(), reason="r")
COMMITTED = StockCommitted(order_id="o1", lines=(pieces(),))
EXPIRED = ReservationExpired(order_id="o1", lines=(pieces(),))
PAID = PaymentSucceeded(order_id="o1", payment_id="p", amount=AMOUNT)
DECLINED = PaymentFailed(order_id="o1", payment_id="p", reason="card_declined", amount=AMOUNT)
VOIDED = PaymentFailed(order_id="o1", payment_id="p", reason="order_cancelled")
REFUNDED = PaymentRefunded(order_id="o1", payment_id="p", amount=AMOUNT, reason="r")
SCHEDULED = ShippingScheduled(order_id="o1", shipment_id="s")
SHIPPED = ItemShipped(order_id="o1", shipment_id="s")
NOT_SHIPPED = ShippingFailed(order_id="o1", shipment_id="s", reason="address_unknown")
STOPPED = ShippingCancelled(order_id="o1", reason="order_cancelled", shipment_id="s")
CANCEL = CancelOrder(order_id="o1", reason="changed my mind")


class Story:
    """An order told message by message; `said` has its public facts."""

    def __init__(self, *messages, first=None) -> None:
        self.order: Order | None = None
        self.said = []
        self.tell(first or place(), *messages)

    def tell(self, *messages, now=NOON) -> Story:
        """Let the order decide on messages."""
        for message in messages:
            for item in decide(message, self.order, at(now)):
                if not isinstance(item, Timer | Cancel):
                    self.order = evolve(self.order, item)
                    self.said += [] if isinstance(item, CheckoutProgressed) else [item]
        return self

    def refused(self, message, now=NOON) -> str:
        """Return the reason why a message is refused."""
        with pytest.raises(Rejected) as refusal:
            decide(message, self.order, at(now))
        return refusal.value.reason


def same_topic_order(facts) -> bool:
    """Tell whether facts of one axis are in the order in which their context said them."""
    positions = {type(fact): index for index, fact in enumerate(facts)}
    pairs = [(RESERVED, COMMITTED), (RESERVED, RELEASED), (PAID, REFUNDED), (SCHEDULED, SHIPPED), (SCHEDULED, STOPPED)]
    return all(positions[type(a)] < positions[type(b)] for a, b in pairs if type(a) in positions and type(b) in positions)


def every_order_of(*facts):
    """Return the orders in which facts of different topics may arrive."""
    return [order for order in permutations(facts) if same_topic_order(order)]


# Placing and content


def test_placing_computes_the_total_and_a_readable_number():
    """The total comes from the lines; the number from day and id, the same each time (T20)."""
    story = Story(first=place("o1", line("cheese", 2), line("bland", 1)))
    [fact] = story.said
    assert isinstance(fact, OrderPlaced)
    assert fact.total == Money(amount=2 * 699 + 599)
    assert fact.number == number_of("o1", placed_at=NOON) != number_of("o2", placed_at=NOON)
    assert fact.number.startswith("260301-")
    assert story.order is not None
    assert (story.order.status, story.order.version) == ("pending", 1)


def test_an_order_is_placed_once_and_not_empty():
    """A taken id is refused, as are no lines, no pieces, and more than can be."""
    assert Story().refused(place()) == "order_exists"
    many = line("cheese", 1_000_001)
    for lines, reason in (((), "no_lines"), ((line("cheese", 0),), "invalid_quantity"), ((many,), "invalid_quantity")):
        with pytest.raises(Rejected, match=reason):
            decide(replace(place("o2"), lines=lines), None, at())


def test_prices_come_from_the_copy_of_the_catalogue():
    """A line gets the price of this moment; an unknown product is refused by name."""
    price = Price(sku="cheese", name="Cheese", group="burgers", description="", unit_price=Money(amount=1), picture="")
    [priced_line] = priced([pieces("cheese", 2)], {"cheese": price})
    assert (priced_line.quantity, priced_line.unit_price) == (2, Money(amount=1))
    with pytest.raises(Rejected, match="unknown_product"):
        priced([pieces("none")], {"cheese": price, "none": None})


def add(sku="cheese", quantity=1, cents=650) -> AddLine:
    """Return the command to add a line."""
    return AddLine(order_id="o1", sku=sku, name=sku, quantity=quantity, unit_price=Money(amount=cents))


def review(seconds=60) -> Story:
    """Return an order that is under review."""
    return Story(first=place("o1", line("cheese", 2), review_seconds=seconds))


def test_the_same_product_merges_and_the_newest_price_wins():
    """T18: add twice: one line, the sum, the last price for all pieces."""
    order = review().tell(add(quantity=1, cents=650), add(quantity=1, cents=640)).order
    assert order is not None
    assert [(each.quantity, each.unit_price.amount) for each in order.lines] == [(4, 640)]
    assert order.total == Money(amount=4 * 640)


def test_more_than_was_ordered_cannot_be_removed():
    """T18: at most what is there; not what is not there; not the last line."""
    story = review().tell(add("bland", 2))
    for sku, quantity, reason in (
        ("bland", 3, "more_than_ordered"),
        ("bland", 0, "invalid_quantity"),
        ("none", 1, "not_in_order"),
    ):
        assert story.refused(RemoveLine(order_id="o1", sku=sku, quantity=quantity)) == reason
    for quantity in (0, 1_000_001, 10**20):
        assert story.refused(add("bland", quantity)) == "invalid_quantity"
    story.tell(RemoveLine(order_id="o1", sku="bland"))
    assert story.refused(RemoveLine(order_id="o1", sku="cheese")) == "last_line"


def test_content_changes_only_while_the_review_lasts():
    """No review, a review that is over by the clock or by its fact, a cancellation: refused with the reason."""
    assert Story().refused(add()) == "checkout_started"
    assert review().refused(add(), now=NOON + timedelta(seconds=60)) == "checkout_started"
    story = review().tell(EndReview(order_id="o1"))
    assert isinstance(story.said[-1], OrderReviewEnded)
    assert story.refused(add()) == "checkout_started"
    assert decide(EndReview(order_id="o1"), story.order, at()) == []
    assert review().tell(CANCEL).refused(add()) == "order_cancelling"


def test_the_end_of_the_review_is_a_durable_timer():
    """Set with the order, cancelled with it."""
    until = NOON + timedelta(seconds=60)
    placing = decide(place("o1", review_seconds=60), None, at())
    assert placing[1:] == [Timer("review", EndReview(order_id="o1"), at=until)]
    assert Cancel("review") in decide(CANCEL, review().order, at())


# How an order ends


@pytest.mark.parametrize("facts", every_order_of(RESERVED, PAID, SCHEDULED, SHIPPED, COMMITTED))
def test_a_good_order_is_confirmed_and_completed_in_any_order_of_facts(facts):
    """Confirmed when reserved and paid, completed when shipped and committed, each once."""
    story = Story(*facts)
    assert [type(fact) for fact in story.said] == [OrderPlaced, OrderConfirmed, OrderCompleted]
    assert story.order is not None
    assert (story.order.payment_status, story.order.fulfilment_status) == ("paid", "shipped")
    assert story.order.version == 3 + len(facts)


def test_out_of_stock_rejects_at_once():
    """C1: nothing is undone, nothing is waited for; the detail names the shortage."""
    story = Story(SHORT)
    rejected = story.said[-1]
    assert isinstance(rejected, OrderRejected)
    assert (rejected.reason, rejected.was_confirmed) == ("out_of_stock", False)
    assert "26 requested, 25 available" in rejected.detail


@pytest.mark.parametrize("facts", every_order_of(RESERVED, RELEASED, DECLINED))
def test_a_declined_payment_rejects_after_the_release(facts):
    """C5: only when both are seen."""
    story = Story(*facts[:-1])
    assert [type(fact) for fact in story.said] == [OrderPlaced]
    rejected = story.tell(facts[-1]).said[-1]
    assert isinstance(rejected, OrderRejected)
    assert (rejected.reason, rejected.detail) == ("payment_failed", "card_declined")


@pytest.mark.parametrize("facts", every_order_of(RESERVED, PAID, NOT_SHIPPED, REFUNDED, RELEASED))
def test_failed_shipping_rejects_after_refund_and_release(facts):
    """Both compensations are awaited, whatever comes first; a confirmation, if there was one, is undone."""
    story = Story(*facts)
    rejected = story.said[-1]
    assert isinstance(rejected, OrderRejected)
    assert (rejected.reason, rejected.detail) == ("shipping_failed", "address_unknown")
    assert rejected.was_confirmed == any(isinstance(fact, OrderConfirmed) for fact in story.said)
    assert not any(isinstance(fact, OrderRejected) for fact in Story(*facts[:-1]).said)


@pytest.mark.parametrize("facts", every_order_of(EXPIRED, VOIDED))
def test_an_expired_reservation_without_money_expires_the_order(facts):
    """C3: both are awaited."""
    story = Story(RESERVED, *facts)
    assert isinstance(story.said[-1], OrderExpired)
    assert len(story.said) == 2


def test_out_of_stock_after_a_lapse_waits_for_the_refund():
    """C7: somebody has paid for what is gone: rejected only when the money is back."""
    story = Story(RESERVED, EXPIRED, SHORT)
    assert len(story.said) == 1
    story.tell(PAID, STOPPED)
    assert len(story.said) == 1
    assert isinstance(story.tell(REFUNDED).said[-1], OrderRejected)


# Cancelling


CANCELLATIONS = {
    "before the reservation answers": ((), (STOPPED, NOTHING_RELEASED, VOIDED), ("shipping_cancelled",)),
    "out of stock meanwhile": ((), (STOPPED, SHORT, VOIDED), ("shipping_cancelled",)),
    "after the reservation": ((RESERVED,), (STOPPED, RELEASED, VOIDED), ("shipping_cancelled", "stock_released")),
    "after the payment": (
        (RESERVED, PAID, SCHEDULED),
        (STOPPED, RELEASED, REFUNDED),
        ("payment_refunded", "shipping_cancelled", "stock_released"),
    ),
    "when shipping has failed": (
        (RESERVED, PAID, NOT_SHIPPED),
        (RELEASED, REFUNDED),
        ("payment_refunded", "stock_released"),
    ),
}


@pytest.mark.parametrize("before, answers, undone", CANCELLATIONS.values(), ids=CANCELLATIONS)
def test_a_cancellation_ends_after_all_three_answers(before, answers, undone):
    """C9-C11: requested with the reason, cancelled when shipping, stock and payment have settled, in any order."""
    for order in permutations(answers):
        story = Story(*before, CANCEL)
        assert story.said[-1] == OrderCancellationRequested(order_id="o1", reason="changed my mind")
        story.tell(*order[:-1])
        assert isinstance(story.said[-1], OrderCancellationRequested)
        cancelled = story.tell(order[-1]).said[-1]
        assert isinstance(cancelled, OrderCancelled)
        assert (cancelled.reason, cancelled.compensations) == ("changed my mind", undone)


def test_a_parcel_that_has_left_refuses_the_cancellation():
    """C12: shipping decided; the order goes on to its end and nothing is undone."""
    story = Story(RESERVED, PAID, SCHEDULED, CANCEL, SHIPPED)
    assert story.said[-1] == OrderCancellationRefused(order_id="o1", reason="already_shipped")
    assert story.order is not None
    assert (story.order.status, story.order.reason) == ("confirmed", None)
    assert isinstance(story.tell(COMMITTED).said[-1], OrderCompleted)


def test_a_refused_cancellation_before_the_confirmation_was_seen_still_confirms():
    """The parcel overtook the payment's fact: refused, then confirmed, then completed."""
    story = Story(CANCEL, SHIPPED, RESERVED, COMMITTED)
    assert story.order is not None
    assert story.order.status == "pending"
    assert [type(fact) for fact in story.tell(PAID).said[-2:]] == [OrderConfirmed, OrderCompleted]


def test_a_cancellation_too_late_or_twice_is_refused():
    """Each with a stable reason; a refusal is no event."""
    refusals = {
        (CANCEL,): "cancellation_already_requested",
        (CANCEL, STOPPED, NOTHING_RELEASED, VOIDED): "already_cancelled",
        (SHORT,): "already_rejected",
        (RESERVED, EXPIRED, VOIDED): "already_expired",
        (RESERVED, PAID, SHIPPED): "already_shipped",
        (RESERVED, PAID, SHIPPED, COMMITTED): "already_shipped",
    }
    for messages, reason in refusals.items():
        assert Story(*messages).refused(CANCEL) == reason
    assert Story().refused(CancelOrder(order_id="o1", reason=" ")) == "reason_required"
    with pytest.raises(Rejected, match="order_unknown"):
        decide(CANCEL, None, at())


def test_late_answers_after_the_end_change_no_status():
    """A second end is never said; the axes still tell the truth about the money."""
    story = Story(SHORT, PAID, REFUNDED)
    assert [type(fact) for fact in story.said] == [OrderPlaced, OrderRejected]
    assert story.order is not None
    assert (story.order.status, story.order.payment_status) == ("rejected", "refunded")
    assert decide(PAID, None, at()) == []


# Delivering, and obeying


def test_delivered_once_and_only_when_shipped():
    """Needs the parcel to have left; a second time is refused."""
    assert Story(RESERVED, PAID).refused(DeliverOrder(order_id="o1")) == "not_shipped"
    story = Story(RESERVED, PAID, SHIPPED, DeliverOrder(order_id="o1"), COMMITTED)
    assert OrderDelivered(order_id="o1", customer_id="c1", placed_at=NOON, delivered_at=NOON) in story.said
    assert story.order is not None
    assert (story.order.status, story.order.fulfilment_status) == ("completed", "delivered")
    assert story.refused(DeliverOrder(order_id="o1")) == "already_delivered"


def test_an_orchestrator_is_obeyed_while_it_fits():
    """Confirm, reject, complete come from one who knows; what does not fit the status is refused."""
    assert Story().refused(CompleteOrder(order_id="o1")) == "order_pending"
    story = Story(ConfirmOrder(order_id="o1"))
    assert story.refused(ConfirmOrder(order_id="o1")) == "order_confirmed"
    assert isinstance(story.tell(CompleteOrder(order_id="o1")).said[-1], OrderCompleted)
    rejected = Story(RejectOrder(order_id="o1", reason="risk", detail="rule 3")).said[-1]
    assert isinstance(rejected, OrderRejected)
    assert (rejected.reason, rejected.detail) == ("risk", "rule 3")


def as_told(order, message, *, by="/parcomolo/checkout"):
    """Return what the order says where somebody orchestrates."""
    return decide_as_told(message, order, at(source=by))


def test_facts_end_no_order_that_is_told_its_end():
    """They move the axes, and refuse a cancellation once the parcel has left; what is said again is no news."""
    order = Story().order
    for fact in (RESERVED, PAID, SCHEDULED, SHIPPED, COMMITTED):
        [step] = as_told(order, fact)
        order = evolve(order, step)
        assert as_told(order, fact) == []
    assert (order.status, order.payment_status, order.fulfilment_status) == ("pending", "paid", "shipped")
    cancelling = Story(RESERVED, PAID, CANCEL).order
    assert as_told(cancelling, SHIPPED)[1:] == [OrderCancellationRefused(order_id="o1", reason="already_shipped")]


def test_the_orchestrator_is_answered_again_and_ends_what_is_being_cancelled():
    """Repeats of others are refused as ever, and nobody else ends a cancellation or lets an order expire."""
    confirmed, cancelling = ConfirmOrder(order_id="o1"), Story(CANCEL).order
    expired = RejectOrder(order_id="o1", reason="reservation_expired")
    done = CancelOrder(order_id="o1", reason="x", compensations=("stock_released",))
    assert as_told(Story(confirmed).order, confirmed) == [OrderStandsConfirmed(order_id="o1")]
    completed = CompleteOrder(order_id="o1")
    assert as_told(Story(confirmed, completed).order, completed) == [OrderStandsCompleted(order_id="o1")]
    for command in (done, RejectOrder(order_id="o1", reason="payment_failed", compensations=("stock_released",))):
        [cancelled] = as_told(cancelling, command)
        assert (cancelled.reason, cancelled.compensations) == ("changed my mind", ("stock_released",))
    assert [type(fact) for fact in as_told(Story(confirmed, CANCEL).order, completed)] == [OrderCancellationRefused, OrderCompleted]
    assert isinstance(as_told(Story().order, expired)[0], OrderExpired)
    assert isinstance(as_told(Story().order, expired, by="/somebody")[0], OrderRejected)
    for order, command, by in (
        (Story(confirmed).order, confirmed, "/somebody"),
        (cancelling, done, "/somebody"),
        (Story(confirmed).order, done, "/parcomolo/checkout"),
    ):
        with pytest.raises(Rejected):
            as_told(order, command, by=by)


def test_an_event_before_the_first_is_a_broken_stream():
    """Replay never invents an order."""
    with pytest.raises(ValueError, match="broken"):
        evolve(None, OrderReviewEnded(order_id="o1"))
    assert evolve(None, placed()).version == 1
