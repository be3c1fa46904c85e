"""Given, when, then for sagas: what the table says next, on values, with no engine and no event loop.

    given(checkout).events(OrderPlaced(...)).when(StockReserved(...)).then(ProcessPayment(...))
    given(checkout).events(OrderPlaced(...)).after(seconds=30).then(ReserveStock(...))           # repeated, there was no answer
    given(checkout).case(Case(...)).when(OutOfStock(...)).then(RejectOrder(...)).status("undone").steps(reserve="failed")

Each `when` and `after` moves the instance, so a whole story can be told; `then` judges what the last one said, in order. Deadlines are
judged as the runtime does, at the moment when they are due.

Neighbours: calls `saga_course` as `saga_pattern` does; nothing here stores anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Self

import msgspec

from millrace.clock import from_micros, to_micros
from millrace.errors import ConfigurationError, SagaRefused
from millrace.message import Message
from millrace.saga import Saga
from millrace.saga_check import check_saga
from millrace.saga_course import Course, Occasion, advance, advance_deadline
from millrace.saga_instance import NOTHING, SagaInstance
from millrace.saga_progress import Advance, next_deadline
from millrace.testing.specification import START, shown


class SagaSpecification:
    """One instance of a saga.

    Args:
        saga: the definition; checked first.
    """

    def __init__(self, saga: Saga) -> None:
        check_saga(saga)
        self._saga = saga
        self._story: list[str] = []
        self._got: Sequence[Any] = ()
        self._refusal: SagaRefused | None = None
        self._count = 0
        self.instance: SagaInstance | None = None
        self.now = to_micros(START)

    def case(self, case: Any, *, id: str = "1") -> Self:
        """Let an instance have begun with this case; its first commands are out."""
        course = Course(self._saga, None, Occasion(self.now), id=id)
        course.begin(case)
        self.instance = course.end().instance
        self._story.append(f"case {shown(case)}")
        return self

    def events(self, *messages: Message) -> Self:
        """Let these messages have come."""
        for message in messages:
            self.when(message)
        return self

    def when(self, message: Message, *, id: str | None = None) -> Self:
        """Hand a message in; `id` says that it is one that came before (default: a new one)."""
        self._count += 1
        self._story.append(shown(message))
        occasion = Occasion(self.now, f"test-{self._count}" if id is None else id)
        return self._move(lambda: advance(self._saga, self.instance, message, occasion=occasion))

    def after(self, **span: float) -> Self:
        """Let time pass, as `timedelta` counts it, and judge each deadline that comes meanwhile when it comes."""
        end, got = self.now + timedelta(**span) // timedelta(microseconds=1), list[Any]()
        while self.instance is not None and not self.instance.ended and 0 < (due := next_deadline(self.instance.steps.values())) <= end:
            self.now, instance = due, self.instance
            self._move(lambda instance=instance: advance_deadline(self._saga, instance, Occasion(self.now, passed=self.now)))
            got += self._got
        self.now, self._got = end, got
        self._story.append(f"{timedelta(**span)} pass")
        return self

    def retry(self, *, by: str = "") -> Self:
        """Let an operator send what is stuck again."""
        return self._decide("retry", lambda course: course.retry(by))

    def skip(self, reason: str, *, step: str | None = None, by: str = "") -> Self:
        """Let an operator skip a stuck step."""
        return self._decide(f"skip: {reason}", lambda course: course.skip(step, reason, by))

    def take_over(self, reason: str, *, by: str = "") -> Self:
        """Let an operator take the instance over."""
        return self._decide(f"take over: {reason}", lambda course: course.take_over(reason, by))

    def then(self, *expected: Message) -> Self:
        """Expect that exactly this is said.

        Raises:
            AssertionError: it is something else.
        """
        if self._refusal is not None:
            raise AssertionError(self._report(expected, [f"refused: {self._refusal}"])) from self._refusal
        if list(expected) != list(self._got):
            raise AssertionError(self._report(expected, self._got))
        return self

    def nothing(self) -> Self:
        """Expect that nothing is said."""
        return self.then()

    def refused(self) -> Self:
        """Expect that what the operator wanted does not fit.

        Raises:
            AssertionError: it was done.
        """
        if self._refusal is None:
            raise AssertionError(self._report(["refused"], self._got))
        return self

    def status(self, expected: str) -> Self:
        """Expect this status of the instance.

        Raises:
            AssertionError: it has another one.
        """
        found = self.instance.status if self.instance is not None else "not there"
        if found != expected:
            raise AssertionError(self._report([expected], [found]))
        return self

    def steps(self, **expected: str) -> Self:
        """Expect these states of steps (`-` in a name written as `_`); a step that was not reached has the state `-`.

        Raises:
            AssertionError: they differ.
        """
        records = self.instance.steps if self.instance is not None else {}
        found = {name: records[name.replace("_", "-")].state if name.replace("_", "-") in records else "-" for name in expected}
        if found != expected:
            raise AssertionError(self._report([expected], [found]))
        return self

    def knows(self, expected: Any) -> Self:
        """Expect this case.

        Raises:
            AssertionError: it is another one.
        """
        raw = self.instance.case if self.instance is not None else NOTHING
        found = self._saga.decode_case(raw) if raw != NOTHING else None
        if found != expected:
            raise AssertionError(self._report([expected], [found]))
        return self

    def _decide(self, text: str, decide: Callable[[Course], None]) -> Self:
        self._story.append(text)
        if self.instance is None:
            raise ConfigurationError("there is no instance yet")
        course = Course(self._saga, self.instance, Occasion(self.now), id=self.instance.id)
        self._refusal = None
        try:
            decide(course)
        except SagaRefused as refusal:
            self._refusal = refusal
            return self
        return self._move(course.end)

    def _move(self, move: Callable[[], Advance]) -> Self:
        self._refusal = None
        advanced = move()
        self._got = advanced.items
        if advanced.instance is not None:  # as the store would give it back
            self.instance = msgspec.json.decode(msgspec.json.encode(advanced.instance), type=SagaInstance)
        return self

    def _report(self, expected: Sequence[Any], got: Sequence[Any]) -> str:
        timeline = self.instance.timeline if self.instance is not None else ()
        return "\n".join(
            [
                *("story", *(f"  {line}" for line in self._story or ["nothing"])),
                *("expected", *(f"  {_line(item)}" for item in expected or ["nothing"])),
                *("got", *(f"  {_line(item)}" for item in got or ["nothing"])),
                *("timeline", *(f"  {from_micros(e.at).isoformat()} {e.what} {e.step} {e.name}".rstrip() for e in timeline)),
            ]
        )


def _line(item: Any) -> str:
    return item if isinstance(item, str) else shown(item)


__all__ = ["SagaSpecification"]
