"""The routes of operators for consumers: who reads what, and pausing, stopping and moving them.

Changes are made for services that run in this process, and reach every instance of them. Where an instance has not answered in time the
answer is 202: what was wanted is stored, and the instance obeys as soon as it looks.

Neighbours: the toolkit's `Consumers` does the work; `guard` says who may.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from millrace import Application
from millrace.operators import Consumers
from parcomolo.web.endpoint import NOT_KEPT, Answer, Call, Endpoint, ok
from parcomolo.web.guard import Guard
from parcomolo.web.problems import Problem, judged

T = TypeVar("T")
PATH = "/console/api/consumers"
TAG = "console"
LATE = "202 where an instance has not answered in time: it obeys as soon as it looks."
NAME = {"name": "the group as the list shows it; a view without its build"}
ANSWERS = {200: dict[str, Any], 202: dict[str, Any]}
PROBLEMS = (401, 403, 404, 409, 413, 422, 503)


class Patience(msgspec.Struct, kw_only=True):
    """How long to wait for the instances."""

    timeout: Annotated[float, msgspec.Meta(ge=0, le=60, description="seconds to wait for every instance to answer")] = 15.0


class ResetRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where to go on, and whether only to say so."""

    to: Literal["earliest", "latest"]
    dry_run: bool = False


class RewindRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The moment to go back to, and whether only to say so."""

    to: Annotated[str, msgspec.Meta(max_length=100, description="RFC 3339, of the past: 2026-01-31T12:00:00Z")]
    dry_run: bool = False


class WorkersRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How many activities each instance calls at once."""

    count: Annotated[int, msgspec.Meta(ge=0, le=10_000, description="0: as many as are declared")]


Wish = Callable[..., Awaitable[Any]]
WISHES: dict[str, tuple[Wish, str]] = {
    "pause": (Consumers.pause, "It takes nothing new and keeps its partitions, over restarts too."),
    "resume": (Consumers.resume, "It goes on after a pause."),
    "stop": (Consumers.stop, "It takes nothing new and gives its partitions up, over restarts too."),
    "start": (Consumers.start, "It goes on after a stop."),
    "restart": (Consumers.restart, "It is stopped and started."),
}
MOVED = (
    "Nothing has effect twice but in handlers declared replayable. The answer has, for each of the `partitions`, the offsets `before` and "
    "`after`, and"
)


class ConsumerRoutes:
    """The handlers.

    Args:
        app: the running application.
        guard: who may change something.
    """

    def __init__(self, app: Application, guard: Guard) -> None:
        self._app = app
        self._guard = guard
        self._consumers = Consumers(app)

    async def browse(self, call: Call) -> Answer:
        """List every partition of every consumer."""
        return ok(await self._consumers.list(), NOT_KEPT)

    def wishing(self, wish: Wish) -> Callable[[Call], Awaitable[Answer]]:
        """Return the handler of a verb."""

        async def change(call: Call) -> Answer:
            self._guard.check(call)
            name, patience = self._named(call), call.ask(Patience)
            return _answer(await _judged(name, wish(self._consumers, name, timeout=patience.timeout)))

        return change

    async def workers(self, call: Call) -> Answer:
        """Change how many activities are called at once."""
        self._guard.check(call)
        name, patience, request = self._named(call), call.ask(Patience), call.read(WorkersRequest)
        return _answer(await _judged(name, self._consumers.workers(name, request.count, timeout=patience.timeout), field="count"))

    async def close_breaker(self, call: Call) -> Answer:
        """Close the breaker."""
        self._guard.check(call)
        name, patience = self._named(call), call.ask(Patience)
        return _answer(await _judged(name, self._consumers.close_breaker(name, timeout=patience.timeout), field="name"))

    async def reset(self, call: Call) -> Answer:
        """Move positions to an end of the log."""
        self._guard.check(call)
        name, patience, request = self._named(call), call.ask(Patience), call.read(ResetRequest)
        moving = self._consumers.reset(name, to=request.to, dry_run=request.dry_run, timeout=patience.timeout)
        return _answer(await _judged(name, moving))

    async def rewind(self, call: Call) -> Answer:
        """Move positions back to a moment."""
        self._guard.check(call)
        name, patience, request = self._named(call), call.ask(Patience), call.read(RewindRequest)
        moving = self._consumers.rewind(name, to=request.to, dry_run=request.dry_run, timeout=patience.timeout)
        return _answer(await _judged(name, moving))

    def _named(self, call: Call) -> str:
        """Return the name of the consumer.

        Raises:
            Problem: its service runs in other processes only (409).
        """
        name = call.params["name"]
        service = name.partition(".")[0]
        if service in {each.name for each in self._app.services} and service not in self._app.hosts:
            detail = f"Service {service} does not run in this process; ask one in which it does. Here: {', '.join(self._app.hosts)}."
            raise Problem(409, "runs-elsewhere", "That runs elsewhere.", detail=detail, reason="runs_elsewhere")
        return name


