"""Refuses tables of sagas that cannot work, before anything runs.

Neighbours: `saga_pattern` asks before it runs one, the diagram and the testing kit before they use one.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import msgspec

from millrace.errors import ConfigurationError
from millrace.message import Message, declaration
from millrace.saga import Saga
from millrace.saga_table import Step

SETTLING = {"done": "forward", "failed": "forward", "undone": "back", "undo_failed": "back", "kept": "back"}


def check_saga(saga: Saga) -> None:
    """See that a table can work.

    Raises:
        ConfigurationError: names every step and message that is wrong.
    """
    wrong = [*_cells(saga), *_pivots(saga), *_ends(saga), *_claims(saga), *_unreachable(saga)]
    if wrong:
        raise ConfigurationError(f"saga {saga.name!r}: " + "; ".join(wrong))
    _ = saga.table  # every message has the field that names its instance


def _cells(saga: Saga) -> Iterator[str]:
    if not saga.steps:
        yield "it has no steps"
    if not saga.starts:
        yield "nothing starts it"
    if not (issubclass(saga.case, msgspec.Struct) and saga.case.__struct_config__.frozen):
        yield f"its case {saga.case!r} is no msgspec Struct with frozen=True"
    pivot = next((step for step in saga.steps if step.pivot), None)
    for step in saga.steps:
        yield from _cells_of(saga, step, before_pivot=pivot is None or step.stage < pivot.stage)


def _cells_of(saga: Saga, step: Step, *, before_pivot: bool) -> Iterator[str]:
    who = f"step {step.name!r}"
    if step.send is None and not step.done:
        yield f"{who} sends nothing and waits for nothing; give it send= or done="
    if step.retry.attempts < 1 or step.undo_retry.attempts < 1:
        yield f"{who} has a retry of no attempts; 1 is the least"
    if step.undo is None:
        if step.interrupt or step.undo_anyway:
            yield f"{who} has {'interrupt' if step.interrupt else 'undo_anyway'}= and no undo= that could be sent"
        if step.given_up and step.send is not None and not step.nothing_to_undo:
            yield f"{who} has given_up= and no undo=, and whether it happened would stay unknown"
        for cell in ("undone", "undo_failed", "kept"):
            if getattr(step, cell):
                yield f"{who} names {cell}= and has no undo=, so nobody asks for that"
        last = before_pivot and step.stage == max(each.stage for each in saga.steps)
        if before_pivot and step.send is not None and not step.nothing_to_undo and not (last and not saga.cancels and not step.failed):
            yield f"{who} changes something and cannot be undone: give it undo=, or say with nothing_to_undo= why there is nothing to undo"
    elif step.nothing_to_undo:
        yield f"{who} has undo= and says that there is nothing to undo"
    elif step.behind:
        yield f"{who} has undo= and comes after the pivot, from where there is no way back"
    beside = [each.name for each in saga.steps if each.stage == step.stage and each is not step]
    if beside and (step.kept or step.pivot):
        yield f"{who} has {'pivot' if step.pivot else 'kept'}= and runs beside {', '.join(beside)}; let it stand alone"


def _pivots(saga: Saga) -> Iterator[str]:
    pivots = [step.name for step in saga.steps if step.pivot]
    if len(pivots) > 1:
        yield f"steps {', '.join(pivots)} all are pivots; there is one point of no return"


def _ends(saga: Saga) -> Iterator[str]:
    """Name what is said at an end and could not be: some ends are rare, and a takeover comes when there is trouble already."""
    for name, function, given in (
        ("completed", saga.completed, ("case",)),
        ("undone", saga.undone, ("case", "end")),
        ("taken_over", saga.taken_over, ("case", "reason")),
    ):
        if function is None or not hasattr(function, "__code__"):
            continue
        try:
            inspect.signature(function).bind(*given)
        except TypeError:
            yield f"ended({name}=...) is called with ({', '.join(given)}), which {function.__qualname__} does not take"


def _unreachable(saga: Saga) -> Iterator[str]:
    """Name undos that nothing leads to: no step on the way can fail or run out of time, and there is no cancel."""
    if saga.cancels:
        return
    turning = [
        step for step in saga.steps if not step.behind and (step.failed or step.given_up or (step.timeout is not None and step.done))
    ]
    for step in saga.steps:
        own = bool(step.given_up) or (step.timeout is not None and bool(step.done))
        later = any(each.stage >= step.stage and each is not step for each in turning)
        if step.undo is not None and not (own or later):
            yield f"the undo of step {step.name!r} is never reached: nothing after it can fail or run out of time, and nothing cancels"


def _claims(saga: Saga) -> Iterator[str]:
    special = {**dict.fromkeys(saga.starts, "starts it"), **dict.fromkeys(saga.cancels, "cancels it")}
    for cls in set(saga.starts) & set(saga.cancels):
        yield f"{cls.__name__} starts it and cancels it"
    for cls, claims in saga.table.claims.items():
        if cls in special:
            yield f"{cls.__name__} {special[cls]} and answers step {claims[0].step.name!r}"
        if _names_its_command(cls):
            continue
        for way in ("forward", "back"):
            found = [claim for claim in claims if SETTLING.get(claim.role) == way]
            if len(found) > 1:
                roles = " and ".join(f"{claim.role}= of step {claim.step.name!r}" for claim in found)
                yield f"{cls.__name__} is {roles}; when it arrives nobody could tell which is meant"
        yield from _same_step(cls, saga)


def _same_step(cls: type[Message], saga: Saga) -> Iterator[str]:
    for claim in saga.table.claims[cls]:
        if claim.role == "done" and cls in (*claim.step.undone, *claim.step.undo_failed):
            yield f"{cls.__name__} is done= and also answers the undo of step {claim.step.name!r}"


def _names_its_command(cls: type[Message]) -> bool:
    """Return whether messages of a class say which command they answer, as rejections do."""
    return "command" in cls.__struct_fields__ and declaration(cls).name != ""


__all__ = ["check_saga"]
