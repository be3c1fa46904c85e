"""The service inventory: which message reaches which decision, with which rows.

In choreography it reacts to the facts of orders, payments and shipping, in orchestration to commands alone; both share the same decisions,
and commands are obeyed in both. Most messages that move stock name an order and not its products: the order's reservation names their rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from millrace import Application, IdempotencyKey, Service
from parcomolo.contracts import inventory as says
from parcomolo.contracts.inventory import (
    KeepStock,
    ReserveStock,
    StockCommandRejected,
)
from parcomolo.contracts.lines import Line, StockLine
from parcomolo.contracts.orders import OrderPlaced, OrderReviewEnded
from parcomolo.contracts.payments import PaymentSucceeded
from parcomolo.inventory import domain
from parcomolo.inventory.domain import Items, Reservation
from parcomolo.inventory.messages import OpenStock
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


def _skus_to_renew(reservation: Reservation) -> list[str]:
    """Return the products of a reservation that a payment renews; it touches no stock of any other."""
    return _skus(reservation) if reservation.status == "expired" else []


def build(settings: Settings, *, orchestrated: bool) -> Service:
    """Return the service, wired to obey commands, and to follow facts unless somebody orchestrates."""
    inventory = Service("inventory", says=FACTS, rejection=StockCommandRejected)
    _obey(inventory, settings)
    if not orchestrated:
        _follow(inventory, settings)
    _keep_shelves(inventory)
    return inventory


def _obey(inventory: Service, settings: Settings) -> None:
    reservation, stock, ttl = Reservation.by("order_id"), Stock.by(_skus), settings.reservation_ttl

    @inventory.handler(stock=stock, reservation=reservation)
    def reserve(command: ReserveStock, stock: StockRows, reservation: Reservation | None) -> Items:
        return domain.reserve_on_command(command, stock, reservation, ttl=ttl)

    @inventory.handler(stock=Stock.of("reservation", _skus_to_renew), reservation=reservation, patient=True)
    def keep(command: KeepStock, stock: StockRows, reservation: Reservation | None) -> Items:
        return domain.note_payment(command, stock, reservation, ttl=ttl)

    inventory.handler(stock=stock, reservation=reservation)(domain.expire)
    by_order = inventory.handler(stock=Stock.of("reservation", _skus), reservation=reservation)
    for decision in (domain.release_on_command, domain.commit_on_command):
        by_order(decision)


def _follow(inventory: Service, settings: Settings) -> None:
    reservation, ttl = Reservation.by("order_id"), settings.reservation_ttl
    stock = Stock.of("reservation", _skus)

    @inventory.handler(stock=Stock.by(_skus), reservation=reservation)
    def place(event: OrderPlaced, stock: StockRows, reservation: Reservation | None) -> Items:
        return domain.place(event, stock, reservation, ttl=ttl)

    inventory.handler(reservation=reservation)(domain.change_content)
    by_order = inventory.handler(stock=stock, reservation=reservation)
    for decision in (domain.release_unpaid, domain.stop, domain.ship):
        by_order(decision)

    @inventory.handler(stock=stock, reservation=reservation)
    def end_review(event: OrderReviewEnded, stock: StockRows, reservation: Reservation | None) -> Items:
        return domain.end_review(event, stock, reservation, ttl=ttl)

    @inventory.handler(stock=Stock.of("reservation", _skus_to_renew), reservation=reservation, patient=True)
    def note_payment(event: PaymentSucceeded, stock: StockRows, reservation: Reservation | None) -> Items:
        return domain.note_payment(event, stock, reservation, ttl=ttl)


def _keep_shelves(inventory: Service) -> None:
    for decision in (domain.open_stock, domain.adjust):
        inventory.handler(stock=Stock.by("sku"))(decision)

    @inventory.on_start
    async def fill_shelves(app: Application) -> None:
        for sku, quantity in OPENING_STOCK.items():
            key = IdempotencyKey("opening-stock", sku, "v1")
            await app.execute(OpenStock(sku=sku, quantity=quantity), idempotency=key)
