"""Twenty thousand interleavings of the orchestrated checkout, with faults, on a clock that stands where chance has put it.

Orders are placed, changed under review and cancelled at any moment, and an operator takes a checkout over; answers are lost, late, said
twice and out of order; processes die, and deadlines come too early. Whatever happens: one end per order, stock and money conserved, no
reservation that nobody wants, and every undo is done or its saga is stuck where an operator sees it. An order whose checkout was taken over
is settled, among the faults or after them, and the same holds of it but for money that had been taken by then, to which the machine does
nothing more.

    PARCOMOLO_SEED=4711 pytest tests/parcomolo/domain/test_interleavings.py -k slice      one interleaving again, told step by step
    PARCOMOLO_SEEDS=100000 pytest tests/parcomolo/domain/test_interleavings.py -m soak    that many that nobody has seen

Neighbours: `faulty_world` makes the faults.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterable

import pytest
from msgspec.structs import replace

from millrace import Saga
from parcomolo.checkout.saga import table
from parcomolo.contracts.inventory import StockCommitted
from parcomolo.contracts.orders import CancelOrder, OrderCancelled, OrderCompleted, OrderExpired, OrderRejected
from parcomolo.contracts.payments import PaymentRefunded, PaymentSucceeded
from parcomolo.contracts.shipping import ItemShipped, ShippingCancelled
from parcomolo.inventory.domain import Reservation
from parcomolo.orders import timeline
from parcomolo.orders.messages import AddLine, RemoveLine
from tests.parcomolo.domain.examples import PRICES, line, place
from tests.parcomolo.domain.faulty_world import FaultyWorld
from tests.parcomolo.domain.world import CHECKOUT

INTERLEAVINGS = 20_000
SLICE = 1_000
MUTANT_SEEDS = 400
STORIES = 1_000
ENDS = (OrderCompleted, OrderCancelled, OrderRejected, OrderExpired)
ENDED = ("completed", "undone", "taken_over")
TAKEN_OVER = 0.1
"""The share of interleavings in which an operator takes a checkout over that is under way."""
TOKENS = ("tok_ok", "tok_ok", "tok_declined", "tok_insufficient_funds", "tok_timeout_then_ok", "tok_timeout", "tok_refund_fails_twice")
STOCK = {"bland": 9, "cheese": 9}


def seeds(first: int, count: int) -> Iterable[int]:
    """Return the seeds to run: so many, or the one that the environment names."""
    return [int(one)] if (one := os.environ.get("PARCOMOLO_SEED")) else range(first, first + count)


@pytest.mark.parametrize("number", range(INTERLEAVINGS // SLICE))
def test_slice_of_interleavings(number: int) -> None:
    """A thousand of them: everything is at one end, conserved, undone or visibly stuck."""
    check(seeds(number * SLICE, SLICE), CHECKOUT)


@pytest.mark.soak
def test_fresh_interleavings() -> None:
    """As many as one likes, of seeds that nobody has seen."""
    count, first = int(os.environ.get("PARCOMOLO_SEEDS", "100000")), random.SystemRandom().randrange(2**40)
    check(seeds(first, count), CHECKOUT)


@pytest.mark.parametrize("step", ["reserve-stock", "process-payment", "schedule-shipping"])
def test_a_saga_that_forgets_an_undo_is_found(step: str) -> None:
    """A table that takes one step for undone without asking for it fails within a few hundred of the same interleavings."""
    mutant = table()
    mutant._rows[step] = replace(mutant._rows[step], undo=lambda *_: None)
    with pytest.raises(AssertionError, match="PARCOMOLO_SEED="):
        check(range(MUTANT_SEEDS), mutant)


def test_stories_have_causes_before_consequences() -> None:
    """Among the same faults, through commands too; no story waits for ever, and each tells the end.

    A view that does not wait for what a command had named as closed is found.
    """
    check(seeds(0, STORIES), CHECKOUT, told=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timeline, "CLOSED_BY", {})
        with pytest.raises(AssertionError, match="is told before"):
            check(range(STORIES), CHECKOUT, told=True)


def test_chance_reaches_what_is_rare() -> None:
    """The property is worth something only if its runs come through the corners."""
    seen = Counter[str]()
    for seed in range(MUTANT_SEEDS):
        world = run(seed, CHECKOUT)
        seen.update(order.status for order in world.orders.values())
        seen.update(entry.what for instance in world.sagas.values() for entry in instance.timeline)
        seen["stuck"] += world.stuck
        seen["settled"] += sum(order.settled for order in world.orders.values())
        seen["settled among faults"] += world.settled_early
    for what in (
        *("completed", "cancelled", "rejected", "expired", "stuck", "taken over", "settled", "settled among faults"),
        "sent again",
        "undo sent again",
        "no answer",
        "done late",
        "kept",
        "given up",
    ):
        assert seen[what], f"{what} is never seen: {seen}"


def check(chosen: Iterable[int], saga: Saga, *, told: bool = False) -> None:
    """Run interleavings; a failure names the command that repeats it."""
    print(f"\nseeds {chosen}")
    for seed in chosen:
        world: FaultyWorld | None = None
        try:
            world = run(seed, saga, told=told)
            judge(world)
            if told:
                judge_stories(world)
        except Exception as failure:
            again = f"PARCOMOLO_SEED={seed} pytest tests/parcomolo/domain/test_interleavings.py -k slice"
            raise AssertionError(f"seed {seed}: {failure!r}\nagain: {again}") from failure


def run(seed: int, saga: Saga, *, told: bool = False) -> FaultyWorld:
    """Return a world in which everything has come to its end, or is stuck for good; with `told` its orders have stories."""
    chance = random.Random(seed)
    world = FaultyWorld(seed=seed, stock=STOCK, saga=saga, told=told)
    orders = [f"o{number}" for number in range(chance.choice((1, 1, 1, 2)))]
    for order_id in orders:
        lines = [line(chance.choice(sorted(STOCK)), chance.randint(1, 7)) for _ in range(chance.choice((1, 1, 2)))]
        review, to = chance.choice((0, 0, 60)), chance.choice(("Ada", "Ada", "Ada", "FAIL_SHIPPING"))
        world.tell("orders", place(order_id, *lines, token=chance.choice(TOKENS), to=to, review_seconds=review))
    world.run(interrupt=meddling(chance, orders, impatient=world.operator.random() < TAKEN_OVER))
    quiet = Counter(instance.status for instance in world.sagas.values())
    assert set(quiet) <= {*ENDED, "stuck"}, f"a saga waits for nothing: {quiet}"
    world.settle()
    return world


def meddling(chance: random.Random, orders: list[str], *, impatient: bool) -> Callable[[FaultyWorld], None]:
    """Return what people do in between: customers change, cancel, or nothing; an operator who is impatient takes a checkout over."""
    cancelling = {order_id for order_id in orders if chance.random() < 0.5}

    def meddle(world: FaultyWorld) -> None:
        if impatient and world.operator.random() < 0.02:
            world.operate(world.operator.choice(orders), world.take_over)
        elif impatient and world.operator.random() < 0.02:
            world.settle_order(world.operator.choice(orders))
        if chance.random() > 0.12:
            return
        order_id = chance.choice(orders)
        match chance.randrange(3):
            case 0:
                price = line("cheese", cents=PRICES["cheese"] - 1).unit_price
                world.tell("orders", AddLine(order_id=order_id, sku="cheese", name="C", quantity=1, unit_price=price))
            case 1:
                world.tell("orders", RemoveLine(order_id=order_id, sku="bland", quantity=1))
            case _ if order_id in cancelling:
                world.tell("orders", CancelOrder(order_id=order_id, reason="changed my mind"))
            case _:
                pass

    return meddle


def judge(world: FaultyWorld) -> None:
    """See that nothing is lost, kept or told twice."""
    taken = Counter[str]()
    for fact in world.said(StockCommitted):
        for part in fact.lines:
            taken[part.sku] += part.quantity
    for sku, opening in STOCK.items():
        row = world.stock(sku)
        assert (row.reserved, row.on_hand) == (0, opening - taken[sku]), row
    for order_id, order in world.orders.items():
        story = [type(said.message).__name__ for said in world.facts if getattr(said.message, "order_id", "") == order_id]
        assert world.sagas[order_id].status in ENDED, (world.sagas[order_id], story)
        assert len(world.said(*ENDS, order_id=order_id)) == 1, story
        assert order.status in ("completed", "cancelled", "rejected", "expired"), story
        taken = world.sagas[order_id].status == "taken_over"  # perhaps when the order had just ended, so that nobody settles it
        assert taken or (not order.settled and (order.status == "completed") == (world.sagas[order_id].status == "completed")), story
        assert order.settled or order.status != "completed" or world.said(ItemShipped, order_id=order_id), story
        assert order.status == "completed" or not world.said(ItemShipped, order_id=order_id), story
        assert not world.said(ItemShipped, order_id=order_id) or not world.said(ShippingCancelled, order_id=order_id), story
        row = world.rows.get(("inventory", Reservation, order_id))
        assert not isinstance(row, Reservation) or row.status not in ("reserved", "collecting"), row
        if taken:
            judge_late_money(world, order_id, story)
        else:
            judge_money(world, order_id, story)


def judge_stories(world: FaultyWorld) -> None:
    """See that each order's story has been told to its end; that causes stand first is asserted while it grows."""
    for order_id, order in world.orders.items():
        assert world.views[order_id].status == order.status, world.views[order_id].timeline


def judge_late_money(world: FaultyWorld, order_id: str, story: list[str]) -> None:
    """No money is kept that was only taken when somebody had settled the order as cancelled."""
    settlement, charge = world.orders[order_id].settlement, world.ledger.find(f"pay-{order_id}")
    if settlement is None or settlement.outcome != "cancelled" or charge is None or charge.state != "charged":
        return
    taken = [said.at for said in world.facts if isinstance(said.message, PaymentSucceeded) and said.message.order_id == order_id]
    assert min(taken) <= settlement.at, story


def judge_money(world: FaultyWorld, order_id: str, story: list[str]) -> None:
    """Money is kept for what was sent, the whole total, and for nothing else."""
    order, charge = world.orders[order_id], world.ledger.find(f"pay-{order_id}")
    kept = charge is not None and charge.state == "charged"
    assert kept == (order.status == "completed"), (charge, story)
    assert not kept or charge.amount == order.total, (charge, order)
    for fact in world.said(OrderCancelled, OrderRejected, OrderExpired, order_id=order_id):
        refunded = bool(world.said(PaymentRefunded, order_id=order_id))
        assert ("payment_refunded" in fact.compensations) == refunded, (fact, story)
