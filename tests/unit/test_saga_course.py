"""What happens to an instance of a saga: every row of the theory in `millrace.saga_course`, on values."""

import pytest

from millrace import Saga
from millrace.saga import SagaEnd, SagaReason
from millrace.testing import given
from millrace.testing.conformance.saga_sample import (
    Book,
    Booked,
    BookingFailed,
    CancelAsked,
    CancelRefused,
    Case,
    Charge,
    Commit,
    Committed,
    Declined,
    Finished,
    OutOfStock,
    Paid,
    Placed,
    Refund,
    Refunded,
    RefundFailed,
    Release,
    Released,
    Reserve,
    Reserved,
    Shipped,
    StockRefused,
    Unbook,
    Unbooked,
    begin,
    book,
    order_saga,
    refund,
    release,
    reserve,
    unbook,
)

PLACED, CANCEL = Placed(order_id="1"), CancelAsked(order_id="1")
RESERVE, RESERVED, RELEASED = Reserve(order_id="1"), Reserved(order_id="1"), Released(order_id="1")
CHARGE, PAID, REFUNDED, REFUSED = Charge(order_id="1", amount=10), Paid(order_id="1"), Refunded(order_id="1"), RefundFailed(order_id="1")
BOOK, BOOKED, UNBOOK, UNBOOKED = Book(order_id="1"), Booked(order_id="1"), Unbook(order_id="1"), Unbooked(order_id="1")
SHIPPED, COMMIT, COMMITTED = Shipped(order_id="1"), Commit(order_id="1"), Committed(order_id="1")
TOO_LATE, COMPLETED = CancelRefused(order_id="1"), Finished(order_id="1", how="completed")


def release_for(reason: str) -> Release:
    """The undo of reserve."""
    return Release(order_id="1", reason=reason)


def refund_for(reason: str) -> Refund:
    """The undo of pay."""
    return Refund(order_id="1", reason=reason)


def ended(how: str, detail: str = "") -> Finished:
    """What is said at the end."""
    return Finished(order_id="1", how=how, detail=detail)


def started() -> object:
    """An instance whose first command is out."""
    return given(order_saga()).events(PLACED)


def test_forward_to_the_end() -> None:
    """Each answer sends the next command; at the end that is said, and nothing afterwards changes anything."""
    story = given(order_saga()).when(PLACED).then(RESERVE).when(Reserved(order_id="1", lot=7)).then(Charge(order_id="1", amount=10, lot=7))
    story.knows(Case("1", 10, 7)).when(PAID).then(BOOK).when(BOOKED).nothing().status("running").steps(ship="sent", commit="-")
    story.when(SHIPPED).then(COMMIT).when(COMMITTED).then(COMPLETED).status("completed")
    for late in (PLACED, RESERVED, PAID, BOOKED, SHIPPED, COMMITTED, RELEASED, OutOfStock(order_id="1"), Declined(order_id="1")):
        story.when(late).nothing().status("completed")
    story.when(CANCEL).then(TOO_LATE).status("completed")


def test_failure_undoes_in_reverse() -> None:
    """What is done is undone from the last step on, each after the answer of the one before; then the end is said, with why."""
    story = given(order_saga()).events(PLACED, RESERVED, PAID).when(BookingFailed(order_id="1")).then(refund_for("booking-failed"))
    story.status("compensating").when(REFUNDED).then(release_for("booking-failed")).when(RELEASED).then(ended("failed book")).status(
        "undone"
    )


def test_nothing_is_undone_where_nothing_was_done() -> None:
    """A first step that fails ends the saga."""
    given(order_saga()).events(PLACED).when(OutOfStock(order_id="1")).then(ended("failed reserve")).status("undone")


def test_rejection_concerns_who_sent_the_command() -> None:
    """A rejection names the command it refuses: of the first step, of its undo, or of the step behind the pivot - and of nobody."""

    def rejected(command: str) -> StockRefused:
        return StockRefused(subject="1", command=command, reason="no")

    given(order_saga()).events(PLACED).when(rejected("reserve")).then(ended("failed reserve", "no"))
    given(order_saga()).events(PLACED).when(rejected("adjust")).nothing().status("running")
    story = (
        given(order_saga())
        .events(PLACED, RESERVED, Declined(order_id="1"))
        .when(rejected("release"))
        .nothing()
        .steps(reserve="undo_paused")
    )
    story.after(seconds=1).then(release_for("card_declined")).when(RELEASED).then(ended("failed pay", "card_declined"))
    story = given(order_saga()).events(PLACED, RESERVED, PAID, BOOKED, SHIPPED).when(rejected("commit")).nothing().steps(commit="paused")
    story.after(seconds=5).then(COMMIT).when(COMMITTED).then(COMPLETED)


