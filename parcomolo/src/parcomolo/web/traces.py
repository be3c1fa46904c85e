"""Why is this message here? The conversation of a message, for operators.

Neighbours: the toolkit's `trace_message` finds it.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from millrace import Application, UnknownMessage
from millrace.operators import trace_message
from parcomolo.web.endpoint import NOT_KEPT, Answer, Call, Endpoint, ok
from parcomolo.web.problems import not_found

PATH = "/console/api/trace"
LIMIT_MAX = 1_000_000


class TraceQuery(msgspec.Struct, kw_only=True):
    """How far to look."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX, description="read at most so many records")] = 100_000


def endpoints(app: Application) -> tuple[Endpoint, ...]:
    """Return the routes."""

    async def show(call: Call) -> Answer:
        name = call.params["id"]
        try:
            found = await trace_message(app, name, limit=call.ask(TraceQuery).limit)
        except UnknownMessage as error:
            raise not_found("message, key or conversation", name) from error
        return ok(found, NOT_KEPT)

    return (
        Endpoint(
            method="GET",
            path=f"{PATH}/{{id}}",
            handler=show,
            summary="Why is this message here?",
            description="The whole conversation of a message, oldest cause first: `messages` with their direct `cause` and, for every "
            "consumer that takes them, the `state` (`handled`, `not read`, `skipped`, `retry`, `not_yet`, `behind`, `dead`), `attempts`, "
            "`due`, `deadline` and what they are `behind`; `timers` that wait; `searched` says how many records were read and what is "
            "`unread`. No content of messages is in it.",
            tag="console",
            query=TraceQuery,
            answers={200: dict[str, Any]},
            problems=(404, 422, 503),
            params={"id": "id of a message, name of a held one, or a key: an order's id, say"},
        ),
    )
