"""Every error of the driver and the server, translated in one place.

What a caller does next decides the word: `conflict` is repeated by the writer at once, because another transaction was faster;
`locked`, `unreachable`, `full` and `read_only` pass or are mended by somebody; `failed` is a mistake in a statement, and where the
application wrote it, its message's failure.

A unique violation means two things. In one of our own statements it is a conflict: a plain insert says "I found this absent, under the
promise that nobody else adds it". In the application's own SQL it is the application's business.

Source of the codes: PostgreSQL documentation, appendix A.
"""

from __future__ import annotations

import psycopg

from millrace.errors import Conflict, StoreUnavailable

_CONFLICTS = {"40001", "40P01"}
_OWN_CONFLICTS = {"23505", "22012"}
"""A unique violation, and the division by zero with which a statement says that something is not as expected."""
_REASONS = {
    "25006": "read_only",
    "25P03": "unreachable",
    "53100": "full",
    "53200": "full",
    "53300": "unreachable",
    "53400": "full",
    "55P03": "locked",
    "57014": "locked",
    "58030": "unreachable",
    "58P01": "corrupt",
}
_CLASSES = {"08": "unreachable", "28": "unreachable", "3D": "unreachable", "57": "unreachable", "XX": "corrupt"}
_OWN_REASONS = {"42501": "unauthorized"}
"""In the application's own SQL these are its mistakes."""


def is_lost(error: psycopg.Error) -> bool:
    """Return whether the connection is what failed, so that the same work may succeed on another one."""
    state = error.sqlstate
    return (state is None and isinstance(error, psycopg.OperationalError)) or (state or "")[:2] == "08" or state in _ENDED


_ENDED = {"57P01", "57P02", "57P03", "57P05", "25P03"}


def translated(error: psycopg.Error, name: str, *, own: bool = True) -> StoreUnavailable:
    """Return a driver's error as the toolkit's.

    Args:
        error: what the driver raised.
        name: which store.
        own: whether the statement was one of the engine's.
    """
    state = error.sqlstate or ""
    # The server's sentence alone: its details quote values of rows, which are nobody's business in a log.
    detail = error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
    if state in _CONFLICTS or (own and state in _OWN_CONFLICTS):
        return Conflict(name, detail=detail)
    return StoreUnavailable(name, reason=_reason(error, state, own=own), detail=detail)


def _reason(error: psycopg.Error, state: str, *, own: bool) -> str:
    if not state:
        return "unreachable" if isinstance(error, psycopg.OperationalError) else "failed"
    if own and state in _OWN_REASONS:
        return _OWN_REASONS[state]
    if state == "57014" and not own:
        return "failed"
    return _REASONS.get(state) or _CLASSES.get(state[:2], "failed")
