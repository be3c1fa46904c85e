"""The rows of a saga's table, and the table as it is looked up while instances run.

Neighbours: `saga` collects rows from what a user declares; `saga_course`, `saga_check` and `saga_diagram` read them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, TypedDict

import msgspec

from millrace.message import Message, declaration
from millrace.saga_instance import SagaReason

Answers = type[Message] | Sequence[type[Message]]
TIMEOUT = timedelta(seconds=30)


class SagaRetry(msgspec.Struct, frozen=True):
    """How often a command is sent, and when.

    A command without an answer is sent again when its time is over, and gets `factor` times as long; one that was refused (an undo, or a
    step behind the pivot) is sent again after a pause that grows likewise.

    Args:
        attempts: how often it is sent in all.
        first: pause after the first refusal.
        factor: growth of times and pauses.
        most: longest pause, and longest time unless the step's own is longer.
    """

    attempts: int = 3
    first: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    most: timedelta = timedelta(minutes=5)

    def wait(self, timeout: timedelta, attempt: int) -> int:
        """Return how long the answer to an attempt is waited for, in microseconds."""
        return min(_micros(timeout) * self._grown(attempt), max(_micros(self.most), _micros(timeout)))

    def pause(self, attempt: int) -> int:
        """Return the pause after an attempt that was refused, in microseconds."""
        return min(_micros(self.first) * self._grown(attempt), _micros(self.most))

    def _grown(self, attempt: int) -> int:
        return int(self.factor ** min(attempt - 1, 32))


BEFORE_PIVOT = SagaRetry()
BEHIND_PIVOT = SagaRetry(attempts=10)
OF_UNDO = SagaRetry(attempts=5)


def _micros(span: timedelta) -> int:
    return int(span.total_seconds() * 1_000_000)


class StepCells(TypedDict, total=False):
    """The cells of a table's row; see `Saga.step`."""

    send: Callable[[Any], Any] | None
    needed: Callable[[Any], bool]
    done: Answers
    failed: Answers
    given_up: Answers
    undo: Callable[[Any, SagaReason], Any] | None
    undone: Answers
    undo_failed: Answers
    kept: Answers
    nothing_to_undo: str
    timeout: timedelta | None
    undo_timeout: timedelta | None
    retry: SagaRetry
    undo_retry: SagaRetry
    pivot: bool
    beside: str
    interrupt: bool
    undo_anyway: bool
    learn: Callable[[Any, Any], Any]
    learn_back: Callable[[Any, Any], Any]
    says: Iterable[type[Message]]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table; see `Saga.step`."""

    name: str
    send: Callable[[Any], Any] | None
    needed: Callable[[Any], bool] | None = None
    done: tuple[type[Message], ...] = ()
    failed: tuple[type[Message], ...] = ()
    given_up: tuple[type[Message], ...] = ()
    undo: Callable[[Any, SagaReason], Any] | None = None
    undone: tuple[type[Message], ...] = ()
    undo_failed: tuple[type[Message], ...] = ()
    kept: tuple[type[Message], ...] = ()
    nothing_to_undo: str = ""
    timeout: timedelta | None = TIMEOUT
    undo_timeout: timedelta | None = TIMEOUT
    retry: SagaRetry = BEFORE_PIVOT
    undo_retry: SagaRetry = OF_UNDO
    pivot: bool = False
    beside: str = ""
    interrupt: bool = False
    undo_anyway: bool = False
    learn: Callable[[Any, Any], Any] | None = None
    learn_back: Callable[[Any, Any], Any] | None = None
    stage: int = 0
    behind: bool = False
    """It comes after the pivot."""
    repeats_undo: bool = False
    """Its success and its undo are told on different topics, so nothing says in which order they were."""


class Claim(msgspec.Struct, frozen=True):
    """What a message means to a step: `role` is done, failed, given_up, undone, undo_failed or kept."""

    step: Step
    role: str


ROLES = ("kept", "undone", "undo_failed", "done", "failed", "given_up")
"""In the order in which one message is judged: what ends an undo first, what ends a step then."""


class Table:
    """A saga's table as it is looked up: made once, when it is complete.

    Args:
        steps: the rows in order.
        starts, cancels: the messages that begin and cancel an instance.
        reader: returns what reads an instance's id out of messages of a class.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        *,
        starts: Sequence[type[Message]],
        cancels: Sequence[type[Message]],
        reader: Callable[[type[Message]], Callable[[Any], str]],
    ) -> None:
        self.steps, self.starts, self.cancels = tuple(steps), tuple(starts), tuple(cancels)
        self.by_name = {step.name: step for step in steps}
        count = max((step.stage for step in steps), default=-1) + 1
        self.stages = tuple(tuple(step for step in steps if step.stage == n) for n in range(count))
        self.pivot = next((step for step in steps if step.pivot), None)
        self.claims: dict[type[Message], tuple[Claim, ...]] = {}
        for role in ROLES:
            for step in steps:
                for cls in getattr(step, role):
                    self.claims[cls] = (*self.claims.get(cls, ()), Claim(step, role))
        self.messages = tuple(dict.fromkeys((*starts, *cancels, *self.claims)))
        self.names = {declaration(cls).name: cls for cls in self.messages}
        self.ids = {cls: reader(cls) for cls in self.messages}


__all__ = ["BEFORE_PIVOT", "BEHIND_PIVOT", "OF_UNDO", "ROLES", "TIMEOUT", "Answers", "Claim", "SagaRetry", "Step", "StepCells", "Table"]
