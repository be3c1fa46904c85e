"""A saga's table as a picture: a state diagram in Mermaid's language, which forges and many editors draw.

States are steps, an arrow is the message that leads on. Solid ways go forward, those by `undo` names go back; `stuck` is where operators
decide. Drawn from the object that is executed, so it cannot be out of date.

Neighbours: `Saga.diagram` returns it; documentation carries what it returns, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from millrace.message import Message, declaration
from millrace.saga_table import Step, Table


def diagram(table: Table) -> str:
    """Return the diagram, ending with a newline."""
    stages = table.stages
    lines = ["stateDiagram-v2", f"    [*] --> {_entry(stages[0])}: {_names(table.starts)}"]
    for number, stage in enumerate(stages):
        if len(stage) > 1:
            lines += _group(stage)
        lines += _forward(table, number)
        lines += _turning(table, number)
        lines += _back(table, number)
    lines.append("    completed --> [*]")
    if any("--> undone" in line for line in lines):
        lines.append("    undone --> [*]")
    return "\n".join([*lines, *_notes(table)]) + "\n"


def _forward(table: Table, number: int) -> Iterator[str]:
    """Draw how a stage is left forward, and where it is stuck."""
    stage = table.stages[number]
    done = _names(cls for step in stage for cls in step.done) or "sent"
    yield f"    {_entry(stage)} --> {_next(table, number)}: {done}"
    if stage[0].behind or (stage[0].pivot and stage[0].send is not None and stage[0].undo is None):
        yield f"    {_entry(stage)} --> stuck: refused or no answer, {stage[0].retry.attempts} times"


def _turning(table: Table, number: int) -> Iterator[str]:
    """Draw how a stage is left backward: what was refused has nothing to undo, what was given up has."""
    stage = table.stages[number]
    if stage[0].behind:
        return
    here, before, own = _entry(stage), _undone_before(table, number), _undone_from(table, number)
    decided = stage[0].pivot and stage[0].send is not None and stage[0].undo is None
    failed = [_names(cls for step in stage for cls in step.failed)]
    given_up = [_names(cls for step in stage for cls in step.given_up)]
    given_up += ["no answer"] if not decided and any(step.timeout is not None and step.done for step in stage) else []
    given_up += ["cancel"] if table.cancels and not decided else []
    if len(stage) > 1:
        failed, given_up = [], [*failed, *given_up]
    for words, there in ((failed, before), (given_up, own)):
        if any(words):
            yield f"    {here} --> {there}: {' / '.join(filter(None, words))}"


def _back(table: Table, number: int) -> Iterator[str]:
    """Draw how the undo of a stage is left."""
    undone = [step for step in table.stages[number] if step.undo is not None]
    if not undone:
        return
    here = _undo(undone)
    yield f"    {here} --> {_undone_before(table, number)}: {_names(cls for step in undone for cls in step.undone) or 'sent'}"
    if any(step.undone for step in undone):
        yield f"    {here} --> stuck: refused or no answer, {undone[0].undo_retry.attempts} times"
    if kept := _names(cls for step in undone for cls in step.kept):
        yield f"    {here} --> {_next(table, number)}: {kept}, cancel refused"


def _next(table: Table, number: int) -> str:
    stages = table.stages
    return _entry(stages[number + 1]) if number + 1 < len(stages) else "completed"


def _undone_from(table: Table, number: int) -> str:
    """Return the first undo on the way back from a stage, its own included."""
    for stage in reversed(table.stages[: number + 1]):
        if undone := [step for step in stage if step.undo is not None]:
            return _undo(undone)
    return "undone"


def _undone_before(table: Table, number: int) -> str:
    return _undone_from(table, number - 1) if number else "undone"


def _group(stage: Sequence[Step]) -> Iterator[str]:
    """Draw steps beside each other as regions of one state."""
    yield f"    state {_entry(stage)} {{"
    for number, step in enumerate(stage):
        if number:
            yield "        --"
        yield f"        {_identifier(step.name)}"
    yield "    }"


def _notes(table: Table) -> Iterator[str]:
    for step in table.steps:
        if step.pivot:
            yield f"    note right of {_identifier(step.name)}: pivot, no way back from here"
        elif step.nothing_to_undo:
            yield f"    note right of {_identifier(step.name)}: nothing to undo, {step.nothing_to_undo.replace(':', ',')}"


def _entry(stage: Sequence[Step]) -> str:
    return _identifier("_and_".join(step.name for step in stage))


def _undo(stage: Sequence[Step]) -> str:
    return "undo_" + _entry(stage)


def _identifier(name: str) -> str:
    return name.replace("-", "_")


def _names(classes: Iterable[type[Message]]) -> str:
    return ", ".join(dict.fromkeys(declaration(cls).name for cls in classes))


__all__ = ["diagram"]
