"""An order whose checkout a person has taken over: it is held, nobody else moves it, and an operator settles how it ends."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace

from millrace import Cancel, Event, Rejected
from millrace.testing import given
from parcomolo.contracts.inventory import (
    CommitStock,
    OutOfStock,
    ReleaseStock,
    ReservationExpired,
    StockCommitted,
    StockReleased,
    StockReserved,
)
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
    OrderSettlementBegun,
    OrderSettlementRefused,
    RejectOrder,
)
from parcomolo.contracts.payments import PaymentFailed, PaymentRefunded, PaymentSucceeded, ProcessPayment, RefundPayment
from parcomolo.contracts.shipping import CancelShipping, ItemShipped, ShippingCancelled, ShippingFailed, ShippingScheduled
from parcomolo.inventory.domain import Reservation
from parcomolo.orders.domain import decide, decide_as_told
from parcomolo.orders.messages import AddLine, CheckoutProgressed, DeliverOrder, EndReview, RemoveLine, SettleOrder
from parcomolo.orders.order import Order, OrderEvent, evolve
from parcomolo.orders.timeline import Entry, entry_of, missing
from parcomolo.payments.answers import ChargeAnswered
from parcomolo.payments.domain import PaymentCase, charge_answered, stop_on_command
from parcomolo.payments.messages import VoidCard
from parcomolo.reports.views import OrderCounts, order_counts
from tests.parcomolo.domain.examples import NOON, PRICES, at, line, pieces, place, placed
from tests.parcomolo.domain.world import CHECKOUT, World

CHECKOUT_SERVICE, ELSEWHERE = "/parcomolo/checkout", "/parcomolo/orders"
WHY = "the bank has lost it"
RESERVED = StockReserved(order_id="o1", lines=(pieces(),))
COMMITTED = StockCommitted(order_id="o1", lines=(pieces(),))
RELEASED = StockReleased(order_id="o1", lines=(pieces(),), reason="r")
SHORT = OutOfStock(order_id="o1", short=())
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
STOP_MONEY = RefundPayment(order_id="o1", reason=SETTLED, only_open=True)
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


LATER = NOON + timedelta(minutes=1)
BEGUN = OrderSettlementBegun(order_id="o1", outcome="cancelled", reason="paid out in cash", by="Ada", at=NOON)
CANCELLED = OrderCancelled(order_id="o1", reason="paid out in cash", closed=("stock", "shipping"), lines=(line(),), settled_by="Ada")
COMPLETED = OrderCompleted(order_id="o1", closed=("stock", "shipping"), reason="paid out in cash", settled_by="Ada")


def step(order, fact, moment=NOON):
    """Return what the order says of a fact besides that it remembers it, and the order then."""
    items = decide_as_told(fact, order, at(moment, source=ELSEWHERE))
    for item in items:
        order = evolve(order, item) if isinstance(item, OrderEvent) else order
    return [item for item in items if not isinstance(item, CheckoutProgressed)], order


@pytest.mark.parametrize("last, closed", [(RELEASED, ("stock", "shipping")), (SHORT, ("stock", "shipping"))])
def test_settled_as_cancelled_it_ends_when_parcel_and_stock_are_back(last, closed):
    """Shipping is asked first, and stock behind its answer; until both have answered the order is on hold, and only then it ends."""
    held = after(RESERVED, PAID, CONFIRM, HOLD)
    assert as_told(held, settle("cancelled")) == [BEGUN, UNSHIP]
    order = evolve(held, BEGUN)
    assert (order.status, order.reason) == ("on_hold", WHY)
    assert step(order, SCHEDULED)[0] == []
    for answer in (STOPPED, NOT_SHIPPED):
        said, asked = step(order, answer)
        assert (said, asked.status) == ([RELEASE], "on_hold")
        assert step(asked, answer)[0] == []
    undone = ("shipping_cancelled", "stock_released") if last == RELEASED else ("shipping_cancelled",)
    said, ended = step(step(order, STOPPED)[1], last)
    assert said == [replace(CANCELLED, compensations=undone, closed=closed, was_confirmed=True)]
    assert (ended.status, ended.reason, ended.settled) == ("cancelled", "paid out in cash", True)


def test_what_is_known_is_not_asked_for():
    """Nothing will leave: the stock at once; nothing is reserved either: the end in the same transaction, with what was undone."""
    assert as_told(after(RESERVED, PAID, CONFIRM, NOT_SHIPPED, HOLD), settle("cancelled")) == [BEGUN, RELEASE]
    order = after(RESERVED, PAID, REFUNDED, NOT_SHIPPED, RELEASED, HOLD)
    undone = ("payment_refunded", "stock_released")
    ended = replace(CANCELLED, compensations=undone, closed=("stock", "payment", "shipping"), settled_by="")
    assert as_told(order, settle("cancelled", by="")) == [replace(BEGUN, by=""), ended]
    said, ended = step(evolve(after(RESERVED, PAID, RELEASED, HOLD), BEGUN), STOPPED)
    assert (said[0].compensations, ended.status) == (("shipping_cancelled", "stock_released"), "cancelled")


@pytest.mark.parametrize("gone", [SHIPPED, COMMITTED])
def test_a_parcel_that_leaves_in_that_moment_is_not_cancelled(gone):
    """Shipping decides: the settlement is refused by a fact, the order is on hold as before, and can be completed."""
    order = after(RESERVED, PAID, CONFIRM, SCHEDULED, HOLD, settle("cancelled"))
    said, order = step(order, gone)
    assert said == [OrderSettlementRefused(order_id="o1", outcome="cancelled", reason="already_shipped")]
    assert (order.status, order.reason, order.settlement) == ("on_hold", WHY, None)
    assert refusal(order, settle("cancelled")) == "already_shipped"
    assert as_told(order, settle("completed"))[1] == (COMMIT if gone == SHIPPED else replace(COMPLETED, closed=("stock",)))


def test_settled_as_completed_it_ends_when_its_stock_has_left():
    """What is reserved, or may be, is booked out, and then it ends; what is known to be out is not asked for again."""
    begun = replace(BEGUN, outcome="completed")
    for facts in ((), (RESERVED, PAID, SCHEDULED), (RESERVED, PAID, NOT_SHIPPED), (EXPIRED, SHIPPED), (SHORT, SHIPPED)):
        held = after(CONFIRM, *facts, HOLD)
        assert as_told(held, settle("completed")) == [begun, COMMIT]
        said, ended = step(evolve(held, begun), COMMITTED)
        closed = ("stock", "shipping") if held.progress.shipping in ("shipped", "failed") else ("stock",)
        assert said == [replace(COMPLETED, closed=closed)]
        assert (ended.status, ended.reason) == ("completed", "paid out in cash")
    assert as_told(after(CONFIRM, RESERVED, SHIPPED, COMMITTED, HOLD), settle("completed")) == [begun, COMPLETED]
    assert as_told(after(CONFIRM, RESERVED, SHIPPED, RELEASED, HOLD), settle("completed"))[1].settled_by == "Ada"


def test_stock_that_proves_to_be_gone_is_told_and_leaves_a_way_out():
    """The checkout had asked for it back before it was taken over: not completed, but cancelled; unless the parcel has left."""
    order = after(RESERVED, PAID, CONFIRM, NOT_SHIPPED, HOLD, settle("completed"))
    assert step(order, EXPIRED)[0] == [], "what was paid is reserved again"
    said, order = step(order, RELEASED)
    assert said == [OrderSettlementRefused(order_id="o1", outcome="completed", reason="nothing_reserved")]
    assert (order.status, refusal(order, settle("completed"))) == ("on_hold", "nothing_reserved")
    assert isinstance(as_told(order, settle("cancelled"))[1], OrderCancelled)
    assert isinstance(step(after(RESERVED, PAID, CONFIRM, SHIPPED, HOLD, settle("completed")), RELEASED)[0][0], OrderCompleted)


def test_a_settlement_is_said_again_or_replaced():
    """The same asks again, as of when it was first said; another reason and another outcome take its place."""
    order = after(RESERVED, PAID, CONFIRM, HOLD, settle("cancelled"))
    later = at(LATER, source=ELSEWHERE)
    assert decide_as_told(settle("cancelled"), order, later) == [UNSHIP]
    assert decide_as_told(settle("cancelled", reason="lost"), order, later) == [replace(BEGUN, reason="lost"), UNSHIP]
    completed = replace(BEGUN, outcome="completed", at=LATER)
    assert decide_as_told(settle("completed"), order, later) == [completed, COMMIT]
    order = evolve(order, completed)
    assert step(order, STOPPED)[0] == []
    assert isinstance(step(order, COMMITTED)[0][0], OrderCompleted)
    assert as_told(order, settle("cancelled")) == [BEGUN, UNSHIP]


def test_no_money_is_taken_once_an_order_is_settled_as_cancelled():
    """Payments is told where nothing is known of the money, also with the end; what was taken later goes back, what was before stays."""
    assert as_told(after(RESERVED, HOLD), settle("cancelled")) == [BEGUN, UNSHIP, STOP_MONEY]
    assert as_told(after(SHORT, NOT_SHIPPED, HOLD), settle("cancelled"))[2] == STOP_MONEY
    for known in (PAID, REFUNDED, PaymentFailed(order_id="o1", payment_id="p", reason="card_declined")):
        assert as_told(after(RESERVED, known, HOLD), settle("cancelled")) == [BEGUN, UNSHIP]
    order = after(RESERVED, HOLD, settle("cancelled"))
    assert step(order, PAID)[0] == [], "it was said before"
    ended = step(step(order, STOPPED)[1], RELEASED)[1]
    for before in (order, ended):
        said, paid = step(before, PAID, LATER)
        assert said == [RefundPayment(order_id="o1", reason=SETTLED)]
        assert step(paid, PAID, LATER)[0] == []
    assert step(after(RESERVED, CONFIRM, HOLD, settle("completed")), PAID, LATER)[0] == []
    assert step(after(RESERVED, HOLD), PAID, LATER)[0] == []


@pytest.mark.parametrize(
    "status, then, said",
    [
        ("waiting", "failed", ["PaymentFailed"]),
        ("charging", "charging", []),
        ("retrying", "failed", ["PaymentFailed", "VoidCard"]),
        ("succeeded", "succeeded", ["PaymentSucceeded"]),
        ("refunding", "refunding", []),
        ("refund_failed", "refund_failed", ["PaymentSucceeded"]),
        ("refunded", "refunded", ["PaymentRefunded"]),
        ("failed", "failed", ["PaymentFailed"]),
    ],
)
def test_payments_leaves_alone_what_was_taken(status, then, said):
    """What has not been taken never is: a charge that is out comes to nothing, or is given back."""
    case = PaymentCase(order_id="o1", status=status, amount=placed().total, attempt=1)
    items = stop_on_command(STOP_MONEY, case)
    after = next((item for item in items if isinstance(item, PaymentCase)), case)
    assert (after.status, [type(item).__name__ for item in items if isinstance(item, Event | VoidCard)]) == (then, said)
    if status == "charging":
        answered = charge_answered(ChargeAnswered(order_id="o1", attempt=1, outcome="ok"), after)
        assert [type(item).__name__ for item in answered] == ["PaymentSucceeded", "PaymentCase", "RefundCard"]
    assert stop_on_command(STOP_MONEY, None)[0].status == "failed"


def test_settled_is_what_is_on_hold_and_can_end_so():
    """Never after the end or without a hold; not cancelled once the parcel has left, not completed where nobody could have got anything."""
    assert refusal(after(CONFIRM), settle("cancelled")) == "not_on_hold"
    assert refusal(after(RejectOrder(order_id="o1", reason="risk")), settle("completed")) == "not_on_hold"
    held = after(RESERVED, PAID, CONFIRM, HOLD)
    for outcome, answers in (("cancelled", (STOPPED, RELEASED)), ("completed", (COMMITTED,))):
        assert refusal(held, settle(outcome, reason=" ")) == "reason_required"
        ended = after(RESERVED, PAID, CONFIRM, HOLD, settle(outcome), *answers)
        assert ended.status == outcome
        assert {refusal(ended, settle(each)) for each in ("cancelled", "completed")} == {"not_on_hold"}
    for left in (SHIPPED, COMMITTED):
        order = after(RESERVED, PAID, CONFIRM, left, HOLD)
        assert refusal(order, settle("cancelled")) == "already_shipped"
        assert as_told(order, settle("completed"))
    assert refusal(after(RESERVED, PAID, HOLD), settle("completed")) == "not_confirmed"
    for gone in (RELEASED, EXPIRED, SHORT):
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


SETTLED_CANCELLED = OrderCancelled(
    order_id="o1", reason="x", compensations=("stock_released",), closed=("stock", "shipping"), settled_by=""
)
SETTLED_COMPLETED = OrderCompleted(order_id="o1", reason="x", closed=("stock",), settled_by="Ada")
MONEY_STOPPED = PaymentFailed(order_id="o1", payment_id="p", reason=SETTLED)


@pytest.mark.parametrize(
    "fact, cause, before, what",
    [
        (OrderHeld(order_id="o1", reason=WHY), "checkout-1-9", (), None),
        (OrderHeld(order_id="o1", reason=WHY, heard=("stock-reserved", "command-rejected")), "checkout-1-9", (), "stock-reserved"),
        (OrderHeld(order_id="o1", reason=WHY, heard=("command-rejected",)), "checkout-1-9", (), None),
        (BEGUN, "http", (), "order-held"),
        (BEGUN, "http", ("order-held",), None),
        (SETTLED_CANCELLED, "inventory-1-9", ("order-settlement-begun", "shipping-failed", "stock-released"), "its cause inventory-1-9"),
        (SETTLED_CANCELLED, "stock-released", ("shipping-failed", "stock-released"), "order-settlement-begun"),
        (SETTLED_CANCELLED, "stock-released", ("order-settlement-begun", "stock-released"), "shipping-failed"),
        (SETTLED_CANCELLED, "http", ("order-settlement-begun", "shipping-failed", "stock-released"), None),
        (SETTLED_COMPLETED, "http", ("stock-committed",), "order-settlement-begun"),
        (SETTLED_COMPLETED, "http", ("order-settlement-begun",), "stock-committed"),
        (SETTLED_COMPLETED, "http", ("order-settlement-begun", "stock-committed"), None),
        (STOCK_BACK, "orders-1-9", ("shipping-cancelled",), "order-settlement-begun"),
        (STOCK_BACK, "orders-1-9", ("order-settlement-begun",), "shipping-cancelled"),
        (STOCK_BACK, "orders-1-9", ("order-settlement-begun", "shipping-failed"), None),
        (ShippingCancelled(order_id="o1", reason=SETTLED), "orders-1-9", ("order-held",), "order-settlement-begun"),
        (MONEY_STOPPED, "orders-1-9", ("order-held",), "order-settlement-begun"),
        (MONEY_STOPPED, "orders-1-9", ("order-settlement-begun",), None),
        (MONEY_STOPPED, "checkout-1-9", ("stock-reserved",), "order-settlement-begun"),
        (replace(REFUNDED, reason=SETTLED), "checkout-1-9", ("payment-succeeded",), "order-settlement-begun"),
        (COMMITTED, "orders-1-9", ("item-shipped",), "order-settlement-begun"),
        (COMMITTED, "orders-1-9", ("order-settlement-begun",), None),
        (ShippingCancelled(order_id="o1", reason="order_cancelled"), "orders-1-9", ("order-cancelled",), "its cause orders-1-9"),
    ],
)
def test_a_settlement_stands_on_the_hold_and_on_what_it_names(fact, cause, before, what):
    """The end stands on the answers that it names; what orders commanded for a settlement is not told before that."""
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
    """Under hundreds of interleavings: one end, stock exact, the story complete and growing, the reports right, no late money kept."""
    seen = Counter[str]()
    for seed in range(SEEDS):
        world, settled_at = run(seed)
        try:
            judge(world, settled_at)
        except AssertionError as failure:
            raise AssertionError(f"seed {seed}") from failure
        seen.update(corners(world))
    for what in (
        *("completed", "cancelled", "order-held", "paid before", "paid late", "called off", "never confirmed", "kept its way"),
        *("refused already_shipped", "refused nothing_reserved"),
    ):
        assert seen[what], (what, seen)


def corners(world: World) -> Counter[str]:
    """Return what a run came through."""
    order, seen = world.orders["o1"], Counter[str]()
    seen[order.status] += 1
    seen.update(entry.type for entry in world.views["o1"].timeline)
    seen.update(f"refused {fact.reason}" for fact in world.said(OrderSettlementRefused) if isinstance(fact, OrderSettlementRefused))
    seen["paid before"] += order.status == "cancelled" and order.payment_status == "paid"
    seen["paid late"] += order.settled and order.payment_status == "refunded"
    seen["called off"] += order.settled and order.payment_status == "voided"
    seen["never confirmed"] += order.status == "cancelled" and not order.confirmed
    seen["kept its way"] += world.sagas["o1"].status != "taken_over"
    return seen


def run(seed: int) -> tuple[World, list[datetime]]:
    """Return a world in which an operator has taken the checkout over at some moment, and settled the order at later ones; and these."""
    chance = random.Random(seed)
    world = World(seed=seed, stock=STOCK)
    lines = [line(chance.choice(sorted(STOCK)), chance.randint(1, 7)) for _ in range(chance.choice((1, 2)))]
    to = chance.choice(("Ada", "FAIL_SHIPPING"))
    world.tell("orders", place("o1", *lines, token=chance.choice(TOKENS), to=to, review_seconds=chance.choice((0, 0, 60))))
    taken, cancelled, again = chance.randint(1, 90), chance.random() < 0.2, chance.random() < 0.2
    moment, step = taken + chance.randint(1, 30), itertools.count()
    settled_at: list[datetime] = []

    def say(outcome: str) -> bool:
        done = world.tell("orders", settle(outcome)) is None
        if done and outcome == "cancelled":
            settled_at.append(world.now)
        return done

    def meddle(world: World) -> None:
        now = next(step)
        if now == taken:
            world.operate("o1", lambda course: course.take_over(WHY, "Ada"))
        elif now == moment or (again and now > moment and chance.random() < 0.1):
            say(chance.choice(("cancelled", "completed")))
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
    again = False
    for _ in range(2):
        if world.orders["o1"].status == "on_hold":
            assert any(say(outcome) for outcome in chance.sample(("cancelled", "completed"), 2)), "no way out"
            world.run(interrupt=meddle)
    return world, settled_at


def judge(world: World, settled_at: list[datetime]) -> None:
    """See that the order is at one end, with everything that belongs to it."""
    order, view = world.orders["o1"], world.views["o1"]
    story = [type(said.message).__name__ for said in world.facts]
    assert view.order == order, story
    assert len(world.said(*ENDS)) == 1, story
    assert order.status in ("completed", "cancelled", "rejected", "expired"), story
    assert order.status == "completed" or not world.said(ItemShipped), story
    judge_stock(world, story)
    counts = OrderCounts()
    for fact in world.said(OrderPlaced, OrderConfirmed, OrderCancelled, OrderRejected, OrderExpired):
        counts = order_counts(counts, fact)
    failed = int(order.status in ("rejected", "expired"))
    assert counts == OrderCounts(total=1, succeeded=int(order.status == "completed"), failed=failed), story
    if order.settled:
        judge_order(story)
        judge_money(world, settled_at, story)


def judge_stock(world: World, story: list[str]) -> None:
    """See that what was ordered has left the shelf, or nothing has, and that nothing is reserved."""
    order, sold = world.orders["o1"], Counter[str]()
    for fact in world.said(StockCommitted):
        sold.update({part.sku: part.quantity for part in getattr(fact, "lines", ())})
    wanted = Counter[str]()
    for part in order.lines if order.status == "completed" else ():
        wanted[part.sku] += part.quantity
    assert sold == wanted, story
    assert all((world.stock(sku).reserved, world.stock(sku).on_hand) == (0, STOCK[sku] - sold[sku]) for sku in STOCK), story
    row = world.rows.get(("inventory", Reservation, "o1"))
    assert not isinstance(row, Reservation) or row.status not in ("reserved", "collecting"), row


def judge_order(story: list[str]) -> None:
    """See that the end stands behind the answers that it stands on."""
    end = next(number for number, name in enumerate(story) if name in ("OrderCompleted", "OrderCancelled"))
    before = set(story[:end])
    if story[end] == "OrderCompleted":
        assert "StockCommitted" in before, story
    else:
        assert before & {"ShippingCancelled", "ShippingFailed"}, story
        assert before & {"StockReleased", "OutOfStock"}, story


def judge_money(world: World, settled_at: list[datetime], story: list[str]) -> None:
    """See that money which was taken before the order was settled as cancelled is left alone, and what was taken later is given back."""
    taken = next((said.at for said in world.facts if isinstance(said.message, PaymentSucceeded)), None)
    late = bool(settled_at) and taken is not None and taken > settled_at[0] and world.orders["o1"].status == "cancelled"
    kept = any(charge.state == "charged" for charge in world.provider.charges())
    assert not (late and kept), story
    since = [said.message for said in world.facts[story.index("OrderHeld") :]]
    assert not any(isinstance(message, ProcessPayment) for message in since), story
    assert late or not any(isinstance(message, RefundPayment) and not message.only_open for message in since), story
    assert late or not any(isinstance(message, PaymentRefunded) and message.reason == SETTLED for message in since), story
