"""An instance of a saga while it is moved: what is known of its steps, its case, what is said, what is written into its timeline.

Nothing here decides; it sends commands and undos with their deadlines, keeps records, and makes the next instance of all that.

Neighbours: `saga_course` derives from it and decides; it opens with the theory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from millrace.errors import SagaRefused
from millrace.message import Message, declaration
from millrace.processor import items_of
from millrace.saga import Saga
from millrace.saga_instance import NOTHING, TIMELINE_MAX, Cause, Entry, SagaEnd, SagaInstance, SagaReason, StepRecord, answers_of
from millrace.saga_table import Step, Table

SENT, PAUSED, DONE, PASSED, SKIPPED, FAILED = "sent", "paused", "done", "passed", "skipped", "failed"
DOUBT, DROPPED, UNDOING, UNDO_PAUSED, UNDO_SKIPPED, KEPT = "doubt", "dropped", "undoing", "undo_paused", "undo_skipped", "kept"
STEP_UNDONE = "undone"
FORWARD = frozenset({DONE, PASSED, SKIPPED, KEPT})
"""States of steps that are behind an instance that goes forward."""
NOWHERE = StepRecord("")


class Occasion(NamedTuple):
    """When something happens: the clock and, for a deadline, the time that the input has passed (microseconds); by which message."""

    now: int
    id: str = ""
    correlation: str = ""
    passed: int = 0


class Advance(NamedTuple):
    """What became of an instance: None where it never was, the same one where nothing happened; and what is said."""

    instance: SagaInstance | None
    items: Sequence[Any] = ()


class Progress:
    """One move of one instance; collects what changes and makes the next instance of it.

    Args:
        saga: the definition under which it runs.
        instance: as it is; None: there is none.
        occasion: when.
        id: of the instance.
    """

    def __init__(self, saga: Saga, instance: SagaInstance | None, occasion: Occasion, *, id: str) -> None:
        self.saga = saga
        self.instance = instance or SagaInstance(id=id, version=saga.version)
        self.id = id
        self.items: list[Any] = []
        self.steps = dict(self.instance.steps)
        self.back = self.instance.back
        self.ended = self.instance.ended
        self.told = self.instance.told
        self.early = self.instance.early
        self.started_at = self.instance.started_at
        self.entries: list[Entry] = []
        self._fresh = instance is None
        self._occasion = occasion
        self._table = saga.table
        self._raw = self.instance.case
        self._case: Any = None

    def end(self) -> Advance:
        """Return the instance as it is now, and what is said."""
        if not self.entries and not self._changed():
            return Advance(None if self._fresh else self.instance)
        before, now = self.instance, self._occasion.now
        timeline = (*before.timeline, *self.entries)
        if len(timeline) > TIMELINE_MAX:
            timeline = (timeline[0], *timeline[1 - TIMELINE_MAX :])
        after = msgspec.structs.replace(
            before,
            version=before.version if before.started_at else self.saga.version,
            case=self._raw,
            steps=self.steps,
            back=self.back,
            ended=self.ended,
            told=self.told,
            early=self.early,
            timeline=timeline,
            started_at=self.started_at,
            changed_at=now,
            correlation=before.correlation or self._occasion.correlation,
        )
        return Advance(after, self.items)

    def _send(self, step: Step, *, attempts: int) -> None:
        """Send a step's command, for the first time or again."""
        record = self.steps.get(step.name, NOWHERE)
        wait = step.retry.wait(step.timeout, attempts) if step.timeout is not None else 0
        deadline = self._occasion.now + wait if wait else 0
        commands = items_of(step.send(self._case_of(record))) if step.send is not None else ()
        if step.send is not None and not commands:
            self._set(step.name, state=PASSED)
            self._note("passed", step.name)
            return
        self.items += commands
        sent = tuple(wire_name(command) for command in commands)
        for name in sent:
            self._note("sent" if attempts == 1 else "sent again", step.name, name)
        if not step.done and step.send is not None:
            self.steps[step.name] = StepRecord(DONE, attempts, sent=sent)
        else:
            self.steps[step.name] = changed(record, state=SENT, attempts=attempts, deadline=deadline, stuck=False, sent=sent)

    def _send_undo(self, step: Step, record: StepRecord, *, attempts: int) -> None:
        assert step.undo is not None and self.back is not None  # noqa: PT018, S101  # who asks has looked
        reason = SagaReason.of(self.back, answers_of(self._story))
        commands = items_of(step.undo(self._case_of(record), reason))
        self.items += commands
        sent = tuple(wire_name(command) for command in commands)
        for name in sent:
            self._note("undo sent" if attempts == 1 else "undo sent again", step.name, name)
        if not commands or not step.undone:
            self._set(step.name, state=STEP_UNDONE, undo_sent=sent, answer=record.answer)
            return
        wait = step.undo_retry.wait(step.undo_timeout, attempts) if step.undo_timeout is not None else 0
        deadline = self._occasion.now + wait if wait else 0
        self.steps[step.name] = changed(record, state=UNDOING, attempts=attempts, deadline=deadline, stuck=False, undo_sent=sent)

    def _summary(self) -> SagaEnd:
        """Return how it came to its end."""
        return end_of(self._table, self.back or Cause("cancelled"), self.steps, timeline=self._story)

    def _refuse(self, message: Message) -> None:
        self._note("cancel refused", name=wire_name(message))
        if self.saga.refused is not None:
            self.items += items_of(self.saga.refused(self.case))

    def _pause(self, step: Step, record: StepRecord, state: str, **answer: str) -> None:
        """A refusal of what has to succeed: try again later, or be stuck."""
        retry = step.undo_retry if state == UNDO_PAUSED else step.retry
        if record.attempts >= retry.attempts:
            self.steps[step.name] = changed(record, state=state, **answer)
            self._stick(step)
        else:
            self.steps[step.name] = changed(record, state=state, deadline=self._occasion.now + retry.pause(record.attempts), **answer)

    def _stick(self, step: Step) -> None:
        self._set(step.name, keep=True, stuck=True)
        self._note("stuck", step.name)

    @property
    def _story(self) -> tuple[Entry, ...]:
        return (*self.instance.timeline, *self.entries)

    @property
    def case(self) -> Any:
        """Return the case."""
        if self._case is None and self._raw != NOTHING:
            self._case = self.saga.decode_case(self._raw)
        return self._case

    def _case_of(self, record: StepRecord) -> Any:
        """Return the case that a step's commands are made of."""
        return self.saga.decode_case(record.case) if record.case != NOTHING else self.case

    def _learn(self, step: Step, message: Message, *, back: bool = False) -> None:
        """Let the case learn from an answer; commands that are out keep the case they were made of."""
        learn = step.learn_back if back else step.learn
        if learn is None:
            return
        before, self._case = self._raw, learn(self.case, message)
        self._raw = msgspec.Raw(self.saga.encode_case(self._case))
        for name, record in self.steps.items():
            if name != step.name and record.state in {SENT, PAUSED, UNDOING, UNDO_PAUSED} and record.case == NOTHING:
                self.steps[name] = changed(record, case=before)

    def _set(self, name: str, *, keep: bool = False, **changes: Any) -> None:
        """Change a record; what it waited for is over. With `keep`, its state stays."""
        record = self.steps.get(name, NOWHERE)
        over: dict[str, Any] = {"stuck": False, "deadline": 0} if not keep or "stuck" in changes else {}
        if not keep:
            over["case"] = NOTHING
        self.steps[name] = changed(record, **{**over, **changes})

    def _stuck(self) -> Sequence[str]:
        stuck = [] if self.ended else [name for name, record in self.steps.items() if record.stuck]
        if not stuck:
            raise SagaRefused(f"{self._who} is {self.instance.status}; nothing of it is stuck")
        return stuck

    @property
    def _who(self) -> str:
        return f"saga {self.saga.name!r}, instance {self.id!r}"

    def _note(self, what: str, step: str = "", name: str = "", id: str = "") -> None:
        self.entries.append(Entry(self._occasion.now, what, step, name, id))

    def _changed(self) -> bool:
        before = self.instance
        return (self.steps, self.back, self.ended, self.early) != (before.steps, before.back, before.ended, before.early)


