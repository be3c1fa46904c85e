"""An order whose checkout a person has taken over: it is held, nobody else moves it, and an operator settles how it ends."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from msgspec.structs import replace

from millrace import Cancel, Rejected
from millrace.testing import given
from parcomolo.contracts.inventory import CommitStock, ReleaseStock, ReservationExpired, StockCommitted, StockReleased, StockReserved
from parcomolo.contracts.orders import (
    SETTLED,
    CancelOrder,
    CompleteOrder,
    ConfirmOrder,
    HoldOrder,
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderDelivered,
    OrderExpired,
    OrderHeld,
    OrderPlaced,
    OrderRejected,
    RejectOrder,
)
from parcomolo.contracts.payments import PaymentRefunded, PaymentSucceeded
from parcomolo.contracts.shipping import CancelShipping, ItemShipped, ShippingCancelled, ShippingFailed, ShippingScheduled
from parcomolo.inventory.domain import Reservation
from parcomolo.orders.domain import decide, decide_as_told
from parcomolo.orders.messages import AddLine, DeliverOrder, EndReview, RemoveLine, SettleOrder
from parcomolo.orders.order import Order, OrderEvent, evolve
from parcomolo.orders.timeline import Entry, entry_of, missing
from parcomolo.reports.views import OrderCounts, order_counts
from tests.parcomolo.domain.examples import NOON, PRICES, at, line, pieces, place, placed
from tests.parcomolo.domain.world import CHECKOUT, World

CHECKOUT_SERVICE, ELSEWHERE = "/parcomolo/checkout", "/parcomolo/orders"
WHY = "the bank has lost it"
RESERVED = StockReserved(order_id="o1", lines=(pieces(),))
COMMITTED = StockCommitted(order_id="o1", lines=(pieces(),))
RELEASED = StockReleased(order_id="o1", lines=(pieces(),), reason="r")
EXPIRED = ReservationExpired(order_id="o1", lines=(pieces(),))
PAID = PaymentSucceeded(order_id="o1", payment_id="p", amount=placed().total)
REFUNDED = PaymentRefunded(order_id="o1", payment_id="p", amount=placed().total, reason="r")
SCHEDULED, SHIPPED = ShippingScheduled(order_id="o1", shipment_id="s"), ItemShipped(order_id="o1", shipment_id="s")
NOT_SHIPPED = ShippingFailed(order_id="o1", shipment_id="s", reason="address_unknown")
STOCK_BACK = StockReleased(order_id="o1", lines=(), reason=SETTLED, closed=("shipping",))
STOPPED = ShippingCancelled(order_id="o1", reason=SETTLED, shipment_id="s")
CONFIRM, HOLD, COMPLETE = ConfirmOrder(order_id="o1"), HoldOrder(order_id="o1", reason=WHY), CompleteOrder(order_id="o1")
CANCEL = CancelOrder(order_id="o1", reason="changed my mind")
RELEASE, UNSHIP, COMMIT = (
    ReleaseStock(order_id="o1", reason=SETTLED, closed=("shipping",)),
    CancelShipping(order_id="o1", reason=SETTLED),
    CommitStock(order_id="o1"),
)
SEEDS = 1_500
ENDS = (OrderCompleted, OrderCancelled, OrderRejected, OrderExpired)
TOKENS = ("tok_ok", "tok_ok", "tok_declined", "tok_insufficient_funds", "tok_timeout", "tok_refund_fails_twice")
STOCK = {"bland": 9, "cheese": 9}


ORCHESTRATED = (HoldOrder, ConfirmOrder, RejectOrder)


def as_told(order, message, *, by=ELSEWHERE):
    """Return what the order says where somebody orchestrates."""
    return decide_as_told(message, order, at(source=by))


def after(*messages, first=None) -> Order:
    """Return the order after these; what only the orchestrator says comes from it."""
    order: Order | None = None
    for message in (first or place(), *messages):
        for item in as_told(order, message, by=CHECKOUT_SERVICE if isinstance(message, ORCHESTRATED) else ELSEWHERE):
            order = evolve(order, item) if isinstance(item, OrderEvent) else order
    assert order is not None
    return order


def settle(outcome, reason="paid out in cash", by="Ada") -> SettleOrder:
    """The command of an operator."""
    return SettleOrder(order_id="o1", outcome=outcome, reason=reason, by=by)


def refusal(order, message, *, by=ELSEWHERE) -> str:
    """Return the reason why a message is refused."""
    with pytest.raises(Rejected) as refused:
        as_told(order, message, by=by)
    return refused.value.reason


@pytest.mark.parametrize("messages", [(), (RESERVED, PAID), (RESERVED, PAID, CONFIRM), (RESERVED, PAID, CONFIRM, CANCEL)])
def test_whatever_has_not_ended_is_held(messages):
    """Pending, confirmed or being cancelled: the order is on hold for the person's reason, and its review is over."""
    order = after(*messages)
    held = OrderHeld(order_id="o1", reason=WHY)
    assert as_told(order, HOLD, by=CHECKOUT_SERVICE) == [held, Cancel("review")]
    order = evolve(order, held)
    assert (order.status, order.reason) == ("on_hold", WHY)


