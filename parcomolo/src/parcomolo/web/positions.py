"""Reading one's own writes: a command's answer says where its facts are, and a later GET may ask to have seen them.

Neighbours: routes of every context; the header is `Millrace-Position`.
"""

from __future__ import annotations

from millrace import Application, Outcome, Position, State
from parcomolo.configuration import ORCHESTRATOR
from parcomolo.web.endpoint import Call
from parcomolo.web.problems import Problem, unavailable

HEADER = "Millrace-Position"
_NAME = b"millrace-position"
PATIENCE_S = 5.0


def position_header(outcome: Outcome) -> tuple[str, str]:
    """Return the header that says where the facts of a command are."""
    return HEADER, str(outcome.position)


def asked_position(call: Call) -> Position | None:
    """Return the position that a call wants to have been reached.

    Raises:
        Problem: it is malformed (400).
    """
    text = call.header(_NAME)
    if text is None:
        return None
    try:
        return Position.parse(text)
    except ValueError as error:
        raise Problem(400, "malformed-position", "The position cannot be read.", detail=f"{HEADER}: {error}") from error


async def follow_up(app: Application, call: Call) -> None:
    """Wait until whoever orchestrates here has read what a call names, and its commands are read: an order reaches stock by a command.

    Where it is orchestrated in another process, only what has come from there is seen. A consumer that stands still is not waited for long.
    """
    if asked_position(call) is not None and ORCHESTRATOR in app.hosts:
        for _ in ("the order", "the command"):
            await app.caught_up()


async def catch_up(app: Application, call: Call, kept: type[State], *, key: str | None = None) -> None:
    """Wait until a view, or the rows of a service, have read up to the position that a call names, if it names one.

    Raises:
        Problem: malformed (400), or not reached in time (503 with Retry-After).
        PositionUnknown: of another installation or epoch (409).
    """
    position = asked_position(call)
    if position is None:
        return
    try:
        await app.wait_for(kept, position, key=key, timeout=PATIENCE_S)
    except TimeoutError as error:
        detail = f"What you ask for has not read up to {HEADER} yet."
        raise unavailable(detail, kind="position-not-reached") from error
