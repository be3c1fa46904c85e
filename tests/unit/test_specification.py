"""Given, when, then: the specifications that users write say what happened, and fail readably."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from millrace import Cancel, Command, ConfigurationError, Context, Delete, Event, NotYet, Rejected, State, Timer, Transaction, View
from millrace.testing import given
from millrace.testing.specification import START


class Place(Command, topic="orders.commands", key="order_id"):
    """Place an order."""

    order_id: str
    amount: int = 0


class Withdraw(Command, topic="orders.commands", key="order_id"):
    """Withdraw it."""

    order_id: str


class Expire(Command, key="order_id"):
    """It was not paid in time."""

    order_id: str


class Placed(Event, topic="orders", key="order_id"):
    """An order was placed."""

    order_id: str
    amount: int = 0


class Expired(Event, topic="orders", key="order_id"):
    """An order expired."""

    order_id: str


class Order(msgspec.Struct, frozen=True):
    """An order."""

    amount: int
    open: bool = True


class Stock(State, key="sku"):
    """What is there."""

    sku: str
    on_hand: int = 0


class Status(View, key="order_id"):
    """What customers see."""

    order_id: str
    state: str


def decide(command: Place | Withdraw | Expire, order: Order | None, context: Context) -> Any:
    """Place once, expire what is open."""
    match command:
        case Place() if order is not None:
            raise Rejected("placed_before", amount=order.amount)
        case Place():
            return [
                Placed(order_id=command.order_id, amount=command.amount),
                Timer("expiry", Expire(order_id=command.order_id), after=timedelta(minutes=1)),
            ]
        case Withdraw():
            return Cancel("expiry")
        case Expire():
            return Expired(order_id=command.order_id) if order is not None and order.open else None


def evolve(order: Order | None, event: Placed | Expired) -> Order:
    """Fold."""
    if isinstance(event, Placed):
        return Order(event.amount)
    return Order(order.amount if order else 0, open=False)


def take(command: Place, stock: Stock | None, others: dict[str, Stock | None], context: Context) -> Any:
    """Take one, and one of each other."""
    if stock is None:
        return
    if stock.on_hand == 0:
        yield Delete(stock)
        return
    yield Stock(sku=stock.sku, on_hand=stock.on_hand - 1)
    if others["unknown"] is None:
        yield Placed(order_id=context.key)


def status(view: Status | None, event: Placed | Expired) -> Any:
    """Show it."""
    if isinstance(event, Placed):
        return Status(order_id=event.order_id, state="placed")
    if view is None:
        raise NotYet("for the order")
    return Delete(view)


PLACED = Placed(order_id="1", amount=5)
EXPIRY = Timer("expiry", Expire(order_id="1"), at=START + timedelta(minutes=1))


def test_deciders() -> None:
    """Events, refusals with their details, silence, cancellations and the state afterwards."""
    given(decide, evolve).when(Place(order_id="1", amount=5)).then(PLACED, EXPIRY).state(Order(5))
    given(decide, evolve).events(PLACED).when(Place(order_id="1")).rejected("placed_before", amount=5).rejected("placed_before")
    given(decide, evolve).when(Expire(order_id="1")).nothing()
    given(decide, evolve).events(PLACED).when(Withdraw(order_id="1")).then(Cancel("expiry"))


def test_timers_are_compared_by_when_they_are_due() -> None:
    """`after` and `at` that mean one moment are one timer; order among timers does not matter."""
    later = START + timedelta(hours=3)
    due = Timer("expiry", Expire(order_id="1"), at=later + timedelta(minutes=1))
    given(decide, evolve).when(Place(order_id="1", amount=5), now=later).then(due, PLACED)


def test_timers_fire() -> None:
    """What was decided is folded before the timer's message comes, at the moment it is due."""
    seen: list[Context] = []

    def noting(command: Place | Withdraw | Expire, order: Order | None, context: Context) -> Any:
        seen.append(context)
        return decide(command, order, context)

    given(noting, evolve).when(Place(order_id="1")).timer("expiry").fires().then(Expired(order_id="1")).state(Order(0, open=False))
    assert [context.now for context in seen] == [START, START + timedelta(minutes=1)]
    assert [context.key for context in seen] == ["1", "1"]


def test_handlers() -> None:
    """Rows come by the annotation of their parameter; a row that was not given is None."""
    given(take).states(Stock(sku="a", on_hand=2)).when(Place(order_id="1")).then(Placed(order_id="1"), Stock(sku="a", on_hand=1))
    given(take).when(Place(order_id="1")).nothing()
    given(take).states(Stock(sku="a")).when(Place(order_id="1")).then(Delete(Stock(sku="a")))


