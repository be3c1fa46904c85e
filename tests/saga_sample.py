"""A saga for tests: an order that reserves, pays, books and waits for its parcel, with everything a table can say."""

from datetime import timedelta

import msgspec

from millrace import Command, Event, Saga, SagaEnd, SagaRetry


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


def order_saga(*, version: int = 1) -> Saga:
    """The whole table."""
    saga = Saga("order", key="order_id", starts=Placed, begin=begin, version=version, keys={StockRefused: "subject"})
    rejected = (StockRefused,)
    saga.step("reserve", send=reserve, done=Reserved, failed=(OutOfStock, *rejected), undo=release, undone=Released, learn=learn_lot)
    saga.step("pay", send=charge, done=Paid, failed=Declined, undo=refund, undone=Refunded, undo_failed=RefundFailed)
    saga.step("book", send=book, done=Booked, failed=BookingFailed, undo=unbook, undone=Unbooked, kept=Shipped)
    saga.step("ship", done=Shipped, timeout=None, pivot=True)
    saga.step("commit", send=commit, done=Committed, failed=rejected, retry=SagaRetry(attempts=3, first=timedelta(seconds=5)))
    saga.cancel(CancelAsked, refused=refuse)
    saga.ended(completed=completed, undone=undone)
    return saga
