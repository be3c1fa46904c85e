"""The routes of operators for dead letters: list, group, show and export; redrive, edit and discard.

Reading shows all services, personal data masked. Original bytes are for whoever may change something, because they are not masked. Changes
are made for services that run in this process.

Neighbours: the toolkit's `DeadLetters` does the work; `guard` says who may.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec

from millrace import Application
from millrace.operators import DeadLetters, LetterQuery
from parcomolo.web.endpoint import NOT_KEPT, Answer, Call, Cursor, Endpoint, Limit, Text, ok
from parcomolo.web.guard import Guard
from parcomolo.web.problems import Problem, field_problem, judged

T = TypeVar("T")
PATH = "/console/api/dead-letters"
TAG = "console"
LINES = "application/x-ndjson"
NAME = {"id": "of the letter, as the list shows it"}
PROBLEMS = (400, 401, 403, 404, 409, 413, 422, 503)

Name = Annotated[str, msgspec.Meta(max_length=1000)]
Since = Annotated[datetime, msgspec.Meta(tz=True, description="failed last at this moment or later, RFC 3339")]
Note = Annotated[Text, msgspec.Meta(description="why; kept with the letter")]


class Filter(msgspec.Struct, kw_only=True):
    """Which letters are meant; what is left out means any."""

    service: Name | None = None
    processor: Name | None = None
    topic: Name | None = None
    key: Name | None = None
    reason: Name | None = None
    fingerprint: Name | None = None
    since: Since | None = None

    def query(self) -> LetterQuery:
        """Return it as the toolkit takes it."""
        return LetterQuery(**{name: getattr(self, name) for name in Filter.__struct_fields__})


class Where(Filter, kw_only=True, forbid_unknown_fields=True):
    """A filter in a body, where a field that is written wrongly must not mean all letters."""


class Browsing(Filter, kw_only=True):
    """Which letters to list."""

    closed: bool = False
    """Those that were discarded, edited or published instead."""
    limit: Limit = 100
    cursor: Cursor | None = None


class Showing(msgspec.Struct, kw_only=True):
    """How to show a letter."""

    raw: bool = False
    """With the original bytes as base64, unmasked."""


class RedriveRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One letter by its `id`, all that a filter means, or the `run` of an answer to be gone on with."""

    id: Name | None = None
    where: Where | None = None
    run: Name | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000, description="at most so many now; `run` goes on")] = 1000


class EditRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """All `data` of the message, or some fields in `set`; `type` where the letter cannot be read."""

    data: dict[str, Any] | None = None
    set: dict[str, Any] | None = None
    type: Name | None = None
    note: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    by: Annotated[str, msgspec.Meta(max_length=200)] = "console"


class DiscardRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Why, and who says so."""

    note: Note
    by: Annotated[str, msgspec.Meta(max_length=200)] = "console"


class DeadLetterRoutes:
    """The handlers.

    Args:
        app: the running application.
        guard: who may change something, and see original bytes.
    """

    def __init__(self, app: Application, guard: Guard) -> None:
        self._app = app
        self._guard = guard
        self._letters = DeadLetters(app)

    async def browse(self, call: Call) -> Answer:
        """List letters, page by page."""
        asked = call.ask(Browsing)
        listing = self._letters.closed if asked.closed else self._letters.list
        listed = listing(asked.query(), limit=asked.limit, cursor=asked.cursor)
        page = await _judged(listed, field="cursor" if asked.cursor else "service")
        return ok({"items": [DeadLetters.document(each) for each in page.items], "next": page.next}, NOT_KEPT)

    async def groups(self, call: Call) -> Answer:
        """Count letters by what they failed of."""
        found = await _judged(self._letters.groups(call.ask(Filter).query()), field="service")
        return ok([DeadLetters.document(each) for each in found], NOT_KEPT)

    async def show(self, call: Call) -> Answer:
        """Show one letter."""
        raw = call.ask(Showing).raw
        if raw:
            self._guard.check(call)
        name = call.params["id"]
        return ok(DeadLetters.document(await _judged(self._letters.show(name), name=name), raw=raw), NOT_KEPT)

    async def export(self, call: Call) -> Answer:
        """Send letters with their original bytes."""
        self._guard.check(call)
        query = call.ask(Filter).query()
        await _judged(self._letters.list(query, limit=1), field="service")
        return Answer(content_type=LINES, headers=[NOT_KEPT], stream=self._letters.export(query))

    async def redrive(self, call: Call) -> Answer:
        """Make letters due."""
        self._guard.check(call)
        request = call.read(RedriveRequest)
        if sum(each is not None for each in (request.id, request.where, request.run)) != 1:
            raise field_problem("where", "name a letter by id, or letters by where (an empty object: all), or a run to go on with")
        if request.run is not None:
            return ok(await _judged(self._letters.resume(request.run, limit=request.limit), name=request.run, field="run"))
        wanted = self._here(request.id) if request.id is not None else request.where.query() if request.where is not None else ""
        redriving = self._letters.redrive(wanted, limit=request.limit, who="console")
        return ok(await _judged(redriving, name=request.id or "", field="where.service"))

    async def edit(self, call: Call) -> Answer:
        """Put another message into the place of a letter."""
        self._guard.check(call)
        name, asked = self._here(call.params["id"]), call.read(EditRequest)
        editing = self._letters.edit(name, data=asked.data, changes=asked.set, kind=asked.type, who=asked.by, note=asked.note)
        return ok(await _judged(editing, name=name))

    async def discard(self, call: Call) -> Answer:
        """Give a letter up."""
        self._guard.check(call)
        name, asked = self._here(call.params["id"]), call.read(DiscardRequest)
        discarding = self._letters.discard(name, note=asked.note, who=asked.by)
        return ok({"discarded": await _judged(discarding, name=name, field="note")})

    def _here(self, name: str) -> str:
        """Return the name of a letter.

        Raises:
            Problem: its service runs in other processes only (409).
        """
        service = name.partition(":")[0]
        if service in {each.name for each in self._app.services} and service not in self._app.hosts:
            detail = f"Service {service} does not run in this process; ask one in which it does. Here: {', '.join(self._app.hosts)}."
            raise Problem(409, "runs-elsewhere", "That runs elsewhere.", detail=detail, reason="runs_elsewhere")
        return name


def _judged(work: Awaitable[T], *, name: str = "", field: str = "data") -> Awaitable[T]:
    return judged(work, what="letter", name=name, field=field)


def endpoints(app: Application, guard: Guard) -> tuple[Endpoint, ...]:
    """Return the routes."""
    routes = DeadLetterRoutes(app, guard)
    return (*_reading(routes), *_changing(routes))


def _reading(routes: DeadLetterRoutes) -> tuple[Endpoint, ...]:
    return (
        Endpoint(
            method="GET",
            path=PATH,
            handler=routes.browse,
            summary="List dead letters",
            description="Of all services, oldest first; with `closed` those that were dealt with, in that order. `next` is the cursor "
            "of the next page.",
            tag=TAG,
            query=Browsing,
            answers={200: dict[str, Any]},
            problems=(422, 503),
        ),
        Endpoint(
            method="GET",
            path=f"{PATH}/groups",
            handler=routes.groups,
            summary="Group dead letters",
            description="By service, processor and fingerprint, which is the same for what failed in the same way: `count`, bytes "
            "(`size`), the first and last moment, and an `example`.",
            tag=TAG,
            query=Filter,
            answers={200: list[dict[str, Any]]},
            problems=(422, 503),
        ),
        Endpoint(
            method="GET",
            path=f"{PATH}/export",
            handler=routes.export,
            summary="Export dead letters",
            description="One JSON object a line, with the original bytes as base64, personal data included; so it takes the admin token.",
            tag=TAG,
            query=Filter,
            answers={200: LINES},
            problems=(401, 403, 422, 503),
        ),
        Endpoint(
            method="GET",
            path=f"{PATH}/{{id}}",
            handler=routes.show,
            summary="Show a dead letter",
            description="Or one that was closed: reason, fingerprint, attempts, handler, history, causes, how many wait behind it, and its "
            "data with personal fields masked. With `raw` the original bytes, which takes the admin token.",
            tag=TAG,
            query=Showing,
            answers={200: dict[str, Any]},
            problems=(401, 403, 404, 422, 503),
            params=NAME,
        ),
    )


def _changing(routes: DeadLetterRoutes) -> tuple[Endpoint, ...]:
    return (
        Endpoint(
            method="POST",
            path=f"{PATH}/redrive",
            handler=routes.redrive,
            summary="Redrive dead letters",
            description="They are due at once, each with all its attempts, and what waits behind them follows in order. One that dies "
            "again lies where it lay. The answer has how many of how many are `redriven`; until it is `finished`, its `run` goes on.",
            tag=TAG,
            body=RedriveRequest,
            answers={200: dict[str, Any]},
            problems=PROBLEMS,
            example={"where": {"service": "payments", "fingerprint": "2f55df7b2883"}},
        ),
        Endpoint(
            method="POST",
            path=f"{PATH}/{{id}}/edit",
            handler=routes.edit,
            summary="Edit a dead letter",
            description="Another message takes its place and is due at once; the original is kept as closed. The answer has the id of the "
            "`successor`.",
            tag=TAG,
            body=EditRequest,
            answers={200: dict[str, Any]},
            problems=PROBLEMS,
            params=NAME,
            example={"set": {"quantity": 2}, "note": "a typing error"},
        ),
        Endpoint(
            method="POST",
            path=f"{PATH}/{{id}}/discard",
            handler=routes.discard,
            summary="Discard a dead letter",
            description="It is kept as closed and counts as skipped; what waits behind it goes on.",
            tag=TAG,
            body=DiscardRequest,
            answers={200: dict[str, Any]},
            problems=PROBLEMS,
            params=NAME,
            example={"note": "ordered twice by mistake", "by": "ada"},
        ),
    )
