"""Reservations: all or nothing, once, and given back once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from millrace import Cancel, NotYet, Rejected, Timer
from parcomolo.contracts.inventory import (
    AdjustStock,
    CommitStock,
    KeepStock,
    OutOfStock,
    ReceiveStock,
    ReleaseStock,
    ReservationExpired,
    ReserveStock,
    StockAdjusted,
    StockCommitted,
    StockLow,
    StockReleased,
    StockReplenished,
    StockReserved,
)
from parcomolo.contracts.lines import Shortage
from parcomolo.contracts.orders import OrderLineAdded, OrderLineRemoved, OrderReviewEnded
from parcomolo.contracts.payments import PaymentFailed, PaymentSucceeded
from parcomolo.contracts.shipping import ItemShipped, ShippingCancelled, ShippingFailed
from parcomolo.inventory import domain
from parcomolo.inventory.domain import Reservation
from parcomolo.inventory.messages import ExpireReservation, OpenStock
from parcomolo.inventory.opening import OPENING_STOCK
from parcomolo.inventory.stock import Stock
from tests.parcomolo.domain.examples import NOON, line, pieces, placed

TTL = timedelta(minutes=15)
A_LOT = "a-lot-of-cheese"


def shelf(sku: str = A_LOT, on_hand: int = 25, **more) -> Stock:
    """Return a product's row."""
    return Stock(sku=sku, initial=on_hand, on_hand=on_hand, **more)


def reserved(quantity: int = 2, **more) -> Reservation:
    """Return a reservation of some cheese burgers."""
    return Reservation(order_id="o1", **{"status": "reserved", "lines": (pieces("cheese", quantity),)} | more)


def place(event, *rows: Stock, reservation: Reservation | None = None):
    """Let inventory see a placed order."""
    return domain.place(event, {row.sku: row for row in rows}, reservation, ttl=TTL)


def test_twenty_six_of_twenty_five_reserve_nothing():
    """T17: more than is available is out of stock, with what was asked and what there is, and changes no row."""
    items = place(placed("o1", line(A_LOT, 26)), shelf())
    short = (Shortage(sku=A_LOT, requested=26, available=25),)
    assert items == [
        Reservation(order_id="o1", status="short", lines=(pieces(A_LOT, 26),), short=short),
        OutOfStock(order_id="o1", short=short),
    ]


def test_twenty_five_of_twenty_five_leave_none():
    """T17: exactly what is available is reserved, until it expires."""
    items = place(placed("o1", line(A_LOT, 25)), shelf())
    assert replace(shelf(), reserved=25, low=True) in items
    assert StockReserved(order_id="o1", lines=(pieces(A_LOT, 25),)) in items
    expiry = ExpireReservation(order_id="o1", lines=(pieces(A_LOT, 25),))
    assert items[-1] == Timer("expiry", expiry, after=TTL)


def test_two_lines_of_twenty_end_out_of_stock():
    """T17: quantities are summed per product before anything is compared."""
    items = place(placed("o1", line(A_LOT, 20), line(A_LOT, 20)), shelf())
    assert items[-1] == OutOfStock(order_id="o1", short=(Shortage(sku=A_LOT, requested=40, available=25),))


def test_an_unknown_product_is_short_with_none_available():
    """What is not on any shelf cannot be promised; the line that could be is not promised either."""
    items = place(placed("o1", line("cheese", 1), line("bland", 1)), shelf("cheese"))
    assert items[-1] == OutOfStock(order_id="o1", short=(Shortage(sku="bland", requested=1, available=0),))


def test_an_order_is_reserved_once():
    """A second placing, whatever came between, changes nothing."""
    for status in ("reserved", "short", "released", "expired", "committed"):
        assert place(placed(), shelf("cheese"), reservation=reserved(status=status)) == []


def test_content_under_review_is_reserved_when_the_review_ends():
    """Changes before the reservation are in the reservation."""
    [content] = place(placed("o1", line("cheese", 2), review_until=NOON), shelf("cheese"))
    added = OrderLineAdded(
        order_id="o1",
        sku="bland",
        name="B",
        quantity=3,
        unit_price=line("bland").unit_price,
        total=line().unit_price,
    )
    [content] = domain.change_content(added, content)
    removed = OrderLineRemoved(order_id="o1", sku="cheese", quantity=2, total=line().unit_price)
    [content] = domain.change_content(removed, content)
    items = domain.end_review(OrderReviewEnded(order_id="o1"), {"bland": shelf("bland", 3)}, content, ttl=TTL)
    assert items[0] == replace(content, status="reserved", lines=(pieces("bland", 3),))
    assert StockReserved(order_id="o1", lines=(pieces("bland", 3),)) in items


