"""What machines ask: is it well, is it ready, what are its figures."""

from __future__ import annotations

from typing import Any

from millrace import Application
from parcomolo.web.endpoint import NOT_KEPT, Answer, Call, Endpoint, ok
from parcomolo.web.problems import unavailable

METRICS = "text/plain; version=0.0.4; charset=utf-8"


def endpoints(app: Application) -> tuple[Endpoint, ...]:
    """Return the routes."""

    async def health(call: Call) -> Answer:
        found = app.health()
        return ok(found, NOT_KEPT, status=200 if found.status == "ok" else 503)

    async def ready(call: Call) -> Answer:
        if not app.ready():
            raise unavailable(
                "This process does not hold its partitions yet, or not every service has heard what the others said at the first start.",
                kind="not-ready",
            )
        return ok({"status": "ready"}, NOT_KEPT)

    async def metrics(call: Call) -> Answer:
        return Answer(body=app.metrics().encode(), content_type=METRICS)

    return (
        Endpoint(
            method="GET",
            path="/health",
            handler=health,
            summary="Is it well?",
            description="One entry per dependency, ledger and processor: state, lag, last error. Unhealthy is who has work "
            "and does not advance, and who has stopped itself; who rests because an operator has paused or stopped it, or because what it "
            "calls is down (`breaker open`, with `since` and `probe_at`), says so and is well. A service's ledger "
            "`differs` when something was lost: `last_error` names place and figures. "
            "Sagas that are stuck are an alarm: how many (`stuck`), `since` when, and `ids` of some; the process is well. "
            "`/ready` depends on neither.",
            answers={200: dict[str, Any], 503: dict[str, Any]},
        ),
        Endpoint(
            method="GET",
            path="/ready",
            handler=ready,
            summary="Is it ready?",
            description="This process holds its partitions and its timers are armed.",
            answers={200: dict[str, str]},
            problems=(503,),
        ),
        Endpoint(
            method="GET",
            path="/metrics",
            handler=metrics,
            summary="Figures for Prometheus",
            description="Names follow OpenTelemetry's semantic conventions for messaging where these have one, else they begin with "
            "`millrace_`; `docs/observability.md` lists them.",
            answers={200: METRICS},
        ),
    )