def test_unanswered_command_is_repeated_then_undone() -> None:
    """Without an answer the same command is sent three times in all, with growing pauses; then it is undone, for it may have happened."""
    story = given(order_saga()).events(PLACED).after(seconds=29).nothing().after(seconds=1).then(RESERVE)
    story.after(seconds=59).nothing().after(seconds=1).then(RESERVE).after(seconds=119).nothing()
    story.after(seconds=1).then(release_for("timeout")).status("compensating").steps(reserve="undoing")
    story.when(RELEASED).then(ended("timeout reserve"))


def test_late_success_is_undone() -> None:
    """A success after its undo was answered, or after the end, is undone; the end is not said twice. The same fact twice is one."""
    story = given(order_saga()).events(PLACED, RESERVED).after(seconds=210).then(CHARGE, CHARGE, refund_for("timeout"))
    story.when(REFUNDED).then(release_for("timeout")).when(PAID, id="paid").then(refund_for("timeout")).when(PAID, id="paid").nothing()
    story.when(RELEASED).nothing().when(REFUNDED).then(ended("timeout pay")).status("undone")
    story.when(PAID, id="again").then(refund_for("timeout")).status("compensating").when(REFUNDED).nothing().status("undone")
    given(order_saga()).events(PLACED, OutOfStock(order_id="1")).when(RESERVED).then(release_for("out-of-stock"))


def test_success_and_failure_while_the_undo_is_out() -> None:
    """A success is settled by the undo behind it; a failure means that there was nothing to undo."""
    given_up = given(order_saga()).events(PLACED).after(seconds=210)
    given_up.when(RESERVED).nothing().when(RELEASED).then(ended("timeout reserve"))
    given(order_saga()).events(PLACED).after(seconds=210).when(OutOfStock(order_id="1")).then(ended("timeout reserve"))


def test_cancel_at_every_step() -> None:
    """What is under way is waited for; what is done is undone in reverse; new commands are not sent meanwhile."""
    story = given(order_saga()).events(PLACED).when(CANCEL).nothing().status("cancelling")
    story.when(RESERVED).then(release_for("changed_my_mind")).when(RELEASED).then(ended("cancelled", "changed_my_mind")).status("undone")
    given(order_saga()).events(PLACED, CANCEL).when(OutOfStock(order_id="1")).then(ended("cancelled", "changed_my_mind"))
    given(order_saga()).events(PLACED, CANCEL).after(seconds=30).then(release_for("changed_my_mind")).status("cancelling")
    story = given(order_saga()).events(PLACED, RESERVED, PAID, BOOKED).when(CANCEL).then(UNBOOK).when(CANCEL).nothing()
    story.when(UNBOOKED).then(refund_for("changed_my_mind")).when(REFUNDED).then(release_for("changed_my_mind"))
    story.when(RELEASED).then(ended("cancelled", "changed_my_mind")).when(CANCEL).nothing()


def test_cancel_before_the_start_is_remembered() -> None:
    """Nothing is sent then; the start says at once that it was undone."""
    given(order_saga()).when(CANCEL).nothing().status("cancelling").when(PLACED).then(ended("cancelled", "changed_my_mind")).status(
        "undone"
    )


def test_cancel_behind_the_pivot_is_refused() -> None:
    """There is no way back; the saga goes on."""
    story = given(order_saga()).events(PLACED, RESERVED, PAID, BOOKED, SHIPPED).when(CANCEL).then(TOO_LATE).status("running")
    story.when(COMMITTED).then(COMPLETED)


def test_undo_that_comes_too_late_ends_a_cancel() -> None:
    """Shipping decides: the parcel had left, so the cancel is refused and the saga goes on - also where that is told before all else."""
    story = given(order_saga()).events(PLACED, RESERVED, PAID, BOOKED, CANCEL).when(SHIPPED).then(TOO_LATE, COMMIT).status("running")
    story.when(COMMITTED).then(COMPLETED).when(UNBOOKED).nothing()
    given(order_saga()).events(PLACED, RESERVED, PAID, CANCEL).when(SHIPPED).then(TOO_LATE, COMMIT)
    given(order_saga()).events(PLACED, RESERVED, PAID).when(SHIPPED).then(COMMIT).when(BOOKED).nothing().when(CANCEL).then(TOO_LATE)


