"""A saga for checks and tests: an order that reserves, pays, books and waits for its parcel, with everything a table can say.

    desk      takes orders and cancels, keeps the saga
    stock     Reserve, Release, Commit       pay    Charge, Refund       ship    Book, Unbook

Each receiver keeps what it has done for an order in a row and answers every command, repeated or not. What is to go wrong is put on a
`Receivers`.

Neighbours: `sagas` runs it on engines; unit tests take the table alone.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Union, cast

import msgspec

from millrace.message import Command, Event, declaration
from millrace.saga import Saga
from millrace.saga_instance import SagaEnd
from millrace.saga_table import SagaRetry
from millrace.service import Service
from millrace.state import State


class Place(Command, topic="orders.commands", key="order_id"):
    """Order something."""

    order_id: str
    amount: int = 10


class Cancel(Command, topic="orders.commands", key="order_id"):
    """Ask for a cancel."""

    order_id: str


class LetGo(Command, topic="ship.commands", key="order_id"):
    """Let the parcel leave."""

    order_id: str


class Placed(Event, topic="orders", key="order_id"):
    """Begins it."""

    order_id: str
    amount: int = 10


class CancelAsked(Event, topic="orders", key="order_id"):
    """Cancels it."""

    order_id: str
    reason: str = "changed_my_mind"


class CancelRefused(Event, topic="orders", key="order_id"):
    """It was too late."""

    order_id: str


class Finished(Event, topic="orders", key="order_id"):
    """Said at the end."""

    order_id: str
    how: str
    detail: str = ""


class Reserve(Command, topic="stock.commands", key="order_id"):
    """Step reserve."""

    order_id: str


class Release(Command, topic="stock.commands", key="order_id"):
    """Its undo."""

    order_id: str
    reason: str


class Reserved(Event, topic="stock", key="order_id"):
    """Reserve succeeded."""

    order_id: str
    lot: int = 0


class OutOfStock(Event, topic="stock", key="order_id"):
    """Reserve failed."""

    order_id: str


class Released(Event, topic="stock", key="order_id"):
    """Release was done."""

    order_id: str


class StockRefused(Event, topic="stock", key="subject"):
    """A command to the stock was rejected."""

    subject: str
    command: str
    reason: str


class Charge(Command, topic="pay.commands", key="order_id"):
    """Step pay."""

    order_id: str
    amount: int
    lot: int = 0


class Refund(Command, topic="pay.commands", key="order_id"):
    """Its undo."""

    order_id: str
    reason: str


class Paid(Event, topic="pay", key="order_id"):
    """Charge succeeded."""

    order_id: str


class Declined(Event, topic="pay", key="order_id"):
    """Charge failed."""

    order_id: str
    reason: str = "card_declined"


class Refunded(Event, topic="pay", key="order_id"):
    """Refund was done."""

    order_id: str


class RefundFailed(Event, topic="pay", key="order_id"):
    """Refund was refused."""

    order_id: str


class Book(Command, topic="ship.commands", key="order_id"):
    """Step book."""

    order_id: str


class Unbook(Command, topic="ship.commands", key="order_id"):
    """Its undo."""

    order_id: str


class Booked(Event, topic="ship", key="order_id"):
    """Book succeeded."""

    order_id: str


class BookingFailed(Event, topic="ship", key="order_id"):
    """Book failed."""

    order_id: str


class Unbooked(Event, topic="ship", key="order_id"):
    """Unbook was done."""

    order_id: str


class Shipped(Event, topic="ship", key="order_id"):
    """The parcel left."""

    order_id: str


class Commit(Command, topic="stock.commands", key="order_id"):
    """Step commit, behind the pivot."""

    order_id: str


class Committed(Event, topic="stock", key="order_id"):
    """Commit succeeded."""

    order_id: str


class Case(msgspec.Struct, frozen=True):
    """What the saga knows."""

    order_id: str
    amount: int
    lot: int = 0


def begin(event: Placed) -> Case:
    """The case of an order."""
    return Case(event.order_id, event.amount)


def reserve(case: Case) -> Reserve:
    """Ask for the goods."""
    return Reserve(order_id=case.order_id)


def release(case: Case, reason: str) -> Release:
    """Give them back."""
    return Release(order_id=case.order_id, reason=reason)


def learn_lot(case: Case, event: Reserved) -> Case:
    """Keep what was reserved."""
    return msgspec.structs.replace(case, lot=event.lot)


def charge(case: Case) -> Charge:
    """Ask for the money."""
    return Charge(order_id=case.order_id, amount=case.amount, lot=case.lot)


def refund(case: Case, reason: str) -> Refund:
    """Give it back."""
    return Refund(order_id=case.order_id, reason=reason)


def book(case: Case) -> Book:
    """Ask for a parcel."""
    return Book(order_id=case.order_id)


def unbook(case: Case, reason: str) -> Unbook:
    """Call it off."""
    return Unbook(order_id=case.order_id)


def commit(case: Case) -> Commit:
    """Book the goods out."""
    return Commit(order_id=case.order_id)


def refuse(case: Case) -> CancelRefused:
    """It is too late."""
    return CancelRefused(order_id=case.order_id)


def completed(case: Case) -> Finished:
    """It went well."""
    return Finished(order_id=case.order_id, how="completed")


def undone(case: Case, end: SagaEnd) -> Finished:
    """It did not."""
    return Finished(order_id=case.order_id, how=f"{end.reason} {end.step}".strip(), detail=end.detail)


def taken_over(case: Case, reason: str) -> Finished:
    """A person sees to it."""
    return Finished(order_id=case.order_id, how="taken over", detail=reason)


def order_saga(*, version: int = 1, migrate: Callable[[int, Any], Case] | None = None, beside: bool = False) -> Saga:
    """Return the whole table; from version 2 on it ends with the parcel. With `beside`, goods and money are asked for at once."""
    more: dict[str, Any] = {"migrate": migrate} if migrate is not None else {}
    saga = Saga("order", key="order_id", starts=Placed, begin=begin, version=version, keys={StockRefused: "subject"}, **more)
    rejected = (StockRefused,)
    saga.step("reserve", send=reserve, done=Reserved, failed=(OutOfStock, *rejected), undo=release, undone=Released, learn=learn_lot)
    saga.step(
        "pay",
        send=charge,
        done=Paid,
        failed=Declined,
        undo=refund,
        undone=Refunded,
        undo_failed=RefundFailed,
        beside="reserve" if beside else "",
    )
    saga.step("book", send=book, done=Booked, failed=BookingFailed, undo=unbook, undone=Unbooked, kept=Shipped)
    saga.step("ship", done=Shipped, timeout=None, pivot=True)
    if version == 1:
        saga.step("commit", send=commit, done=Committed, failed=rejected, retry=SagaRetry(attempts=3, first=timedelta(seconds=5)))
    saga.cancel(CancelAsked, refused=refuse)
    saga.ended(completed=completed, undone=undone, taken_over=taken_over)
    return saga


class Receivers:
    """What receivers do wrong.

    Attributes:
        mute: names of commands that are not answered and do nothing.
        refuse: names of commands that are refused.
    """

    def __init__(self) -> None:
        self.mute: set[str] = set()
        self.refuse: set[str] = set()


class Kept(State, key="order_id"):
    """What a receiver has done for an order, in order, and what holds now."""

    order_id: str
    done: tuple[str, ...] = ()
    state: str = ""


def desk(saga: Saga, *, earlier: tuple[Saga, ...] = ()) -> Service:
    """Return the service that keeps the saga."""
    service = Service("desk", says=[Placed, CancelAsked])

    @service.handler
    def place(command: Place) -> Placed:
        """Take an order."""
        return Placed(order_id=command.order_id, amount=command.amount)

    @service.handler
    def cancel(command: Cancel) -> CancelAsked:
        """Take a cancel."""
        return CancelAsked(order_id=command.order_id)

    service.saga(saga, earlier=earlier)
    return service


ANSWERS: dict[str, dict[Any, tuple[Any, Any, str]]] = {
    "stock": {
        Reserve: (Reserved, OutOfStock, "reserved"),
        Release: (Released, StockRefused, "released"),
        Commit: (Committed, StockRefused, "committed"),
    },
    "pay": {Charge: (Paid, Declined, "paid"), Refund: (Refunded, RefundFailed, "refunded")},
    "ship": {Book: (Booked, BookingFailed, "booked"), Unbook: (Unbooked, Unbooked, "unbooked"), LetGo: (Shipped, Shipped, "shipped")},
}
"""Per receiver: what a command is answered by where it is done and where it is refused, and the state that it leads to."""


def receivers(behaviour: Receivers) -> list[Service]:
    """Return the services that do what the saga asks for."""
    return [_receiver(name, behaviour) for name in ANSWERS]


def _receiver(name: str, behaviour: Receivers) -> Service:
    answers = ANSWERS[name]
    service = Service(name, says=[cls for done, refused, _ in answers.values() for cls in (done, refused)])

    def take(command: Any, kept: Kept | None) -> Any:
        """Do it once, answer it always."""
        cls = cast("type[Command]", type(command))
        word, before = declaration(cls).name, kept or Kept(order_id=command.order_id)
        done, refused, state = answers[cls]
        if word in behaviour.mute:
            return ()
        if before.state == "shipped":
            return Shipped(order_id=command.order_id)
        if word in behaviour.refuse:
            return _refusal(refused, command, word)
        if before.state == state:
            return done(order_id=command.order_id)
        return [msgspec.structs.replace(before, done=(*before.done, state), state=state), done(order_id=command.order_id)]

    take.__annotations__["command"] = Union[tuple(answers)]  # noqa: UP007  # as many as there are
    service.handler(kept=Kept.by("order_id"))(take)
    return service


def _refusal(cls: Any, command: Any, word: str) -> Event:
    return StockRefused(subject=command.order_id, command=word, reason="no") if cls is StockRefused else cls(order_id=command.order_id)
