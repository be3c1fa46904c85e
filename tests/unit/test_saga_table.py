"""What a saga's table may say: mistakes are told when it is declared, and it is drawn as it is executed."""

import re
from datetime import timedelta
from typing import Any

import pytest

from millrace import Command, ConfigurationError, Saga, Service
from millrace.saga import SagaRetry
from millrace.saga_check import check_saga
from millrace.testing.conformance.saga_sample import (
    Booked,
    CancelAsked,
    Case,
    Charge,
    Declined,
    OutOfStock,
    Paid,
    Placed,
    Released,
    Reserved,
    Shipped,
    StockRefused,
    begin,
    book,
    charge,
    completed,
    order_saga,
    refund,
    release,
    reserve,
    taken_over,
    undone,
)

RESERVE: dict[str, Any] = {"send": reserve, "done": Reserved, "failed": OutOfStock, "undo": release, "undone": Released}
PAY: dict[str, Any] = {"send": charge, "done": Paid, "failed": Declined, "undo": refund}


def ending(**functions: Any) -> Saga:
    """A saga of one row that says these at its ends."""
    saga = table(RESERVE)
    saga.ended(**functions)
    return saga


def table(*steps: dict[str, Any], cancel: bool = True) -> Saga:
    """A saga of these rows."""
    saga = Saga("table", key="order_id", starts=Placed, begin=begin)
    for number, cells in enumerate(steps, start=1):
        saga.step(f"s{number}", **cells)
    if cancel:
        saga.cancel(CancelAsked)
    return saga


@pytest.mark.parametrize(
    "saga, told",
    [
        (table(), "it has no steps"),
        (table({"send": reserve, "done": Reserved}), "step 's1' changes something and cannot be undone"),
        (table({**RESERVE, "nothing_to_undo": "because"}), "step 's1' has undo= and says that there is nothing to undo"),
        (table({}), "step 's1' sends nothing and waits for nothing"),
        (table({"send": reserve, "done": Reserved, "undone": Released}), "step 's1' names undone= and has no undo="),
        (table({**RESERVE, "pivot": True}, PAY), "step 's2' has undo= and comes after the pivot"),
        (table({"send": book, "done": Booked, "pivot": True}, {"done": Shipped, "pivot": True}), "steps s1, s2 all are pivots"),
        (table(RESERVE, {**PAY, "done": Reserved}), "Reserved is done= of step 's1' and done= of step 's2'"),
        (table(RESERVE, {**PAY, "undone": Released}), "Released is undone= of step 's1' and undone= of step 's2'"),
        (table({**RESERVE, "undone": Reserved}), "Reserved is done= and also answers the undo of step 's1'"),
        (table({**RESERVE, "done": Placed}), "Placed starts it and answers step 's1'"),
        (table({**RESERVE, "done": CancelAsked}), "CancelAsked cancels it and answers step 's1'"),
        (table({**RESERVE, "retry": SagaRetry(attempts=0)}), "step 's1' has a retry of no attempts"),
        (table(RESERVE, {**PAY, "beside": "s1", "kept": Shipped}), "step 's2' has kept= and runs beside s1"),
        (table(RESERVE, {"send": charge, "done": Paid, "beside": "s1", "pivot": True}), "step 's2' has pivot= and runs beside s1"),
        (table({"send": reserve, "done": Reserved, "given_up": Shipped}), "step 's1' has given_up= and no undo="),
        (table({"send": reserve, "done": Reserved, "interrupt": True}), "step 's1' has interrupt= and no undo="),
        (table({**RESERVE, "timeout": None}, cancel=False), "the undo of step 's1' is never reached"),
        (ending(completed=undone), "ended(completed=...) is called with (case), which undone does not take"),
        (ending(undone=completed), "ended(undone=...) is called with (case, end), which completed does not take"),
        (ending(taken_over=completed), "ended(taken_over=...) is called with (case, reason), which completed does not take"),
    ],
)
def test_table_that_cannot_work(saga: Saga, told: str) -> None:
    """The error names the saga, the step and the message."""
    with pytest.raises(ConfigurationError, match=re.escape(told)) as caught:
        Service("orders").saga(saga)
    assert str(caught.value).startswith("saga 'table': ")