def test_failing_undo_is_stuck_and_has_three_ways_out() -> None:
    """Refused or unanswered five times the step is stuck and named; retry, skip and take-over go on from there."""
    story = given(order_saga()).events(PLACED, RESERVED, PAID, BookingFailed(order_id="1"))
    for _ in range(4):
        story.when(REFUSED).nothing().after(minutes=1).then(refund_for("booking-failed"))
    story.when(REFUSED).nothing().status("stuck").after(days=1).nothing().when(CANCEL).nothing()
    story.retry(by="ann").then(refund_for("booking-failed")).status("compensating").retry().refused()
    story.after(hours=1).then(*[refund_for("booking-failed")] * 4).status("stuck")
    story.skip("paid out in cash", step="reserve").refused().skip("paid out in cash", by="ann").then(release_for("booking-failed"))
    story.when(RELEASED).then(ended("failed book")).steps(pay="undo_skipped", reserve="undone").when(PAID).nothing()
    story = given(order_saga()).events(PLACED, RESERVED, PAID, BookingFailed(order_id="1")).after(hours=1).status("stuck")
    taken = ended("taken over", "lawyer has it")
    story.take_over("lawyer has it", by="ann").then(taken).status("taken_over").take_over("again").refused()
    for late in (REFUNDED, PAID, CANCEL, RELEASED):
        story.when(late).nothing().status("taken_over")
    story = given(order_saga()).events(PLACED, RESERVED, PAID, BookingFailed(order_id="1")).after(hours=1).status("stuck")
    story.when(REFUNDED).then(release_for("booking-failed")).status("compensating")


def test_takeover_is_told_by_whatever_has_begun() -> None:
    """Wherever it stands: what the table says of a takeover is the last thing said. Before its start there is no case to say it of."""
    for answers in ((), (RESERVED,), (RESERVED, PAID, BOOKED), (RESERVED, PAID, BOOKED, SHIPPED), (RESERVED, CANCEL)):
        story = given(order_saga()).events(PLACED, *answers).take_over("mine").then(ended("taken over", "mine")).status("taken_over")
        story.when(COMMITTED).nothing().when(RELEASED).nothing().after(days=1).nothing()
    given(order_saga()).events(CANCEL).take_over("mine").nothing().status("taken_over").when(PLACED).nothing().status("taken_over")
    told = order_saga()
    told.ended(taken_over=lambda case, why: Finished(order_id=case.order_id, how=why.reason, detail=f"{why}: {', '.join(why.answers)}"))
    given(told).events(PLACED, RESERVED, PAID).take_over("mine").then(ended("taken_over", "mine: reserved, paid"))
    silent = both()
    silent.ended(completed=lambda case: Finished(order_id=case.order_id, how="completed"))
    given(silent).events(PLACED).take_over("mine").nothing().status("taken_over")


def test_step_behind_the_pivot_is_stuck_and_skipped() -> None:
    """It is retried, never undone; skipping lets the saga complete."""
    story = given(order_saga()).events(PLACED, RESERVED, PAID, BOOKED, SHIPPED).after(hours=1).then(COMMIT, COMMIT).status("stuck")
    story.when(CANCEL).then(TOO_LATE).skip("counted by hand").then(COMPLETED).status("completed").when(COMMITTED).nothing()


def test_answers_of_others_may_come_early() -> None:
    """What nobody asked for is kept for when its step is reached; what is asked for counts only then."""
    given(order_saga()).events(PLACED).when(PAID).nothing().when(RESERVED).then(CHARGE).steps(pay="sent")
    given(order_saga()).events(PLACED).when(SHIPPED).nothing().when(RESERVED).then(CHARGE).when(PAID).then(BOOK).when(BOOKED).then(COMMIT)


def both() -> Saga:
    """Goods and money at once; the case learns from the goods what the money must not be asked for."""
    saga = Saga("both", key="order_id", starts=Placed, begin=begin)
    goods = {"send": reserve, "done": Reserved, "failed": OutOfStock, "undo": release, "undone": Released}
    money = {"send": charge_amount, "done": Paid, "failed": Declined, "undo": refund, "undone": Refunded}
    saga.step("reserve", **goods, learn=lambda case, event: Case(case.order_id, 99, event.lot))
    saga.step("pay", **money, beside="reserve")
    saga.step("book", send=book, done=Booked, pivot=True)
    return saga


def charge_amount(case: Case) -> Charge:
    """Ask for the money, whatever was reserved."""
    return Charge(order_id=case.order_id, amount=case.amount)


def test_steps_beside_each_other_go_forward() -> None:
    """They are sent at once, the next stage waits for all, and learning changes no repeat."""
    story = given(both()).when(PLACED).then(RESERVE, CHARGE).when(RESERVED).nothing().after(seconds=30).then(CHARGE).when(PAID).then(BOOK)
    story.when(BOOKED).nothing().status("completed")
    given(both()).events(PLACED, RESERVED, PAID).after(hours=2).status("stuck").steps(book="sent").when(BOOKED).status("completed")


def test_steps_beside_each_other_go_back() -> None:
    """One failure undoes the others; what is under way is waited for."""
    story = given(both()).events(PLACED, PAID).when(OutOfStock(order_id="1")).then(refund_for("out-of-stock")).when(REFUNDED).nothing()
    story.status("undone")
    story = given(both()).events(PLACED).when(Declined(order_id="1")).nothing().status("compensating")
    story.when(RESERVED).then(release_for("card_declined"))