def test_only_the_orchestrator_holds_and_only_what_is_open():
    """An order that has ended answers as to any other command; nobody else can hold one, for nobody could settle it."""
    rejected = after(RejectOrder(order_id="o1", reason="out_of_stock"))
    assert refusal(rejected, HOLD, by=CHECKOUT_SERVICE) == "order_rejected"
    assert refusal(after(HOLD), HOLD, by=CHECKOUT_SERVICE) == "on_hold"
    assert refusal(after(), HOLD, by="/somebody") == "not_orchestrated"
    with pytest.raises(Rejected, match="not_orchestrated"):
        decide(HOLD, after(), at(source=CHECKOUT_SERVICE))


def test_an_order_on_hold_refuses_everything_but_its_settlement():
    """Whoever asks, the orchestrator included: one reason. That the parcel has arrived is news, and no decision."""
    order = after(RESERVED, PAID, CONFIRM, HOLD)
    for command in (
        CANCEL,
        CONFIRM,
        COMPLETE,
        RejectOrder(order_id="o1", reason="payment_failed"),
        CancelOrder(order_id="o1", reason="x", compensations=()),
        AddLine(order_id="o1", sku="bland", name="B", quantity=1, unit_price=line("bland").unit_price),
        RemoveLine(order_id="o1", sku="cheese"),
    ):
        assert {refusal(order, command, by=by) for by in (CHECKOUT_SERVICE, ELSEWHERE)} == {"on_hold"}
    assert refusal(order, DeliverOrder(order_id="o1")) == "not_shipped"
    assert isinstance(as_told(after(RESERVED, PAID, CONFIRM, HOLD, SHIPPED), DeliverOrder(order_id="o1"))[0], OrderDelivered)
    assert as_told(after(HOLD, first=place(review_seconds=60)), EndReview(order_id="o1")) == []


def test_what_the_others_say_is_remembered_while_on_hold():
    """The axes go on; nothing follows from them, not even that it is too late to cancel."""
    order = after(CANCEL, HOLD)
    for fact in (RESERVED, PAID, SCHEDULED, SHIPPED):
        [step] = as_told(order, fact)
        order = evolve(order, step)
    assert (order.status, order.payment_status, order.fulfilment_status) == ("on_hold", "paid", "shipped")


def test_settled_as_cancelled_everything_is_given_back_but_money():
    """The fact names what the order knows to be undone and who has settled it; parcel and stock are asked back behind it."""
    cancelled, *commands = as_told(after(RESERVED, PAID, CONFIRM, NOT_SHIPPED, HOLD), settle("cancelled"))
    assert cancelled == OrderCancelled(
        order_id="o1", reason="paid out in cash", closed=("shipping",), lines=(line(),), was_confirmed=True, settled_by="Ada"
    )
    assert commands == [UNSHIP, RELEASE]
    cancelled, *commands = as_told(after(RESERVED, PAID, REFUNDED, RELEASED, HOLD), settle("cancelled", by=""))
    assert (cancelled.compensations, cancelled.closed) == (("payment_refunded", "stock_released"), ("stock", "payment"))
    assert (cancelled.settled_by, commands) == ("", [UNSHIP])
    order = evolve(after(HOLD), cancelled)
    assert (order.status, order.reason) == ("cancelled", "paid out in cash")