def test_rows_that_cannot_be_added() -> None:
    """A name used twice, a neighbour that is none, a case that nobody names, a key that a message does not have."""
    saga = table(RESERVE)
    with pytest.raises(ConfigurationError, match="two steps named 's1'"):
        saga.step("s1", **PAY)
    with pytest.raises(ConfigurationError, match="is beside 'nobody'"):
        saga.step("s2", beside="nobody", **PAY)
    with pytest.raises(ConfigurationError, match="annotate what `begin` returns"):
        Saga("table", key="order_id", starts=Placed, begin=lambda _event: None)
    with pytest.raises(ConfigurationError, match="saga name 'Table'"):
        Saga("Table", key="order_id", starts=Placed, begin=begin)
    saga.step("s2", done=StockRefused, timeout=None)
    with pytest.raises(ConfigurationError, match="StockRefused has no field 'order_id'"):
        check_saga(saga)


def test_versions_that_do_not_fit() -> None:
    """Each version once, the newest hosts, all of one name."""
    other = Saga("other", key="order_id", starts=Placed, begin=begin)
    other.step("s1", **RESERVE)
    wrong = [((order_saga(),), "versions [1, 1]"), ((order_saga(version=2),), "versions [1, 2]"), ((other,), "no earlier version")]
    for earlier, told in wrong:
        with pytest.raises(ConfigurationError, match=re.escape(told)):
            Service("orders").saga(order_saga(), earlier=earlier)


def test_service_says_and_reads_what_its_saga_does() -> None:
    """Topics are known from annotations of the table's functions and from `says`."""
    service = Service("orders")
    saga = table(RESERVE, {**PAY, "says": [Charge]})
    service.saga(saga)
    assert service.writes() == {"stock.commands", "pay.commands"}
    assert {"orders", "stock", "pay"} <= {cls.__declaration__.topic for cls in service.message_classes()}
    assert [cls.__name__ for cls in service.sagas[0].messages if issubclass(cls, Command)] == ["SagaDue"]
    told, taken = Service("told"), table(RESERVE)
    taken.ended(taken_over=taken_over)
    told.saga(taken)
    assert told.writes() == {"stock.commands", "orders"}


def test_pauses_grow_up_to_a_limit() -> None:
    """An answer is waited for longer each time, a refusal is followed by longer pauses, and both have an end."""
    retry = SagaRetry(first=timedelta(seconds=1), factor=3.0, most=timedelta(seconds=20))
    seconds = [retry.pause(attempt) / 1e6 for attempt in range(1, 6)]
    assert seconds == [1, 3, 9, 20, 20]
    assert [retry.wait(timedelta(seconds=5), attempt) / 1e6 for attempt in (1, 2, 3, 90)] == [5, 15, 20, 20]
    assert retry.wait(timedelta(minutes=1), 7) / 1e6 == 60


def test_diagram_draws_every_way() -> None:
    """Steps, what leads on and back, where a kept answer goes, where it is stuck, and steps beside each other."""
    drawn = order_saga().diagram()
    for line in (
        "[*] --> reserve: placed",
        "reserve --> undone: out-of-stock, stock-refused",
        "pay --> undo_reserve: declined",
        "pay --> undo_pay: no answer / cancel",
        "undo_pay --> stuck: refused or no answer, 5 times",
        "undo_book --> ship: shipped, cancel refused",
        "ship --> undo_book: cancel",
        "commit --> stuck: refused or no answer, 3 times",
        "note right of ship: pivot, no way back from here",
    ):
        assert f"    {line}\n" in drawn
    both = table(RESERVE, {**PAY, "beside": "s1"}, {"send": book, "done": Booked, "nothing_to_undo": "it is free"})
    assert "    state s1_and_s2 {\n        s1\n        --\n        s2\n    }\n" in both.diagram()
    assert "    s3 --> undo_s1_and_s2: no answer / cancel\n" in both.diagram()
    with pytest.raises(ConfigurationError, match="no steps to draw"):
        table().diagram()


def test_nothing_to_send_passes_a_step() -> None:
    """A step whose `send` returns nothing is passed, and `begin` may say that no instance begins."""
    from millrace.testing import given

    def maybe(event: Placed) -> Case | None:
        return Case(event.order_id, event.amount) if event.amount else None

    saga = Saga("maybe", key="order_id", starts=Placed, begin=maybe)
    saga.step("pay", send=lambda case: charge(case) if case.amount > 5 else None, done=Paid, undo=refund, says=[Charge])
    saga.step("book", send=book, done=Booked, pivot=True)
    given(saga).when(Placed(order_id="1", amount=3)).then(book(Case("1", 3))).steps(pay="passed")
    given(saga).when(Placed(order_id="1", amount=0)).nothing().status("not there")
