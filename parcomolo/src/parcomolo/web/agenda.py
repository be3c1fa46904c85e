"""The routes of what waits for its time: timers by when they are due, schedules, and what operators do about them.

Of the services that run in this process; a change is a transaction in the store of its service and holds for every instance.

Neighbours: the toolkit's `Agenda` does the work; `guard` says who may.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec

from millrace import Application, UnknownMessage
from millrace.errors import ConsumerRefused
from millrace.operators import Agenda
from parcomolo.web.endpoint import NOT_KEPT, Answer, Call, Endpoint, Limit, ok
from parcomolo.web.guard import Guard
from parcomolo.web.problems import Problem, field_problem, not_found

TIMERS, SCHEDULES = "/console/api/timers", "/console/api/schedules"
TAG = "console"
Name = Annotated[str, msgspec.Meta(max_length=200)]
TimerName = Annotated[str, msgspec.Meta(max_length=4000, description="`id` of a timer as the list shows it")]
Change = Callable[[Agenda, str, str], Awaitable[None]]


class TimerQuery(msgspec.Struct, kw_only=True):
    """Which timers: of all services here, of one, of a processor, of a key; `after` the last one of the page before."""

    service: Name | None = None
    processor: Name | None = None
    key: Name | None = None
    after: TimerName | None = None
    limit: Limit = 100


class CancelRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which timer to forget."""

    id: TimerName


class AgendaRoutes:
    """The handlers.

    Args:
        app: the running application.
        guard: who may change something.
    """

    def __init__(self, app: Application, guard: Guard) -> None:
        self._agenda = Agenda(app)
        self._guard = guard

    async def timers(self, call: Call) -> Answer:
        """List what waits."""
        query = call.ask(TimerQuery)
        asked = {name: getattr(query, name) for name in ("service", "processor", "key", "after", "limit")}
        try:
            return ok(await self._agenda.timers(**asked), NOT_KEPT)
        except UnknownMessage as error:
            raise field_problem("after", str(error)) from error

    async def cancel(self, call: Call) -> Answer:
        """Forget one."""
        self._guard.check(call)
        request = call.read(CancelRequest)
        try:
            await self._agenda.cancel(request.id)
        except UnknownMessage as error:
            raise not_found("timer", request.id) from error
        except ConsumerRefused as error:
            raise Problem(409, "timer-of-schedule", "That cannot be done.", detail=str(error), reason="timer_of_schedule") from error
        return ok({"id": request.id, "cancelled": True})

    async def schedules(self, call: Call) -> Answer:
        """List what recurs."""
        return ok(await self._agenda.schedules(), NOT_KEPT)

    def changing(self, change: Change) -> Callable[[Call], Awaitable[Answer]]:
        """Return the handler of a verb."""

        async def handle(call: Call) -> Answer:
            self._guard.check(call)
            service, name = call.params["service"], call.params["name"]
            try:
                await change(self._agenda, service, name)
            except UnknownMessage as error:
                raise not_found("schedule", f"{service}/{name}") from error
            (state,) = [row for row in await self._agenda.schedules() if (row.service, row.schedule) == (service, name)]
            return ok(state)

        return handle


def endpoints(app: Application, guard: Guard) -> tuple[Endpoint, ...]:
    """Return the routes."""
    routes = AgendaRoutes(app, guard)
    return (
        Endpoint(
            method="GET",
            path=TIMERS,
            handler=routes.timers,
            summary="List the timers",
            description="That wait in the services of this process, those due first in front: `id`, whose they are, when they are `due` by "
            "the shop's clock, and the type of the message that they fire. Those of `kind` `forget` only forget a saga that has ended.",
            tag=TAG,
            query=TimerQuery,
            answers={200: list[dict[str, Any]]},
            problems=(422, 503),
        ),
        Endpoint(
            method="POST",
            path=f"{TIMERS}/cancel",
            handler=routes.cancel,
            summary="Cancel a timer",
            description="It is forgotten unless it has fired. The timer of a schedule is refused (409): pause the schedule.",
            tag=TAG,
            body=CancelRequest,
            answers={200: dict[str, Any]},
            problems=(400, 401, 403, 404, 409, 413, 422, 503),
            example={"id": "1767225600000000/inventory/handlers/0195-order/expiry"},
        ),
        Endpoint(
            method="GET",
            path=SCHEDULES,
            handler=routes.schedules,
            summary="List the schedules",
            description="Of the services of this process: when each is due `next`, was fired `last`, and how often.",
            tag=TAG,
            answers={200: list[dict[str, Any]]},
            problems=(503,),
        ),
        *(
            Endpoint(
                method="POST",
                path=f"{SCHEDULES}/{{service}}/{{name}}/{verb}",
                handler=routes.changing(change),
                summary=f"{verb.capitalize()} a schedule",
                description=text,
                tag=TAG,
                answers={200: dict[str, Any]},
                problems=(401, 403, 404, 413, 503),
                params={"service": "whose it is", "name": "the schedule"},
            )
            for verb, change, text in (
                ("pause", Agenda.pause, "Its moments pass until it is resumed, over restarts too."),
                ("resume", Agenda.resume, "It is fired again from its next moment on."),
            )
        ),
    )
