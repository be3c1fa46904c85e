"""Gives a statement the name under which it appears in the list of steps: what is written, and about what.

The engine's statements carry their names as a comment in front; what they are about (the type of a fact, the processor whose position
moves) is taken from their values. Statements of an application are named by verb and table. Names are free of ids, times and counts, so
that two runs of the same thing have the same names.

Neighbours: `tracing` asks for every statement.
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
_END = re.compile(r"\s*(?:commit|end)\b", re.IGNORECASE)


class _Head(msgspec.Struct):
    type: str = "?"


_head = msgspec.json.Decoder(_Head).decode


def operation_of(sql: str, values: Any) -> str | None:
    """Return the name of a statement that writes, None for one that does not."""
    verb = _VERB.match(sql)
    if verb is None:
        return None
    name = _NAME.match(sql)
    if name is None:
        return f"{verb[1].lower()} {verb[2]}"
    about = _ABOUT.get(name[1])
    return f"{name[1]} {about(values)}" if about is not None else name[1]


def is_end(sql: str) -> bool:
    """Return whether a statement makes a transaction durable."""
    return _END.match(sql) is not None


def _type_in(column: int) -> Callable[[Any], str]:
    """Name a fact by its type, as `orders.order-placed.v1`."""

    def name(values: Any) -> str:
        try:
            return _head(values[column]).type.partition(".")[2]
        except (msgspec.MsgspecError, TypeError):
            return "(undecodable)"

    return name


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