@pytest.mark.parametrize("answer, command", [(STOPPED, RELEASE), (NOT_SHIPPED, RELEASE), (SHIPPED, COMMIT)])
def test_the_stock_of_a_cancelled_order_goes_the_way_of_its_parcel(answer, command):
    """Where shipping's answer is not known yet, it decides: given back, or booked out with the parcel that had just left; and only once."""
    order = after(RESERVED, PAID, CONFIRM, HOLD, settle("cancelled"))
    [scheduled] = as_told(order, SCHEDULED)
    order = evolve(order, scheduled)
    step, said = as_told(order, answer)
    assert said == command
    assert as_told(evolve(order, step), answer) == []
    assert len(as_told(after(RESERVED, PAID, CONFIRM, HOLD, settle("completed")), answer)) == 1
    [ended] = as_told(after(CANCEL), CancelOrder(order_id="o1", reason="x", compensations=()), by=CHECKOUT_SERVICE)
    assert len(as_told(evolve(after(CANCEL), ended), answer)) == 1


def test_settled_as_completed_the_stock_leaves_once():
    """What is reserved, or may be, is booked out; what is known to be out is not asked for again. The reason stays with the order."""
    completed = OrderCompleted(order_id="o1", reason="paid out in cash", settled_by="Ada")
    for facts, closed in (
        ((), ()),
        ((RESERVED, PAID, SCHEDULED), ()),
        ((RESERVED, PAID, NOT_SHIPPED), ("shipping",)),
        ((EXPIRED, SHIPPED), ("shipping",)),
    ):
        assert as_told(after(CONFIRM, *facts, HOLD), settle("completed")) == [replace(completed, closed=closed), COMMIT]
    left = replace(completed, closed=("stock", "shipping"))
    assert as_told(after(CONFIRM, RESERVED, SHIPPED, COMMITTED, HOLD), settle("completed")) == [left]
    order = evolve(after(CONFIRM, HOLD), completed)
    assert (order.status, order.reason) == ("completed", "paid out in cash")


def test_settled_is_what_is_on_hold_and_can_end_so():
    """Never twice, never without a hold; not cancelled once the parcel has left, not completed where nobody could have got anything."""
    assert refusal(after(CONFIRM), settle("cancelled")) == "not_on_hold"
    assert refusal(after(RejectOrder(order_id="o1", reason="risk")), settle("completed")) == "not_on_hold"
    held = after(RESERVED, PAID, CONFIRM, HOLD)
    for outcome in ("cancelled", "completed"):
        assert refusal(held, settle(outcome, reason=" ")) == "reason_required"
        ended = evolve(held, as_told(held, settle(outcome))[0])
        assert {refusal(ended, settle(each)) for each in ("cancelled", "completed")} == {"not_on_hold"}
    for left in (SHIPPED, COMMITTED):
        order = after(RESERVED, PAID, CONFIRM, left, HOLD)
        assert refusal(order, settle("cancelled")) == "already_shipped"
        assert isinstance(as_told(order, settle("completed"))[0], OrderCompleted)
    assert refusal(after(RESERVED, PAID, HOLD), settle("completed")) == "not_confirmed"
    for gone in (RELEASED, EXPIRED):
        assert refusal(after(RESERVED, PAID, CONFIRM, gone, HOLD), settle("completed")) == "nothing_reserved"
    with pytest.raises(Rejected, match="order_unknown"):
        as_told(None, settle("cancelled"))


