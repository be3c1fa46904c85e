"""What the two ends of a zygote say to each other: one line of JSON per message.

Neighbours: `zygote` is the upper end, `forking` the lower one.
"""

from __future__ import annotations

from typing import Any

import msgspec

from millrace.testing.crash.counting import Trap


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What to run: `module:function`, its arguments, what is added to the environment, and the trap if there is one."""

    entry: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    trap: Trap | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the lower end tells: a start without a status, an end with one."""

    pid: int
    status: int | None = None


def line_of(message: Start | Report) -> bytes:
    """Return a message as a line."""
    return msgspec.json.encode(message, enc_hook=str) + b"\n"


def read_start(line: bytes) -> Start:
    """Return the order in a line."""
    return msgspec.json.decode(line, type=Start, dec_hook=_made)


def read_report(line: bytes) -> Report:
    """Return the report in a line."""
    return msgspec.json.decode(line, type=Report)


def _made(kind: type, value: Any) -> Any:
    return kind(value)
