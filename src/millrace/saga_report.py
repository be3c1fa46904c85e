"""What is shown of sagas: which there are, where each of them stands, what is done, under way and still to come. Pure.

Neighbours: `sagas` reads rows and hands them here; command lines, routes and pages show what comes out.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from millrace.clock import from_micros
from millrace.message import masked
from millrace.saga import Saga
from millrace.saga_instance import NOTHING, SagaEnd, SagaInstance, StepRecord
from millrace.saga_pattern import SagaPattern
from millrace.saga_progress import (
    DONE,
    DOUBT,
    FORWARD,
    KEPT,
    NOWHERE,
    PAUSED,
    SENT,
    UNDO_PAUSED,
    UNDOING,
    end_of,
    next_deadline,
)
from millrace.saga_table import Step

CURRENT = frozenset({SENT, PAUSED, UNDOING, UNDO_PAUSED})
TO_UNDO = frozenset({DONE, DOUBT, KEPT})
"""States of which something is to be undone on the way back, if the step has an undo."""
WORDS = {"": "to come", "undo_paused": "undo refused", "undo_skipped": "undone by hand", "skipped": "done by hand", "doubt": "in doubt"}


class SagaSummary(msgspec.Struct, frozen=True):
    """A saga in a list.

    Attributes:
        current: the steps, or undos, whose answers are waited for.
        deadline: when the next of them is judged.
    """

    service: str
    saga: str
    id: str
    status: str
    version: int
    current: tuple[str, ...]
    stuck: tuple[str, ...]
    started_at: datetime | None
    changed_at: datetime
    deadline: datetime | None


class SagaStep(msgspec.Struct, frozen=True):
    """A step of a saga, and where it stands.

    `place` is, whether the saga goes forward, goes back, is stuck or has ended:

        done         it has succeeded, or counts as that, and nothing is to be undone of it: what it did stays
        current      its answer, or that of its undo, is waited for, or it is stuck
        remaining    it is still to come; where the saga goes back, it is still to be undone
        over         it will not happen, or was undone
    """

    name: str
    place: str
    state: str
    attempts: int
    deadline: datetime | None
    stuck: bool
    pivot: bool


class SagaEntry(msgspec.Struct, frozen=True):
    """A line of a timeline; `id` is the message's, or who did it."""

    at: datetime
    what: str
    step: str
    name: str
    id: str


class SagaReport(msgspec.Struct, frozen=True):
    """Everything about a saga.

    Attributes:
        summary: as in a list.
        case: as it is now, personal data masked.
        back: why it is undone, or was.
        steps: of its definition, in order.
        done, current, remaining: names of steps by their `place`, see `SagaStep`.
        timeline: what happened, oldest first.
    """

    summary: SagaSummary
    case: dict[str, Any] | None
    back: SagaEnd | None
    steps: tuple[SagaStep, ...]
    done: tuple[str, ...]
    current: tuple[str, ...]
    remaining: tuple[str, ...]
    timeline: tuple[SagaEntry, ...]


def summary_of(service: str, saga: str, instance: SagaInstance) -> SagaSummary:
    """Return an instance as it stands in a list."""
    deadline = 0 if instance.ended else next_deadline(instance.steps.values())
    return SagaSummary(
        service=service,
        saga=saga,
        id=instance.id,
        status=instance.status,
        version=instance.version,
        current=tuple(name for name, record in instance.steps.items() if not instance.ended and record.state in CURRENT),
        stuck=instance.stuck,
        started_at=_moment(instance.started_at),
        changed_at=from_micros(instance.changed_at),
        deadline=_moment(deadline),
    )


def report_of(service: str, pattern: SagaPattern, instance: SagaInstance) -> SagaReport:
    """Return everything about an instance; of a version that nobody registers, what is stored."""
    saga = pattern.versions.get(instance.version) or (None if instance.started_at else pattern.saga)
    steps = _steps(saga, instance) if saga is not None else tuple(_step(name, r, False, instance) for name, r in instance.steps.items())
    places = {place: tuple(step.name for step in steps if step.place == place) for place in ("done", "current", "remaining")}
    return SagaReport(
        summary=summary_of(service, pattern.name, instance),
        case=_case(saga, instance),
        back=_end(saga, instance),
        steps=steps,
        **places,
        timeline=tuple(SagaEntry(from_micros(e.at), e.what, e.step, e.name, e.id) for e in instance.timeline),
    )


def _end(saga: Saga | None, instance: SagaInstance) -> SagaEnd | None:
    back = instance.back
    if back is None or saga is None:
        return SagaEnd(back.reason, back.step, back.message, back.detail) if back is not None else None
    return end_of(saga.table, back, instance.steps, timeline=instance.timeline)


def _case(saga: Saga | None, instance: SagaInstance) -> dict[str, Any] | None:
    if instance.case == NOTHING:
        return None
    return masked(saga.decode_case(instance.case)) if saga is not None else {"unknown": f"version {instance.version} is not registered"}


def _steps(saga: Saga, instance: SagaInstance) -> tuple[SagaStep, ...]:
    return tuple(_step(step.name, instance.steps.get(step.name, NOWHERE), step.pivot, instance, step) for step in saga.steps)


def _step(name: str, record: StepRecord, pivot: bool, instance: SagaInstance, step: Step | None = None) -> SagaStep:  # noqa: FBT001, PLR0917
    return SagaStep(
        name=name,
        place=_place(record, instance, step),
        state=WORDS.get(record.state, record.state.replace("_", " ")),
        attempts=record.attempts,
        deadline=_moment(record.deadline),
        stuck=record.stuck,
        pivot=pivot,
    )


def _place(record: StepRecord, instance: SagaInstance, step: Step | None) -> str:
    if not instance.ended:
        if record.state in CURRENT or record.stuck:
            return "current"
        if instance.back is None:
            return "done" if record.state in FORWARD else "remaining"
        if step is not None and step.undo is not None and record.state in TO_UNDO:
            return "remaining"
    return "done" if record.state in FORWARD else "over"


def _moment(micros: int) -> datetime | None:
    return from_micros(micros) if micros else None


__all__ = ["SagaEntry", "SagaReport", "SagaStep", "SagaSummary", "report_of", "summary_of"]