def test_a_takeover_of_the_checkout_holds_its_order():
    """Whatever is out; and nothing that comes then is answered."""
    for facts, heard in (((), ()), ((RESERVED,), ("stock-reserved",)), ((RESERVED, PAID), ("stock-reserved", "payment-succeeded"))):
        held = replace(HOLD, heard=heard)
        taken = given(CHECKOUT).events(placed(), *facts).take_over(WHY, by="Ada").then(held).status("taken_over")
        for late in (RESERVED, PAID, OrderConfirmed(order_id="o1", customer_id="c1", lines=(line(),), total=placed().total), SHIPPED):
            taken.when(late).nothing()


# The story


def told(*types: str) -> list[Entry]:
    """Return a story of these facts, whose ids are their names."""
    return [Entry(type=type_, at=NOON, service="s", text="", id=type_) for type_ in types]


SETTLED_CANCELLED = OrderCancelled(order_id="o1", reason="x", compensations=("stock_released",), closed=("stock",), settled_by="")
SETTLED_COMPLETED = OrderCompleted(order_id="o1", reason="x", settled_by="Ada")


@pytest.mark.parametrize(
    "fact, cause, before, what",
    [
        (OrderHeld(order_id="o1", reason=WHY), "checkout-1-9", (), None),
        (OrderHeld(order_id="o1", reason=WHY, heard=("stock-reserved", "command-rejected")), "checkout-1-9", (), "stock-reserved"),
        (OrderHeld(order_id="o1", reason=WHY, heard=("command-rejected",)), "checkout-1-9", (), None),
        (SETTLED_CANCELLED, "http", ("stock-released",), "order-held"),
        (SETTLED_CANCELLED, "http", ("order-held",), "stock-released"),
        (SETTLED_CANCELLED, "http", ("order-held", "stock-released"), None),
        (SETTLED_COMPLETED, "http", (), "order-held"),
        (SETTLED_COMPLETED, "http", ("order-held",), None),
        (replace(SETTLED_COMPLETED, closed=("shipping",)), "http", ("order-held",), "item-shipped"),
        (STOCK_BACK, "orders-1-9", ("order-held",), "order-cancelled"),
        (STOCK_BACK, "orders-1-9", ("order-cancelled",), "shipping-cancelled"),
        (STOCK_BACK, "orders-1-9", ("order-cancelled", "shipping-failed"), None),
        (ShippingCancelled(order_id="o1", reason=SETTLED), "orders-1-9", ("order-held",), "order-cancelled"),
        (COMMITTED, "orders-1-9", ("item-shipped",), "order-completed"),
        (COMMITTED, "orders-1-9", ("order-completed",), None),
        (COMMITTED, "orders-1-9", ("order-cancelled",), "item-shipped"),
        (COMMITTED, "orders-1-9", ("order-cancelled", "item-shipped"), None),
        (ShippingCancelled(order_id="o1", reason="order_cancelled"), "orders-1-9", ("order-cancelled",), "its cause orders-1-9"),
    ],
)
def test_a_settlement_stands_on_the_hold_and_on_what_it_names(fact, cause, before, what):
    """No undo that will never come is waited for; what orders commanded behind its end is not told before that."""
    found = missing(fact, told("order-placed", *before), cause)
    assert (found is None) if what is None else (found is not None and what in found)


def test_a_hold_ends_a_review_in_the_story():
    """It is told while the content may still change, and nobody waits for the end of that any more."""
    held = OrderHeld(order_id="o1", reason=WHY)
    assert missing(held, told("order-placed"), "checkout-1-2", in_review=True) is None
    assert entry_of(held, at(id="orders-1-2", source=ELSEWHERE)).text == f"Order held: {WHY}."
    assert entry_of(SETTLED_COMPLETED, at(id="orders-1-3", source=ELSEWHERE)).text == "Order completed: x."


# All of it together


