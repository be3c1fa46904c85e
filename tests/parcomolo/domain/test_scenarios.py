"""The rows of the contract's checkout table, each as the story that a buyer sees."""

from __future__ import annotations

import pytest

from parcomolo.configuration import CHOREOGRAPHY, STYLES
from parcomolo.contracts.orders import CancelOrder
from parcomolo.inventory.domain import Reservation
from parcomolo.orders.messages import DeliverOrder
from tests.parcomolo.domain.examples import line, place
from tests.parcomolo.domain.world import World

CANCEL = CancelOrder(order_id="o1", reason="changed my mind")
pytestmark = pytest.mark.parametrize("style", STYLES)


def told(world: World) -> set[str]:
    """Return the types in the order's story."""
    return {entry.type for entry in world.views["o1"].timeline}


def world_of(style: str, seed: int = 1, **order) -> World:
    """Return a world in which one order is placed."""
    world = World(seed=seed, stock={"cheese": 50, "a-lot-of-cheese": 25}, style=style, in_time=True)
    lines = order.pop("lines", (line(),))
    assert world.tell("orders", place("o1", *lines, **order)) is None
    return world


@pytest.mark.parametrize("token", ["tok_ok", "tok_insufficient_funds", "tok_timeout_then_ok", "tok_refund_fails_twice"])
def test_an_order_that_can_be_paid_completes_and_is_charged_once(style, token):
    """T14: every step is in the story; soft declines and lost answers are not seen from outside."""
    world = world_of(style, token=token)
    world.run()
    assert {
        "order-placed",
        "stock-reserved",
        "payment-succeeded",
        "order-confirmed",
        "shipping-scheduled",
        "item-shipped",
        "stock-committed",
        "order-completed",
    } <= told(world)
    assert [charge.state for charge in world.provider.charges()] == ["charged"]
    assert world.tell("orders", DeliverOrder(order_id="o1")) is None
    world.run()
    assert world.views["o1"].order.fulfilment_status == "delivered"


@pytest.mark.parametrize(
    "order, reason",
    [
        ({"lines": (line("a-lot-of-cheese", 26),)}, "out_of_stock"),
        ({"lines": (line("a-lot-of-cheese", 20), line("a-lot-of-cheese", 20))}, "out_of_stock"),
        ({"token": "tok_declined"}, "payment_failed"),
        ({"token": "tok_nobody_knows"}, "payment_failed"),
        ({"to": "FAIL_SHIPPING"}, "shipping_failed"),
    ],
    ids=["26 of 25", "two lines of 20", "declined", "unknown token", "no shipping"],
)
def test_an_order_that_cannot_be_done_is_rejected_and_leaves_nothing(style, order, reason):
    """T15, T17: rejected with the reason, all stock back, no money kept."""
    world = world_of(style, **order)
    world.run()
    assert (world.orders["o1"].status, world.orders["o1"].reason) == ("rejected", reason)
    assert all(world.stock(sku).available == opening for sku, opening in (("cheese", 50), ("a-lot-of-cheese", 25)))
    assert all(charge.state != "charged" for charge in world.provider.charges())


def test_an_unknown_outcome_ends_without_the_money(style):
    """`tok_timeout`: the charge went through, every answer was lost, and within a minute it is voided."""
    world = world_of(style, token="tok_timeout")
    began = world.now
    world.run()
    assert (world.orders["o1"].status, world.orders["o1"].reason) == ("rejected", "payment_failed")
    assert (world.facts[-1].at - began).total_seconds() < 60
    assert [charge.state for charge in world.provider.charges()] == ["voided"]


@pytest.mark.parametrize("after", ["", "stock-reserved", "payment-succeeded", "shipping-scheduled"])
def test_a_cancellation_undoes_what_was_done(style, after):
    """T15: whenever it is accepted before the parcel leaves, stock and money are as before."""
    for seed in range(40):
        world = world_of(style, seed)
        while after and not any(entry.type == after for entry in _story(world)) and world.step():
            pass
        if world.tell("orders", CANCEL) is None:
            world.run()
            if world.orders["o1"].status == "cancelled":
                break
    assert world.orders["o1"].status == "cancelled"
    assert "Order cancelled: changed my mind." in [entry.text for entry in world.views["o1"].timeline]
    assert world.stock("cheese") == World(seed=0, stock={"cheese": 50}).stock("cheese")
    assert all(charge.state != "charged" for charge in world.provider.charges())


def _story(world: World):
    return world.views["o1"].timeline if "o1" in world.views else ()


def test_a_reservation_answers_once_even_when_it_is_asked_late(style):
    """Cancelled before inventory knew the order: remembered as released, never reserved; orchestrated, given back at once."""
    seen = set()
    for seed in range(60):
        world = world_of(style, seed)
        world.tell("orders", CANCEL)
        world.run()
        row = world.rows["inventory", Reservation, "o1"]
        assert isinstance(row, Reservation)
        seen.add((row.status, row.lines == ()))
    assert ("released", style == CHOREOGRAPHY) in seen
