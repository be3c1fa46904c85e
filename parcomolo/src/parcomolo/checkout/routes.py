"""The HTTP routes of sagas: where each order's checkout stands, and an operator's ways out of one that is stuck.

Without orchestration there are no sagas: the list is empty, and nobody can be helped.

Neighbours: the toolkit's `Sagas` does the work; `guard` says who may change something.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from millrace import Application
from millrace.operators import Sagas
from parcomolo.web.endpoint import NOT_KEPT, Answer, Call, Cursor, Endpoint, Limit, Name, Text, ok
from parcomolo.web.guard import Guard
from parcomolo.web.problems import field_problem, judged

T = TypeVar("T")
SERVICE = "checkout"
PATH = "/api/sagas"
CONSOLE = "/console/api/sagas"
TAG = "checkout"
ID = {"id": "the saga's id, which is the order's"}
CHANGE_PROBLEMS = (401, 403, 404, 409, 413, 422, 503)
Status = Literal["running", "cancelling", "compensating", "stuck", "completed", "undone", "taken_over"]


class SagaQuery(msgspec.Struct, kw_only=True):
    """Which sagas."""

    status: Annotated[Status | None, msgspec.Meta(description="only those; by default all")] = None
    limit: Limit = 20
    cursor: Cursor | None = None


class SagaItem(msgspec.Struct, kw_only=True):
    """A saga. `current` are the steps, or their undos, whose answers are waited for until `deadline`; `stuck` those that need somebody."""

    id: str
    saga: str
    status: Status
    current: tuple[str, ...]
    stuck: tuple[str, ...]
    started_at: datetime | None
    changed_at: datetime
    deadline: datetime | None


class SagaPage(msgspec.Struct, kw_only=True):
    """Some sagas, by id; `next` is the cursor of the next page, null after the last."""

    items: tuple[SagaItem, ...]
    next: str | None


class SagaStepAnswer(msgspec.Struct, kw_only=True):
    """A step. `attempts` counts how often its command, or by now its undo, was sent; `deadline` is when the next one is due."""

    name: str
    place: Literal["done", "current", "remaining", "over"]
    state: str
    attempts: int
    deadline: datetime | None
    stuck: bool
    pivot: bool


class SagaLine(msgspec.Struct, kw_only=True):
    """Something that happened to a saga: what, to which step, by which message; `id` is the message's, or who did it."""

    at: datetime
    what: str
    step: str
    name: str
    id: str


class SagaAnswer(SagaItem, kw_only=True):
    """A saga in full. Steps that are `done` stay so; where it goes back, `remaining` are still to be undone, and `reason` says why."""

    reason: str | None
    failed_step: str | None
    case: dict[str, Any] | None
    done: tuple[str, ...]
    remaining: tuple[str, ...]
    steps: tuple[SagaStepAnswer, ...]
    timeline: tuple[SagaLine, ...]


class RetryRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Who asks for it."""

    by: Name = ""


class SkipRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Why, which step where several are stuck, and who asks for it."""

    reason: Text
    step: Text | None = None
    by: Name = ""


class TakeOverRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Why, and who takes over."""

    reason: Text
    by: Name = ""


class SagaRoutes:
    """The handlers.

    Args:
        app: the running application.
        guard: who may change something.
    """

    def __init__(self, app: Application, guard: Guard) -> None:
        self._guard = guard
        self._sagas = Sagas(app)

    async def browse(self, call: Call) -> Answer:
        """List sagas."""
        query = call.ask(SagaQuery)
        try:
            page = await self._sagas.list(status=query.status, limit=query.limit, cursor=query.cursor)
        except ValueError as error:
            raise field_problem("cursor", str(error)) from error
        items = tuple(msgspec.convert(item, SagaItem, from_attributes=True) for item in page.items)
        return ok(SagaPage(items=items, next=page.next), NOT_KEPT)

    async def show(self, call: Call) -> Answer:
        """Tell everything about one."""
        return _told(await _judged(call, self._sagas.show(call.params["id"])))

    async def retry(self, call: Call) -> Answer:
        """Send what is stuck again."""
        self._guard.check(call)
        request = call.read(RetryRequest) if call.body else RetryRequest()
        return _told(await _judged(call, self._sagas.retry(call.params["id"], by=request.by)))

    async def skip(self, call: Call) -> Answer:
        """Go on without a stuck step."""
        self._guard.check(call)
        request = call.read(SkipRequest)
        skipping = self._sagas.skip(call.params["id"], reason=request.reason, step=request.step, by=request.by)
        return _told(await _judged(call, skipping))

    async def take_over(self, call: Call) -> Answer:
        """End it for the machine."""
        self._guard.check(call)
        request = call.read(TakeOverRequest)
        return _told(await _judged(call, self._sagas.take_over(call.params["id"], reason=request.reason, by=request.by)))


def _judged(call: Call, work: Awaitable[T]) -> Awaitable[T]:
    return judged(work, what="saga", name=call.params["id"], field="reason")


def _told(report: Any) -> Answer:
    summary, back = report.summary, report.back
    answer = SagaAnswer(
        **{name: getattr(summary, name) for name in SagaItem.__struct_fields__},
        reason=(back.detail or back.message or back.reason) if back is not None else None,
        failed_step=(back.step or None) if back is not None else None,
        case=report.case,
        done=report.done,
        remaining=report.remaining,
        steps=tuple(msgspec.convert(step, SagaStepAnswer, from_attributes=True) for step in report.steps),
        timeline=tuple(msgspec.convert(line, SagaLine, from_attributes=True) for line in report.timeline),
    )
    return ok(answer, NOT_KEPT)


def endpoints(app: Application, guard: Guard) -> tuple[Endpoint, ...]:
    """Return the routes; those that change something only where there are sagas."""
    routes = SagaRoutes(app, guard)
    looking = (
        Endpoint(
            method="GET",
            path=PATH,
            handler=routes.browse,
            summary="List the sagas",
            description="One per order, by id. Where checkout is choreographed there are none.",
            tag=TAG,
            query=SagaQuery,
            answers={200: SagaPage},
            problems=(422, 503),
        ),
        Endpoint(
            method="GET",
            path=f"{PATH}/{{id}}",
            handler=routes.show,
            summary="Look at a saga",
            description="Its steps, with attempts and deadlines, and what has happened to it, oldest first. `done`: what the step did "
            "stays, whether the saga goes on, goes back, is stuck or has ended. `current`: an answer is waited for, or it is stuck. "
            "`remaining`: still to come, or on the way back still to be undone.",
            tag=TAG,
            answers={200: SagaAnswer},
            problems=(404, 503),
            params=ID,
        ),
    )
    return (*looking, *_ways_out(routes)) if exists(app) else looking


def exists(app: Application) -> bool:
    """Return whether checkout is orchestrated."""
    return any(service.name == SERVICE for service in app.services)


def _ways_out(routes: SagaRoutes) -> tuple[Endpoint, ...]:
    return (
        _change(
            "retry",
            routes.retry,
            "Send what is stuck again; its attempts begin anew.",
            body=RetryRequest,
            example={"by": "Ada"},
        ),
        _change(
            "skip",
            routes.skip,
            "Let the stuck step count as undone, or behind the pivot as done, and go on. The reason is kept.",
            body=SkipRequest,
            example={"reason": "refunded by hand", "by": "Ada"},
        ),
        _change(
            "take-over",
            routes.take_over,
            "End it for the machine: the order is on hold, nothing more is sent, and a person sees to the rest and settles the order. "
            "The reason is kept.",
            body=TakeOverRequest,
            example={"reason": "settled on the phone", "by": "Ada"},
        ),
    )


def _change(verb: str, handler: Callable[[Call], Awaitable[Answer]], text: str, *, body: type[msgspec.Struct], example: Any) -> Endpoint:
    return Endpoint(
        method="POST",
        path=f"{CONSOLE}/{{id}}/{verb}",
        handler=handler,
        summary=f"{verb.replace('-', ' ').capitalize()} a saga",
        description=f"{text} It holds in one transaction, beside running processes; 409 where nothing is stuck, or it has ended.",
        tag="console",
        body=body,
        body_optional=verb == "retry",
        answers={200: SagaAnswer},
        problems=(400, *CHANGE_PROBLEMS),
        params=ID,
        example=example,
    )