def test_success_and_undo_on_different_topics() -> None:
    """Nothing says in which order they were, so a success that came while the undo was out is undone once more."""
    saga = Saga("topics", key="order_id", starts=Placed, begin=begin)
    saga.step("reserve", send=reserve, done=Reserved, undo=release, undone=Refunded)
    story = given(saga).events(PLACED).after(seconds=210).when(RESERVED).nothing().when(REFUNDED).then(release_for("timeout"))
    story.steps(reserve="undoing").when(REFUNDED).nothing().status("undone")


def early() -> Saga:
    """A step that only large orders need and that a parcel gives up, and one that may be interrupted."""
    saga = Saga("early", key="order_id", starts=Placed, begin=begin)
    goods = {"send": reserve, "done": Reserved, "undo": release, "undone": Released, "given_up": Shipped}
    saga.step("reserve", **goods, needed=lambda case: case.amount > 5, learn_back=note_name)
    money = {"send": charge_amount, "done": Paid, "failed": Declined, "undo": refund_because, "undone": Refunded}
    saga.step("pay", **money, interrupt=True)
    saga.cancel(CancelAsked)
    return saga


def note_name(case: Case, event: object) -> Case:
    """Learn from whatever came."""
    return Case(case.order_id, case.amount, len(type(event).__name__))


def refund_because(case: Case, reason: SagaReason) -> Refund:
    """Give the money back, and say by what."""
    return Refund(order_id=case.order_id, reason=f"{reason.reason} {reason.message}")


def test_step_that_is_not_needed_is_passed() -> None:
    """The next one is asked for at once."""
    given(early()).when(Placed(order_id="1", amount=1)).then(Charge(order_id="1", amount=1)).steps(reserve="passed")


def test_step_that_is_given_up_is_undone_in_doubt() -> None:
    """Only while it is under way, and the case learns on the way back."""
    story = given(early()).events(PLACED).when(SHIPPED).then(release_for("shipped")).knows(Case("1", 10, len("Shipped")))
    story.when(RELEASED).nothing().status("undone").knows(Case("1", 10, len("Released")))
    given(early()).events(PLACED, RESERVED).when(SHIPPED).nothing().status("running")


def test_interrupted_step_is_undone_at_once() -> None:
    """Whatever answers first settles it."""
    story = given(early()).events(PLACED, RESERVED).when(CANCEL).then(refund_for("cancelled cancel-asked"))
    story.when(PAID).nothing().when(REFUNDED).then(release_for("changed_my_mind"))
    given(early()).events(PLACED, RESERVED, CANCEL).when(Declined(order_id="1")).then(release_for("changed_my_mind"))


def listening() -> Saga:
    """A saga whose undo and whose end name what they were told to have been answered."""
    saga = Saga("listening", key="order_id", starts=Placed, begin=begin)
    saga.step("reserve", send=reserve, done=Reserved, undo=release_after, undone=Released)
    saga.step("pay", send=charge_amount, done=Paid, failed=Declined, undo=refund, undone=Refunded, undo_failed=RefundFailed)
    saga.step("book", send=book, done=Booked, failed=BookingFailed, undo=unbook, undone=Unbooked)
    saga.step("ship", done=Shipped, pivot=True)
    saga.cancel(CancelAsked)
    saga.ended(undone=finish_after)
    return saga


def release_after(case: Case, reason: SagaReason) -> Release:
    """Give back, naming what was answered before."""
    return Release(order_id=case.order_id, reason=" ".join(reason.answers))


def finish_after(case: Case, end: SagaEnd) -> Finished:
    """Say the end, naming all that was answered."""
    return Finished(order_id=case.order_id, how="undone", detail=" ".join(end.answers))


def test_undo_and_end_are_told_what_has_answered_so_far() -> None:
    """Answers to steps and to undos, each once and in their order; neither the cancel nor a word of an operator is one."""
    way = given(listening()).events(PLACED, RESERVED, PAID, BOOKED, CANCEL, UNBOOKED, REFUSED)
    undone = way.after(seconds=60).when(REFUNDED).then(release_for("reserved paid booked unbooked refund-failed refunded"))
    undone.when(RELEASED).then(ended("undone", "reserved paid booked unbooked refund-failed refunded released"))
    declined = given(listening()).events(PLACED, RESERVED).when(Declined(order_id="1")).then(release_for("reserved declined"))
    declined.when(RELEASED).then(ended("undone", "reserved declined released"))


@pytest.mark.parametrize("count", range(1, 6))
def test_given_case_is_an_instance_that_has_begun(count: int) -> None:
    """A story may begin with a case."""
    given(order_saga()).case(Case("1", count)).when(RESERVED).then(Charge(order_id="1", amount=count))