def test_whatever_is_taken_over_and_settled_whenever_comes_to_one_end():
    """Under hundreds of interleavings: one end, stock exact, the story complete and growing, the reports right, money untouched."""
    seen = Counter[str]()
    for seed in range(SEEDS):
        world = run(seed)
        try:
            judge(world)
        except AssertionError as failure:
            raise AssertionError(f"seed {seed}") from failure
        order = world.orders["o1"]
        seen[order.status] += 1
        seen.update(entry.type for entry in world.views["o1"].timeline)
        seen["late payment"] += order.status == "cancelled" and order.payment_status == "paid"
        seen["left in that moment"] += order.status == "cancelled" and order.progress.shipping == "shipped"
        seen["never confirmed"] += order.status == "cancelled" and not order.confirmed
        seen["kept its way"] += world.sagas["o1"].status != "taken_over"
    for what in ("completed", "cancelled", "order-held", "late payment", "never confirmed", "kept its way", "left in that moment"):
        assert seen[what], (what, seen)


def run(seed: int) -> World:
    """Return a world in which an operator has taken the checkout over at some moment, and settled the order at a later one."""
    chance = random.Random(seed)
    world = World(seed=seed, stock=STOCK)
    lines = [line(chance.choice(sorted(STOCK)), chance.randint(1, 7)) for _ in range(chance.choice((1, 2)))]
    to = chance.choice(("Ada", "FAIL_SHIPPING"))
    world.tell("orders", place("o1", *lines, token=chance.choice(TOKENS), to=to, review_seconds=chance.choice((0, 0, 60))))
    taken, cancelled = chance.randint(1, 90), chance.random() < 0.2
    moment, step = taken + chance.randint(1, 30), itertools.count()

    def meddle(world: World) -> None:
        now = next(step)
        if now == taken:
            world.operate("o1", lambda course: course.take_over(WHY, "Ada"))
        elif now == moment:
            world.tell("orders", settle(chance.choice(("cancelled", "completed"))))
        elif cancelled and chance.random() < 0.05:
            world.tell("orders", CANCEL)
        elif chance.random() < 0.02:
            price = line("cheese", cents=PRICES["cheese"]).unit_price
            world.tell("orders", AddLine(order_id="o1", sku="cheese", name="C", quantity=1, unit_price=price))
        for view in world.views.values():
            assert view.timeline[: len(stories[-1])] == stories[-1], "a story that was told otherwise before"
            stories.append(view.timeline)

    stories = [()]
    world.run(interrupt=meddle)
    if world.orders["o1"].status == "on_hold":
        outcomes = [outcome for outcome in chance.sample(("cancelled", "completed"), 2) if world.tell("orders", settle(outcome)) is None]
        assert len(outcomes) == 1, "no way out, or two of them"
        world.run()
    return world


def judge(world: World) -> None:
    """See that the order is at one end, with everything that belongs to it."""
    order, view = world.orders["o1"], world.views["o1"]
    story = [type(said.message).__name__ for said in world.facts]
    assert view.order == order, story
    assert len(world.said(*ENDS)) == 1, story
    assert order.status in ("completed", "cancelled", "rejected", "expired"), story
    sold = Counter[str]()
    for fact in world.said(StockCommitted):
        sold.update({part.sku: part.quantity for part in getattr(fact, "lines", ())})
    wanted = Counter[str]()
    for part in order.lines if order.status == "completed" or world.said(ItemShipped) else ():
        wanted[part.sku] += part.quantity
    free_again = order.status == "completed" and order.progress.stock == "released"  # asked for by the checkout before it was taken over
    assert not free_again or story.index("ReleaseStock") < story.index("OrderHeld"), story
    assert sold == (Counter() if free_again else wanted), story
    assert all((world.stock(sku).reserved, world.stock(sku).on_hand) == (0, STOCK[sku] - sold[sku]) for sku in STOCK), story
    row = world.rows.get(("inventory", Reservation, "o1"))
    assert not isinstance(row, Reservation) or row.status not in ("reserved", "collecting"), row
    counts = OrderCounts()
    for fact in world.said(OrderPlaced, OrderConfirmed, OrderCancelled, OrderRejected, OrderExpired):
        counts = order_counts(counts, fact)
    failed = int(order.status in ("rejected", "expired"))
    assert counts == OrderCounts(total=1, succeeded=int(order.status == "completed"), failed=failed), story
    if "OrderHeld" in story:
        assert not {"RefundPayment", "ProcessPayment"} & set(story[story.index("OrderHeld") :]), story
