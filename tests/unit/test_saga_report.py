"""What is shown of a saga's steps means the same wherever the saga stands."""

from __future__ import annotations

from datetime import timedelta

from millrace import Message, Saga
from millrace.saga_course import Course, Occasion, advance, advance_deadline
from millrace.saga_instance import SagaInstance
from millrace.saga_pattern import SagaPattern
from millrace.saga_progress import next_deadline
from millrace.saga_report import SagaReport, report_of
from millrace.saga_table import SagaRetry
from millrace.testing.conformance.saga_sample import (
    Booked,
    BookingFailed,
    Paid,
    Placed,
    Refunded,
    RefundFailed,
    Released,
    Reserved,
    begin,
    book,
    charge,
    refund,
    release,
    reserve,
)

MICROS = 1_000_000
Places = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def table() -> Saga:
    """Goods, a note that nobody has to undo, money, a parcel."""
    saga = Saga("order", key="order_id", starts=Placed, begin=begin)
    saga.step("reserve", send=reserve, done=Reserved, undo=release, undone=Released)
    saga.step("note", send=lambda _: (), nothing_to_undo="nobody minds")
    again = SagaRetry(attempts=2, first=timedelta(seconds=1))
    saga.step("pay", send=charge, done=Paid, undo=refund, undone=Refunded, undo_failed=RefundFailed, undo_retry=again)
    saga.step("book", send=book, done=Booked, failed=BookingFailed, nothing_to_undo="nothing was booked")
    return saga


class Story:
    """One instance that is moved on."""

    def __init__(self) -> None:
        self.pattern = SagaPattern(table())
        self.saga = self.pattern.saga
        self.instance: SagaInstance | None = None
        self.now = 0

    def hear(self, *messages: Message) -> Places:
        """Take messages; a deadline that follows from one comes before the next."""
        for message in messages:
            self.now += MICROS
            self.instance = advance(self.saga, self.instance, message, occasion=Occasion(self.now, f"m{self.now}")).instance
        return self.places()

    def wait(self) -> None:
        """Let the next deadline come."""
        assert self.instance is not None
        self.now = next_deadline(self.instance.steps.values())
        self.instance = advance_deadline(self.saga, self.instance, Occasion(self.now, passed=self.now)).instance

    def report(self) -> SagaReport:
        """Return what is shown."""
        assert self.instance is not None
        return report_of("desk", self.pattern, self.instance)

    def places(self) -> Places:
        """Return what is done, current and remaining."""
        report = self.report()
        return report.done, report.current, report.remaining


def stuck() -> Story:
    """Return one whose refund was refused until nobody tries any more."""
    story = Story()
    story.hear(Placed(order_id="o"), Reserved(order_id="o"), Paid(order_id="o"), BookingFailed(order_id="o"), RefundFailed(order_id="o"))
    story.wait()
    story.hear(RefundFailed(order_id="o"))
    assert story.report().summary.status == "stuck"
    return story


def test_done_is_what_stays_forward_back_stuck_and_ended() -> None:
    """A step whose effect stays is done all the way; one that is to be undone remains, and is over afterwards."""
    story = Story()
    assert story.hear(Placed(order_id="o"), Reserved(order_id="o"), Paid(order_id="o")) == (("reserve", "note", "pay"), ("book",), ())
    assert story.hear(BookingFailed(order_id="o")) == (("note",), ("pay",), ("reserve",))
    story = stuck()
    assert story.places() == (("note",), ("pay",), ("reserve",))
    assert story.hear(Refunded(order_id="o")) == (("note",), ("reserve",), ())
    assert story.hear(Released(order_id="o")) == (("note",), (), ())
    assert [step.place for step in story.report().steps] == ["over", "done", "over", "over"]
    assert story.report().summary.status == "undone"


def test_what_nobody_undoes_any_more_is_done() -> None:
    """Taken over while stuck, the machine undoes nothing more: what was still to be undone stays."""
    story = stuck()
    assert story.instance is not None
    course = Course(story.saga, story.instance, Occasion(story.now), id="o")
    course.take_over("a person sees to it", "ann")
    story.instance = course.end().instance
    assert story.places() == (("reserve", "note"), (), ())


def test_what_was_passed_is_not_to_be_undone() -> None:
    """There was nothing to send, so nothing remains to be undone of it on the way back."""
    story = Story()
    saga = Saga("order", key="order_id", starts=Placed, begin=begin)
    saga.step("reserve", send=reserve, done=Reserved, undo=release, undone=Released, needed=lambda _: False)
    saga.step("book", send=book, done=Booked, failed=BookingFailed, nothing_to_undo="nothing was booked")
    saga.step("pay", send=charge, done=Paid, undo=refund, undone=Refunded)
    story.pattern = SagaPattern(saga)
    story.saga = saga
    story.hear(Placed(order_id="o"), Booked(order_id="o"))
    for _ in range(3):
        story.wait()
    assert story.report().summary.status == "compensating"
    assert story.places() == (("reserve", "book"), ("pay",), ())
