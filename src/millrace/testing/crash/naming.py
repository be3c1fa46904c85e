"""Gives a statement the name under which it appears in the list of steps: what is written, and about what.

The engine's statements carry their names as a comment in front; what they are about (the type of a fact, the processor whose position
moves) is taken from their values. Statements of an application are named by verb and table. Names are free of ids, times and counts, so
that two runs of the same thing have the same names.

Neighbours: `tracing` asks for every statement, `postgres` for those of a server, `kafka` for records.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

_NAME = re.compile(r"\s*/\*\s*(\w+)\s*\*/")
_VERB = re.compile(
    r"(?:\s|/\*.*?\*/)*(insert|replace|update|delete|create|drop|alter)\b"
    r"(?:\s+or\s+\w+)?(?:\s+(?:into|from|table|index|unique\s+index))?(?:\s+if\s+(?:not\s+)?exists)?\s+\"?(\w+)",
    re.IGNORECASE | re.DOTALL,
)
_NESTED = re.compile(r"\s*/\*\s*\w+\s*\*/\s*with\b.*\b(?:insert\s+into|update|delete\s+from)\b", re.IGNORECASE | re.DOTALL)
"""A statement of the engine's that changes rows on the way to what it selects."""
_END = re.compile(r"\s*(?:commit|end)\b", re.IGNORECASE)


class _Head(msgspec.Struct):
    type: str = "?"
    kind: str = ""


_head = msgspec.json.Decoder(_Head).decode


def operation_of(sql: str, values: Any) -> str | None:
    """Return the name of a statement that writes, None for one that does not."""
    name = name_of(sql)
    about = _ABOUT.get(name or "")
    return f"{name} {about(values)}" if about is not None else name


def name_of(sql: str) -> str | None:
    """Return the same without what the statement is about."""
    verb, name = _VERB.match(sql), _NAME.match(sql)
    if verb is None:
        return name[1] if name is not None and _NESTED.match(sql) else None
    return f"{verb[1].lower()} {verb[2]}" if name is None else name[1]


def fact_in(value: Any) -> str:
    """Return what a value tells: the type of a message, as `orders.order-placed.v1`, or the kind of what has none."""
    try:
        head = _head(value)
    except (msgspec.MsgspecError, TypeError):
        return "(undecodable)"
    return head.type.partition(".")[2] or head.kind or "?"


def is_end(sql: str) -> bool:
    """Return whether a statement makes a transaction durable."""
    return _END.match(sql) is not None


def _type_in(column: int) -> Callable[[Any], str]:
    return lambda values: fact_in(values[column])


def _joined(*columns: int, by: str = " of ") -> Callable[[Any], str]:
    return lambda values: by.join(str(values[column]) for column in columns)


_ABOUT: Mapping[str, Callable[[Any], str]] = {
    "append_journal": _type_in(6),
    "publish": _type_in(2),
    "move_relay": _joined(0),
    "save_position": _joined(0, 1),
    "save_states": _joined(0),
    "delete_states": _joined(0),
    "set_timers": _joined(2, 0),
    "cancel_timers": _joined(2, 0),
    "save_held": _joined(0),
    "remove_held": _joined(0),
    "add_answer": _joined(0),
    "add_seen": _joined(0),
}
