"""Stock under thousands of interleaved commands: nothing is promised twice and nothing is lost."""

from __future__ import annotations

import random
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from millrace import Command, Rejected, Timer
from parcomolo.contracts.inventory import (
    AdjustStock,
    CommitStock,
    OutOfStock,
    ReceiveStock,
    ReleaseStock,
    ReserveStock,
    StockAdjusted,
    StockCommitted,
    StockReserved,
)
from parcomolo.contracts.lines import StockLine
from parcomolo.inventory import domain
from parcomolo.inventory.domain import Reservation
from parcomolo.inventory.messages import ExpireReservation, OpenStock
from parcomolo.inventory.stock import Stock

SKUS = ("bland", "cheese", "a-lot-of-cheese")
TTL = timedelta(minutes=15)
COMMANDS = 2_000


class Shelves:
    """Inventory's rows, and everything it said; expiries wait in `open`."""

    def __init__(self) -> None:
        self.stock: dict[str, Stock | None] = dict.fromkeys(SKUS)
        self.reservations: dict[str, Reservation] = {}
        self.said: list[object] = []
        self.open: list[Command] = []

    def tell(self, command: Command) -> None:
        """Let inventory handle a command, and keep what comes of it."""
        known = self.reservations.get(getattr(command, "order_id", ""))
        try:
            items = self._decide(command, known)
        except Rejected:
            return
        for item in items:
            match item:
                case Stock():
                    self.stock[item.sku] = item
                case Reservation():
                    self.reservations[item.order_id] = item
                case Timer():
                    self.open.append(item.message)
                case _:
                    self.said.append(item)

    def _decide(self, command: Command, known: Reservation | None) -> list:
        match command:
            case OpenStock():
                return domain.open_stock(command, self.stock[command.sku])
            case AdjustStock() | ReceiveStock():
                return domain.adjust(command, self.stock[command.sku])
            case ReserveStock():
                return domain.reserve_on_command(command, self.stock, known, ttl=TTL)
            case ReleaseStock():
                return domain.release_on_command(command, self.stock, known)
            case CommitStock():
                return domain.commit_on_command(command, self.stock, known)
            case _:
                assert isinstance(command, ExpireReservation)
                return domain.expire(command, self.stock, known)

    def check(self) -> None:
        """Compare the rows with what was said and with what is reserved."""
        for sku, row in self.stock.items():
            assert row is not None
            assert row.available >= 0
            held = [r for r in self.reservations.values() if r.status == "reserved"]
            assert row.reserved == sum(_of(sku, reservation.lines) for reservation in held)
            brought = sum(fact.delta for fact in self.said if isinstance(fact, StockAdjusted) and fact.sku == sku)
            taken = sum(_of(sku, fact.lines) for fact in self.said if isinstance(fact, StockCommitted))
            assert row.on_hand == brought - taken


def _of(sku: str, lines: tuple[StockLine, ...]) -> int:
    return sum(line.quantity for line in lines if line.sku == sku)


def _any_command(chance: random.Random) -> Command:
    sku, order_id = chance.choice(SKUS), f"o{chance.randrange(COMMANDS // 8)}"
    kind = chance.randrange(10)
    if kind < 5:
        lines = tuple(StockLine(sku=chance.choice(SKUS), quantity=chance.randint(1, 6)) for _ in range(chance.randint(1, 3)))
        return ReserveStock(order_id=order_id, lines=lines)
    if kind < 7:
        return ReleaseStock(order_id=order_id, reason="chance")
    if kind < 8:
        return CommitStock(order_id=order_id)
    if kind < 9:
        return AdjustStock(sku=sku, delta=chance.randint(-10, 10), reason="counted")
    return ReceiveStock(sku=sku, quantity=chance.randint(1, 10))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), opening=st.integers(0, 60))
def test_available_is_never_negative_under_thousands_of_interleaved_commands(seed, opening):
    """In any order of commands and expiries: on hand is what came less what left."""
    chance, shelves = random.Random(seed), Shelves()
    for sku in SKUS:
        shelves.tell(OpenStock(sku=sku, quantity=opening))
    for number in range(COMMANDS):
        if shelves.open and chance.random() < 0.4:
            shelves.tell(shelves.open.pop(chance.randrange(len(shelves.open))))
        else:
            shelves.tell(_any_command(chance))
        if number % 100 == 0:
            shelves.check()
    shelves.check()
    answers = {(fact.order_id, type(fact)) for fact in shelves.said if isinstance(fact, StockReserved | OutOfStock)}
    assert len(answers) == len({order_id for order_id, _ in answers})