def _judged(name: str, work: Awaitable[T], *, field: str = "to") -> Awaitable[T]:
    return judged(work, what="consumer", name=name, field=field)


def _answer(done: Any) -> Answer:
    return ok(done, status=200 if done.instances.complete else 202)


def endpoints(app: Application, guard: Guard) -> tuple[Endpoint, ...]:
    """Return the routes."""
    routes = ConsumerRoutes(app, guard)
    return (
        Endpoint(
            method="GET",
            path=PATH,
            handler=routes.browse,
            summary="List the consumers",
            description="Of all services: state and why, position, lag in records and seconds, what became of the records, who owns "
            "the partition.",
            tag=TAG,
            answers={200: list[dict[str, Any]]},
            problems=(503,),
        ),
        *(_change(verb, routes.wishing(wish), f"{text} The answer has `consumer`, `state` and") for verb, (wish, text) in WISHES.items()),
        _change(
            "workers",
            routes.workers,
            "So many activities are called at once in each instance, over restarts too; calls that run end as they are. The answer has "
            "`consumer`, `before`, `workers` and",
            summary="Change the workers of a consumer",
            body=WorkersRequest,
            example={"count": 16},
        ),
        _change(
            "close-breaker",
            routes.close_breaker,
            "Everything that waits for what the consumer calls is tried at once; if that is still down the breaker opens again. The answer "
            "has `consumer`, `breaker`, the `reason` for which it had opened, null where it was closed, and",
            summary="Close the breaker of a consumer",
        ),
        _change(
            "reset",
            routes.reset,
            f"Go on at the first record or behind the last. {MOVED}",
            body=ResetRequest,
            example={"to": "earliest", "dry_run": True},
        ),
        _change(
            "rewind",
            routes.rewind,
            f"Go back to a moment, by the time of appending. {MOVED}",
            body=RewindRequest,
            example={"to": "2026-01-31T12:00:00Z", "dry_run": True},
        ),
    )


def _change(
    verb: str,
    handler: Callable[[Call], Awaitable[Answer]],
    text: str,
    *,
    summary: str = "",
    body: type[msgspec.Struct] | None = None,
    example: dict[str, Any] | None = None,
) -> Endpoint:
    """Return the route of a verb; `text` says what it does and, up to the instances, what its answer has."""
    return Endpoint(
        method="POST",
        path=f"{PATH}/{{name}}/{verb}",
        handler=handler,
        summary=summary or f"{verb.capitalize()} a consumer",
        description=f"{text} `instances`: who `answered`, is `silent` or `failed`. {LATE}",
        tag=TAG,
        body=body,
        query=Patience,
        answers=ANSWERS,
        problems=PROBLEMS if body is None else (400, *PROBLEMS),
        params=NAME,
        example=example,
    )