def test_a_cancelled_order_is_never_reserved_later():
    """Nothing will leave: said with no lines even before the order is known, and remembered."""
    items = domain.stop(ShippingCancelled(order_id="o1", reason="order_cancelled"), {}, None)
    remembered, _, said = items
    assert said == StockReleased(order_id="o1", lines=(), reason="order_cancelled")
    assert place(placed(), shelf("cheese"), reservation=remembered) == []


def test_a_failed_payment_gives_back_once():
    """The first reason releases; what comes later finds nothing to release and says nothing."""
    failed = PaymentFailed(order_id="o1", payment_id="p", reason="card_declined")
    rows = {"cheese": shelf("cheese", 10, reserved=2)}
    after, cancel, row, said = domain.release_unpaid(failed, rows, reserved())
    assert cancel == Cancel("expiry")
    assert (row.reserved, row.on_hand) == (0, 10)
    assert said == StockReleased(order_id="o1", lines=(pieces("cheese", 2),), reason="payment_failed")
    assert domain.release_unpaid(failed, rows, after) == []
    assert domain.stop(ShippingFailed(order_id="o1", shipment_id="s", reason="x"), rows, after) == []


def test_a_command_to_release_what_was_never_reserved_says_so():
    """Releasing twice, or what was never reserved, changes nothing and is answered each time."""
    command = ReleaseStock(order_id="o1", reason="bored")
    nothing = StockReleased(order_id="o1", lines=(), reason="bored")
    first = domain.release_on_command(command, {}, None)
    assert first[-1] == nothing
    assert domain.release_on_command(command, {}, first[0]) == [nothing]
    with pytest.raises(Rejected, match="already_committed"):
        domain.release_on_command(command, {}, reserved(status="committed"))


def test_an_unpaid_reservation_expires_by_a_fact():
    """The timer gives the stock back and says so; after the payment it does nothing."""
    command = ExpireReservation(order_id="o1", lines=(pieces("cheese", 2),))
    rows = {"cheese": shelf("cheese", 10, reserved=2)}
    after, row, _ = domain.expire(command, rows, reserved())
    assert (after.status, row.available) == ("expired", 10)
    succeeded = PaymentSucceeded(order_id="o1", payment_id="p", amount=line().unit_price)
    paid, cancel = domain.note_payment(succeeded, {}, reserved(), ttl=TTL)
    assert cancel == Cancel("expiry")
    assert domain.expire(command, rows, paid) == []


def test_a_payment_that_won_the_race_reserves_again():
    """C7: paid although it expired: reserve again without an expiry; if others were faster, out of stock."""
    event = PaymentSucceeded(order_id="o1", payment_id="p", amount=line().unit_price)
    again = domain.note_payment(event, {"cheese": shelf("cheese", 2)}, reserved(status="expired"), ttl=TTL)
    assert (again[0].status, again[0].paid) == ("reserved", True)
    assert not any(isinstance(item, Timer) for item in again)
    gone = domain.note_payment(event, {"cheese": shelf("cheese", 1)}, reserved(status="expired"), ttl=TTL)
    assert (gone[0].status, gone[0].paid) == ("short", True)
    assert isinstance(gone[-1], OutOfStock)


def test_what_was_shipped_leaves_on_hand_and_reserved():
    """Committed on item-shipped, once; a shipment whose reservation lapsed waits for the renewal."""
    shipped = ItemShipped(order_id="o1", shipment_id="s")
    rows = {"cheese": shelf("cheese", 10, reserved=2)}
    after, cancel, row, said = domain.ship(shipped, rows, reserved())
    assert cancel == Cancel("expiry")
    assert (row.on_hand, row.reserved) == (8, 0)
    assert said == StockCommitted(order_id="o1", lines=(pieces("cheese", 2),))
    assert domain.ship(shipped, rows, after) == []
    for waiting in (None, reserved(status="expired")):
        with pytest.raises(NotYet):
            domain.ship(shipped, rows, waiting)


def test_commands_share_the_decisions():
    """Orchestrated, the same rules hold: once per order, and commit only what is reserved; what is paid does not expire."""
    command = ReserveStock(order_id="o1", lines=(pieces("cheese", 2),), expires_at=NOON)
    items = domain.reserve_on_command(command, {"cheese": shelf("cheese")}, None, ttl=TTL)
    assert items[-1] == Timer("expiry", ExpireReservation(order_id="o1", lines=command.lines), at=NOON)
    assert domain.note_payment(KeepStock(order_id="o1"), {}, reserved(), ttl=TTL) == [reserved(paid=True), Cancel("expiry")]
    with pytest.raises(Rejected, match="nothing_reserved"):
        domain.commit_on_command(CommitStock(order_id="o1"), {}, None)
    air = domain.commit_on_command(CommitStock(order_id="o1"), {}, reserved(status="short", paid=True))
    assert air == [StockCommitted(order_id="o1", lines=())]