def take_all(command: Place, stock: Stock | None, others: dict[str, Stock | None], spare: Stock | None) -> Any:
    """Say what was handed in."""
    return [stock or Stock(sku="none"), Stock(sku="asked", on_hand=len(others)), *([spare] if spare else [])]


def test_rows_named_by_a_row() -> None:
    """Told the handler's selectors, exactly the rows that they name are handed in; an absent row names none."""
    told = {
        "others": Stock.of("stock", lambda stock: ["x"] * stock.on_hand + ["y"]),
        "spare": Stock.of("stock", "sku"),
        "stock": Stock.by(lambda _: "a"),
    }
    stock, unasked = Stock(sku="a", on_hand=2), Stock(sku="b")
    given(take_all, **told).states(stock, unasked).when(Place(order_id="1")).then(stock, Stock(sku="asked", on_hand=2), stock)
    given(take_all, **told).states(unasked).when(Place(order_id="1")).then(Stock(sku="none"), Stock(sku="asked"))
    with pytest.raises(ConfigurationError, match="must be the same"):
        given(take_all, stock=told["stock"])
    for function in ((status,), (decide, evolve)):
        with pytest.raises(ConfigurationError, match="rows are for handlers"):
            given(*function, **told)  # type: ignore[call-overload]


def test_views() -> None:
    """Documents, deletions and waiting."""
    given(status).view(None).when(PLACED).then(Status(order_id="1", state="placed"))
    given(status).view(Status(order_id="1", state="placed")).when(Expired(order_id="1")).then(Delete(Status(order_id="1", state="placed")))
    given(status).when(Expired(order_id="1")).not_yet().not_yet("for the order")


def test_failures_are_readable() -> None:
    """A failure shows what was given, expected and got, and where they differ."""
    with pytest.raises(AssertionError) as failure:
        given(decide, evolve).events(PLACED).when(Expire(order_id="1")).then(Placed(order_id="1"))
    assert str(failure.value).splitlines()[:8] == [
        "given",
        "  Placed(order_id='1', amount=5)",
        "when",
        "  Expire(order_id='1') at 2026-01-01T00:00:00+00:00",
        "expected",
        "  Placed(order_id='1')",
        "got",
        "  Expired(order_id='1')",
    ]
    assert "- Placed(order_id='1')" in str(failure.value)


@pytest.mark.parametrize(
    "wrong, got",
    [
        (lambda: given(decide, evolve).when(Expire(order_id="1")).rejected("late"), "nothing"),
        (lambda: given(decide, evolve).events(PLACED).when(Place(order_id="1")).nothing(), "rejected: placed_before (amount=5)"),
        (lambda: given(decide, evolve).events(PLACED).when(Place(order_id="1")).rejected("placed_before", amount=6), "amount=5"),
        (lambda: given(decide, evolve).when(Place(order_id="1")).timer("other"), "Timer('expiry'"),
        (lambda: given(decide, evolve).when(Place(order_id="1")).state(Order(6)), "Order(amount=0)"),
        (lambda: given(status).when(PLACED).not_yet(), "Status(order_id='1', state='placed')"),
        (lambda: given(status).when(Expired(order_id="1")).not_yet("something else"), "not yet: for the order"),
        (lambda: given(status).when(Expired(order_id="1")).nothing(), "not yet: for the order"),
        (lambda: given(take).when(Place(order_id="1")).raises(KeyError), "nothing"),
    ],
)
def test_wrong_expectations_fail(wrong: Any, got: str) -> None:
    """Whatever is expected and did not happen fails, and says what did."""
    with pytest.raises(AssertionError) as failure:
        wrong()
    assert got in str(failure.value)


def test_functions_that_fail_are_seen() -> None:
    """What a function raises fails the expectation with its message, or is what was expected."""

    def broken(command: Place) -> None:
        raise KeyError("sku")

    given(broken).when(Place(order_id="1")).raises(KeyError)
    with pytest.raises(AssertionError, match="KeyError: 'sku'"):
        given(broken).when(Place(order_id="1")).nothing()


def test_mistakes_are_named() -> None:
    """What cannot be specified says what to write instead."""

    async def plain(event: Placed, tx: Transaction) -> None:
        """Touch the outside."""

    def nothing_known(thing: int) -> None:
        """Take no message."""

    with pytest.raises(ConfigurationError, match="async"):
        given(plain)
    with pytest.raises(ConfigurationError, match="annotate its first parameter"):
        given(nothing_known)
    with pytest.raises(ConfigurationError, match="takes one Stock"):
        given(take).states(Stock(sku="a"), Stock(sku="b")).when(Place(order_id="1"))
    with pytest.raises(ConfigurationError, match=r"call \.when"):
        given(take).nothing()
