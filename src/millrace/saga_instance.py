"""What is stored of a running saga: one row per instance, and one small row by which instances are found by status.

Everything here is plain values. An instance is never changed: `saga_course` makes the next one from it.

    kind "@saga:<name>"   key: the instance's id      the instance
    kind "@saga-index"    key: <name>/<status>/<id>   that it has that status, and since when; changed in the transaction that changes it

Listing by status reads a page of the index and the instances that it names, so a million completed ones cost a list of stuck ones nothing.

Neighbours: `saga` makes the row class of each saga, `saga_course` moves instances, `saga_pattern` stores them, `sagas` shows them, and
`saga_watch` counts them.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from millrace.state import State

RUNNING, CANCELLING, COMPENSATING, STUCK = "running", "cancelling", "compensating", "stuck"
COMPLETED, UNDONE, TAKEN_OVER = "completed", "undone", "taken_over"
STATUSES = (RUNNING, CANCELLING, COMPENSATING, STUCK, COMPLETED, UNDONE, TAKEN_OVER)
UNDER_WAY = STATUSES[:4]
"""The statuses of those that have not ended."""
INDEX_KIND = "@saga-index"

NOTHING = msgspec.Raw(b"null")
"""Stands for a case that is not there."""
TIMELINE_MAX = 200
"""Entries that are kept of an instance; the first one and the newest stay."""
ANSWERED = frozenset({"done", "done late", "failed", "failed late", "undone", "given up", "kept", "undo refused"})
"""What an entry says that was written for an answer to a step or an undo."""


class Cause(msgspec.Struct, frozen=True, array_like=True):
    """Why an instance turned back: `reason` is cancelled, failed or timeout."""

    reason: str
    step: str = ""
    message: str = ""
    detail: str = ""

    @property
    def text(self) -> str:
        """Return what an undo command may say: the message's own reason, or its name, or the word for it."""
        return self.detail or self.message or self.reason


class SagaReason(str):
    """Why an instance turned back, in one word for its undo commands, or the text of who takes it over; with the parts of a `SagaEnd`.

    Attributes:
        reason: cancelled, failed or timeout; taken_over where a person has taken it over.
        step: the step that failed or did not answer; empty for a cancel.
        message: name on the wire of the message that decided it; empty for a timeout.
        detail: that message's own `reason`, if it has one.
        answers: names on the wire of what has answered steps and undos so far, each once, as the timeline tells.
    """

    __slots__ = ("answers", "detail", "message", "reason", "step")

    reason: str
    step: str
    message: str
    detail: str
    answers: tuple[str, ...]

    @classmethod
    def of(cls, cause: Cause, answers: tuple[str, ...] = ()) -> SagaReason:
        """Return a cause as it is handed to `undo`."""
        found = cls(cause.text)
        found.reason, found.step, found.message, found.detail = cause.reason, cause.step, cause.message, cause.detail
        found.answers = answers
        return found


class StepRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known of a step that was reached.

    Attributes:
        state: see the table in `saga_course`.
        attempts: how often its command, or by now its undo, was sent.
        deadline: microseconds; 0 while nothing is waited for.
        stuck: an operator has to decide.
        again: it succeeded while its undo was under way, on another topic, so one more undo has to follow.
        answer, undo_answer: ids of the messages that settled it last.
        sent, undo_sent: names of the commands, by which a rejection is told.
        case: the case as it was when the command was sent, where it has changed since: what is repeated has the same content.
    """

    state: str
    attempts: int = 0
    deadline: int = 0
    stuck: bool = False
    again: bool = False
    answer: str = ""
    undo_answer: str = ""
    sent: tuple[str, ...] = ()
    undo_sent: tuple[str, ...] = ()
    case: msgspec.Raw = NOTHING


class Early(msgspec.Struct, frozen=True, array_like=True):
    """An answer that came before its step was reached: its name on the wire, its data, its id."""

    name: str
    data: msgspec.Raw
    id: str


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One line of a timeline: when (microseconds), what, of which step, by which message or person."""

    at: int
    what: str
    step: str = ""
    name: str = ""
    id: str = ""


def answers_of(timeline: Iterable[Entry]) -> tuple[str, ...]:
    """Return the names of what has answered steps and undos, each once, first one first."""
    return tuple(dict.fromkeys(entry.name for entry in timeline if entry.what in ANSWERED and entry.step))


class SagaInstance(State, omit_defaults=True):
    """An instance of a saga.

    Attributes:
        id: the value of the saga's key.
        version: of the definition under which it began.
        case: as `begin` and `learn` made it; `NOTHING` before the start.
        steps: every step that was reached.
        back: why it is being undone; None while it goes forward.
        ended: completed, undone or taken_over; empty while it is under way.
        told: what is said at an undone end has been said.
        early: answers of steps that were not reached.
        timer: when its timer fires (microseconds); 0: none is set.
        correlation: the conversation it belongs to.
    """

    id: str
    version: int
    case: msgspec.Raw = NOTHING
    steps: dict[str, StepRecord] = {}  # noqa: RUF012  # msgspec copies an empty default
    back: Cause | None = None
    ended: str = ""
    told: bool = False
    early: tuple[Early, ...] = ()
    timeline: tuple[Entry, ...] = ()
    started_at: int = 0
    changed_at: int = 0
    timer: int = 0
    correlation: str = ""

    @property
    def status(self) -> str:
        """Return the word by which operators find it."""
        if self.ended:
            return self.ended
        if any(record.stuck for record in self.steps.values()):
            return STUCK
        if self.back is None:
            return RUNNING
        return CANCELLING if self.back.reason == "cancelled" else COMPENSATING

    @property
    def stuck(self) -> tuple[str, ...]:
        """Return the steps that an operator has to decide about."""
        return tuple(name for name, record in self.steps.items() if record.stuck)


class SagaIndex(State, key="place", kind=INDEX_KIND):
    """That an instance has a status."""

    place: str


def index_key(saga: str, status: str, id: str) -> str:
    """Return the key of an instance's index row."""
    return f"{saga}/{status}/{id}"


def index_value(since: int) -> bytes:
    """Return what an index row says: since when the instance has that status (microseconds of business time)."""
    return b"%d" % since


def index_since(value: bytes) -> int:
    """Return since when an instance has its status; 0 where an earlier release has written the row, which said nothing."""
    return 0 if value == b"1" else int(value)


class SagaEnd(msgspec.Struct, frozen=True):
    """How a saga that was undone came to that.

    Attributes:
        reason: cancelled, failed or timeout.
        step: the step that failed or did not answer; empty for a cancel.
        message: name on the wire of the message that decided it; empty for a timeout.
        detail: that message's own `reason`, if it has one.
        undone: the steps whose effect was undone, last one first.
        skipped: the steps that an operator undid by hand, with the reason given.
        answers: names on the wire of what has answered steps and undos, each once, as the timeline tells.
    """

    reason: str
    step: str = ""
    message: str = ""
    detail: str = ""
    undone: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    answers: tuple[str, ...] = ()


__all__ = [
    "CANCELLING",
    "COMPENSATING",
    "COMPLETED",
    "INDEX_KIND",
    "NOTHING",
    "RUNNING",
    "STATUSES",
    "STUCK",
    "TAKEN_OVER",
    "UNDER_WAY",
    "UNDONE",
    "Cause",
    "Early",
    "Entry",
    "SagaEnd",
    "SagaIndex",
    "SagaInstance",
    "SagaReason",
    "StepRecord",
    "answers_of",
    "index_key",
    "index_since",
    "index_value",
]
