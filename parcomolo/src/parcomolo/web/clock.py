"""The routes of the clock: what time it is in the shop, and moving that forward where it is virtual.

Reservations expire, deliveries become late and payments are tried again when the shop's time says so; who demonstrates or tests that moves
the time instead of waiting.

Neighbours: the toolkit's `Application.move_clock` does it for every process; `guard` says who may.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import msgspec

from millrace import Application, Clock, VirtualClock
from millrace.errors import ClockRefused
from parcomolo.configuration import CLOCK, CLOCKS
from parcomolo.web.endpoint import NOT_KEPT, Answer, Call, Endpoint, ok
from parcomolo.web.guard import Guard
from parcomolo.web.problems import Problem, field_problem

PATH = "/console/api/clock"
TAG = "console"
STEP_MAX_S = 3_200_000_000


class ClockRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where to move the clock: one of both."""

    advance_seconds: Annotated[float, msgspec.Meta(ge=0, le=STEP_MAX_S, description="forward by so many seconds")] | None = None
    to: Annotated[datetime, msgspec.Meta(tz=True, description="to this moment, RFC 3339, not before now")] | None = None


class ClockStatus(msgspec.Struct, kw_only=True):
    """What time it is in the shop."""

    clock: Annotated[str, msgspec.Meta(description="`system`, or `virtual`: one that can be moved")]
    now: datetime
    ahead_seconds: Annotated[float, msgspec.Meta(description="how far it is ahead of the machine's clock")] = 0.0


class ClockRoutes:
    """The handlers.

    Args:
        app: the running application.
        guard: who may change something.
    """

    def __init__(self, app: Application, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def show(self, call: Call) -> Answer:
        """Tell what time it is."""
        return self._answer()

    async def move(self, call: Call) -> Answer:
        """Move the clock forward."""
        self._guard.check(call)
        request = call.read(ClockRequest)
        if (request.advance_seconds is None) == (request.to is None):
            raise field_problem("body", "Expected either `advance_seconds` or `to`")
        step = None if request.advance_seconds is None else timedelta(seconds=request.advance_seconds)
        try:
            await self._app.move_clock(by=step, to=request.to)
        except ClockRefused as error:
            raise _refusal(error, "to" if request.advance_seconds is None else "advance_seconds") from error
        return self._answer()

    def _answer(self) -> Answer:
        clock = self._app.clock
        status = ClockStatus(clock=CLOCKS[isinstance(clock, VirtualClock)], now=clock.now(), ahead_seconds=ahead_of(clock).total_seconds())
        return ok(status, NOT_KEPT)


def ahead_of(clock: Clock) -> timedelta:
    """Return how far a clock was moved ahead of the machine's."""
    return clock.offset if isinstance(clock, VirtualClock) else timedelta()


def _refusal(error: ClockRefused, field: str) -> Problem:
    if error.reason != "not_virtual":
        return field_problem(field, str(error))
    detail = f"The shop has the clock of its machines. One that can be moved is chosen at the first start: {CLOCK.option} {CLOCKS[1]}."
    return Problem(409, "clock-not-virtual", "The clock cannot be moved.", detail=detail, reason="clock_not_virtual")


def endpoints(app: Application, guard: Guard) -> tuple[Endpoint, ...]:
    """Return the routes."""
    routes = ClockRoutes(app, guard)
    return (
        Endpoint(
            method="GET",
            path=PATH,
            handler=routes.show,
            summary="What time it is in the shop",
            description="The time by which facts are dated and timers are due; a virtual clock may be ahead of the machine's.",
            tag=TAG,
            answers={200: ClockStatus},
        ),
        Endpoint(
            method="POST",
            path=PATH,
            handler=routes.move,
            summary="Move the clock forward",
            description="For demonstrations and tests, with `serve --clock virtual`; 409 with any other clock. Every process follows, and "
            "the time is kept over restarts; a clock never goes back (422). What is due by then happens at once, in the order in which "
            "it is due. Leases, retention and the times of records in the log stay on real time.",
            tag=TAG,
            body=ClockRequest,
            answers={200: ClockStatus},
            problems=(400, 401, 403, 409, 413, 422, 503),
            example={"advance_seconds": 900},
        ),
    )