def end_of(table: Table, cause: Cause, steps: Mapping[str, StepRecord], *, timeline: Sequence[Entry]) -> SagaEnd:
    """Return why an instance is undone, and what of it is so far."""
    states = {name: steps[name].state for name in reversed(table.by_name) if name in steps}
    undone = tuple(name for name, state in states.items() if state == STEP_UNDONE)
    reasons = {entry.step: entry.name for entry in timeline if entry.what == "skipped"}
    skipped = tuple((name, reasons.get(name, "")) for name, state in states.items() if state == UNDO_SKIPPED)
    return SagaEnd(cause.reason, cause.step, cause.message, cause.detail, undone, skipped, answers_of(timeline))


def next_deadline(steps: Iterable[StepRecord]) -> int:
    """Return the earliest deadline, 0 if none."""
    return min((record.deadline for record in steps if record.deadline), default=0)


def changed(record: StepRecord, **changes: Any) -> StepRecord:
    """Return a record with other values."""
    return msgspec.structs.replace(record, **changes)


def wire_name(message: Message) -> str:
    """Return the name of a message on the wire."""
    return declaration(type(message)).name


def detail_of(message: Any) -> str:
    """Return the reason that a message gives, if it gives one."""
    reason = getattr(message, "reason", "")
    return reason if isinstance(reason, str) else ""


__all__ = ["NOWHERE", "Advance", "Occasion", "Progress", "changed", "detail_of", "end_of", "next_deadline", "wire_name"]