def test_a_repeated_command_is_answered_again():
    """Whoever has missed the first answer gets it, and no row changes."""
    command = ReserveStock(order_id="o1", lines=(pieces("cheese", 2),))
    short = (Shortage(sku="cheese", requested=2, available=1),)
    answers = {
        "reserved": StockReserved(order_id="o1", lines=(pieces("cheese", 2),)),
        "short": OutOfStock(order_id="o1", short=short),
        "expired": ReservationExpired(order_id="o1", lines=(pieces("cheese", 2),)),
    }
    for status, answer in answers.items():
        known = reserved(status=status, short=short if status == "short" else ())
        assert domain.reserve_on_command(command, {"cheese": shelf("cheese")}, known, ttl=TTL) == [answer]
    for status in ("released", "committed"):
        with pytest.raises(Rejected, match=f"already_{status}"):
            domain.reserve_on_command(command, {"cheese": shelf("cheese")}, reserved(status=status), ttl=TTL)
    again = domain.commit_on_command(CommitStock(order_id="o1"), {}, reserved(status="committed"))
    assert again == [StockCommitted(order_id="o1", lines=())]


def test_an_adjustment_below_what_is_reserved_is_refused():
    """On hand may fall to what is promised, not below; an unknown product has no stock to adjust."""
    row = shelf("cheese", 10, reserved=4)
    after, *_, said = domain.adjust(AdjustStock(sku="cheese", delta=-6, reason="counted"), row)
    assert after.available == 0
    assert said == StockAdjusted(sku="cheese", delta=-6, on_hand=4, reason="counted")
    with pytest.raises(Rejected, match="below_reserved"):
        domain.adjust(AdjustStock(sku="cheese", delta=-7, reason="counted"), row)
    with pytest.raises(Rejected, match="unknown_product"):
        domain.adjust(AdjustStock(sku="none", delta=1, reason="counted"), None)


@pytest.mark.parametrize("quantity", [-1, 0, 1_000_000_001, 10**20])
def test_quantities_that_are_none_are_refused(quantity):
    """What no shelf holds, and what is no piece: a reservation of -1 would promise a piece twice."""
    row = shelf("cheese", 10, reserved=4)
    for command in (ReceiveStock(sku="cheese", quantity=quantity), AdjustStock(sku="cheese", delta=quantity - 10**10, reason="counted")):
        with pytest.raises(Rejected, match="invalid_quantity"):
            domain.adjust(command, row)
    command = ReserveStock(order_id="o1", lines=(pieces("bland", 1), pieces("cheese", quantity)))
    with pytest.raises(Rejected, match="invalid_quantity"):
        domain.reserve_on_command(command, {"cheese": row, "bland": shelf("bland", 10)}, None, ttl=TTL)
    assert domain.adjust(ReceiveStock(sku="cheese", quantity=1_000_000_000), row)[0].on_hand == 1_000_000_010


def test_low_and_replenished_do_not_flap():
    """Low is said at a tenth, replenished at twice that; in between nothing is said again."""
    row = shelf("cheese", 100)
    row, low, _ = domain.adjust(AdjustStock(sku="cheese", delta=-90, reason="sold"), row)
    assert low == StockLow(sku="cheese", available=10, threshold=10)
    row, _ = domain.adjust(AdjustStock(sku="cheese", delta=-1, reason="sold"), row)
    row, _ = domain.adjust(ReceiveStock(sku="cheese", quantity=9), row)
    row, replenished, _ = domain.adjust(ReceiveStock(sku="cheese", quantity=2), row)
    assert replenished == StockReplenished(sku="cheese", available=20)


def test_the_shelves_open_once_with_the_workshops_stock():
    """Seed 003: 100 bland, 50 cheese, 25 with a lot of cheese; a restart does not fill up again."""
    assert [OPENING_STOCK[sku] for sku in ("bland", "cheese", A_LOT)] == [100, 50, 25]
    row, said = domain.open_stock(OpenStock(sku="bland", quantity=100), None)
    assert (row.initial, row.available, said.delta) == (100, 100, 100)
    assert domain.open_stock(OpenStock(sku="bland", quantity=100), row) == []
