"""The routes that take a simulated dependency down and up again, so that operators can rehearse what happens then.

Neighbours: `outages` keeps what is down; `guard` says who may.
"""

from __future__ import annotations

from typing import Any

import msgspec

from parcomolo.outages import Outages
from parcomolo.web.endpoint import NOT_KEPT, Answer, Call, Endpoint, ok
from parcomolo.web.guard import Guard
from parcomolo.web.problems import not_found

PATH = "/console/api/faults"
TAG = "console"


class FaultRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Whether the dependency is to be down."""

    down: bool


def endpoints(outages: Outages, guard: Guard) -> tuple[Endpoint, ...]:
    """Return the routes."""

    async def browse(call: Call) -> Answer:
        found = [{"dependency": name, "down": outage.down} for name, outage in outages.all().items()]
        return ok(found, NOT_KEPT)

    async def switch(call: Call) -> Answer:
        guard.check(call)
        name, request = call.params["dependency"], call.read(FaultRequest)
        if (outage := outages.all().get(name)) is None:
            raise not_found("dependency", name)
        outage.switch(down=request.down)
        return ok({"dependency": name, "down": request.down})

    return (
        Endpoint(
            method="GET",
            path=PATH,
            handler=browse,
            summary="List what can be taken down",
            description="The simulated dependencies, `provider` (of payments) and `carrier` (of shipping), and whether each is down.",
            tag=TAG,
            answers={200: list[dict[str, Any]]},
        ),
        Endpoint(
            method="POST",
            path=f"{PATH}/{{dependency}}",
            handler=switch,
            summary="Take a simulated dependency down, or up",
            description="While it is down every call of it fails, in every process on this data folder and over restarts. Orders wait: "
            "after a few failures the breaker opens, which the list of consumers, `/health` and `/metrics` show, and one message at a time "
            "finds out whether it is back. Nothing is lost and no message dies of it.",
            tag=TAG,
            params={"dependency": "`provider` or `carrier`"},
            body=FaultRequest,
            example={"down": True},
            answers={200: dict[str, Any]},
            problems=(400, 401, 403, 404, 413, 422),
        ),
    )
