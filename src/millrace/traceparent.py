"""How a trace travels: the W3C `traceparent` of a message.

It stands in the envelope, so it goes through journal, log and dead letters. It is there only when a tracer has begun a trace or a message
brought one along; bytes are what they are without. What a function says takes it over from the message it was given, so a process without
a tracer breaks no trace.

A timer's row has no field of its own for it. It stands behind the conversation, after a tab, in a form that no conversation ends with.

Neighbours: `unit_of_work` and `intake` carry it, `tracing` and `telemetry` make it.
"""

from __future__ import annotations

import re

import msgspec

Traceparent = str | msgspec.UnsetType | None
_FORM = r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
_BEHIND = re.compile(rf"\t({_FORM})\Z")
_WHOLE = re.compile(_FORM)


def is_sampled(traceparent: Traceparent) -> bool:
    """Return whether a message is part of a trace that is recorded."""
    return isinstance(traceparent, str) and bool(_WHOLE.fullmatch(traceparent)) and int(traceparent[-2:], 16) & 1 == 1


def behind(conversation: str, traceparent: Traceparent) -> str:
    """Return a conversation with the trace behind it, as a timer's row keeps them."""
    return f"{conversation}\t{traceparent}" if isinstance(traceparent, str) and _WHOLE.fullmatch(traceparent) else conversation


def apart(kept: str) -> tuple[str, str | msgspec.UnsetType]:
    """Return conversation and trace of a timer's row."""
    found = _BEHIND.search(kept)
    return (kept[: found.start()], found[1]) if found else (kept, msgspec.UNSET)


__all__ = ["Traceparent", "apart", "behind", "is_sampled"]
