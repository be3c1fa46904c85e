"""The service inventory: which message reaches which decision, with which rows.

Choreography: it reacts to the facts of orders, payments and shipping. The commands on `inventory.commands` share the
same decisions. `MoveStock` is the second half of a decision that needs the rows of the order's products.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from millrace import Application, IdempotencyKey, Service
from parcomolo.contracts import inventory as says
from parcomolo.contracts.inventory import (
    ReserveStock,
    StockCommandRejected,
)
from parcomolo.contracts.lines import Line, StockLine
from parcomolo.contracts.orders import OrderPlaced
from parcomolo.inventory import domain
from parcomolo.inventory.domain import Items, Reservation
from parcomolo.inventory.messages import MoveStock, OpenStock
from parcomolo.inventory.opening import OPENING_STOCK
from parcomolo.inventory.stock import Stock, StockRows
from parcomolo.settings import Settings

FACTS = (
    says.StockReserved,
    says.OutOfStock,
    says.StockReleased,
    says.StockCommitted,
    says.ReservationExpired,
    says.StockAdjusted,
    says.StockLow,
    says.StockReplenished,
)


class _WithLines(Protocol):
    @property
    def lines(self) -> Iterable[Line | StockLine]: ...


def _skus(message: _WithLines) -> list[str]:
    return sorted({line.sku for line in message.lines})


def build(settings: Settings) -> Service:
    """Return the service, wired to react to facts and commands."""
    inventory = Service("inventory", says=(*FACTS, MoveStock), rejection=StockCommandRejected)
    _reserve(inventory, settings)
    _follow(inventory)
    _keep_shelves(inventory)
    return inventory


def _reserve(inventory: Service, settings: Settings) -> None:
    reservation, stock, ttl = Reservation.by("order_id"), Stock.by(_skus), settings.reservation_ttl

    @inventory.handler(stock=stock, reservation=reservation)
    def place(event: OrderPlaced, stock: StockRows, reservation: Reservation | None) -> Items:
        return domain.place(event, stock, reservation, ttl=ttl)

    @inventory.handler(stock=stock, reservation=reservation)
    def reserve(command: ReserveStock, stock: StockRows, reservation: Reservation | None) -> Items:
        return domain.reserve_on_command(command, stock, reservation, ttl=ttl)

    @inventory.handler(stock=stock, reservation=reservation)
    def move(command: MoveStock, stock: StockRows, reservation: Reservation | None) -> Items:
        return domain.move(command, stock, reservation, ttl=ttl)

    inventory.handler(stock=stock, reservation=reservation)(domain.expire)


def _follow(inventory: Service) -> None:
    by_order = inventory.handler(reservation=Reservation.by("order_id"))
    for decision in (
        domain.change_content,
        domain.end_review,
        domain.release_unpaid,
        domain.stop,
        domain.ship,
        domain.release_on_command,
        domain.commit_on_command,
    ):
        by_order(decision)
    inventory.handler(reservation=Reservation.by("order_id"), patient=True)(domain.note_payment)


def _keep_shelves(inventory: Service) -> None:
    for decision in (domain.open_stock, domain.adjust):
        inventory.handler(stock=Stock.by("sku"))(decision)

    @inventory.on_start
    async def fill_shelves(app: Application) -> None:
        for sku, quantity in OPENING_STOCK.items():
            key = IdempotencyKey("opening-stock", sku, "v1")
            await app.execute(OpenStock(sku=sku, quantity=quantity), idempotency=key)
