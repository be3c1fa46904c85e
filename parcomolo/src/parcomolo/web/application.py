"""The ASGI application: Litestar finds the endpoint for a path, `transport` does the rest.

Placing an order is found before the router is asked, because it is the one route whose speed counts. HEAD goes where
GET goes and keeps its name, because the server counts the bytes of every other answer. Whatever nobody serves is a
problem, or an error page for a browser.

Neighbours: `bootstrap` hands the endpoints of the hosted contexts in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp

from parcomolo.web.endpoint import Answer, Endpoint, from_problem
from parcomolo.web.html import error_page
from parcomolo.web.problems import Problem
from parcomolo.web.transport import Receive, Scope, Send, Spans, answer_to, deliver, refused

AnyRequest = Request[Any, Any, Any]


class WebApplication:
    """Serves endpoints.

    Args:
        endpoints: all of them.
        fast: (method, path) of those that are found without the router; paths without parameters only.
        spans: who traces requests, if anybody does.
    """

    def __init__(self, endpoints: Iterable[Endpoint], *, fast: Iterable[tuple[str, str]] = (), spans: Spans | None = None) -> None:
        self.endpoints = tuple(endpoints)
        found = {(endpoint.method, endpoint.path): endpoint for endpoint in self.endpoints}
        self._fast = {place: found[place] for place in fast if place in found}
        self._spans = spans
        self._router = _router(self.endpoints, spans)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._router(scope, receive, send)  # type: ignore[arg-type]
            return
        endpoint = self._fast.get((scope["method"], scope["path"]))
        if endpoint is not None:
            await deliver(await answer_to(endpoint, scope, receive, spans=self._spans), receive, send)
            return
        await self._router(scope, receive, send)  # type: ignore[arg-type]


def _router(endpoints: Iterable[Endpoint], spans: Spans | None) -> Litestar:
    methods: dict[str, set[str]] = defaultdict(set)
    for endpoint in endpoints:
        methods[endpoint.path] |= {endpoint.method, "OPTIONS", *(("HEAD",) if endpoint.method == "GET" else ())}
    allowed = {_pattern(path): ", ".join(sorted(found)) for path, found in methods.items()}

    def not_served(request: AnyRequest, error: Exception) -> Response[None]:
        return _Unserved(_unserved(request, error))

    return Litestar(
        [*(_options(path, allow) for path, allow in allowed.items()), *(_handler(endpoint, spans) for endpoint in endpoints)],
        openapi_config=None,
        logging_config=None,
        exception_handlers={Exception: not_served},
        debug=False,
    )


def _pattern(path: str) -> str:
    return path.replace("}", ":str}")


def _handler(endpoint: Endpoint, spans: Spans | None) -> HTTPRouteHandler:
    async def handle(request: AnyRequest) -> ASGIApp:
        return _sender(await answer_to(endpoint, request.scope, request.receive, spans=spans))  # type: ignore[arg-type]

    name = f"{endpoint.method} {endpoint.path}"
    methods: Any = ["GET", "HEAD"] if endpoint.method == "GET" else endpoint.method
    return HTTPRouteHandler(_pattern(endpoint.path), http_method=methods, status_code=200, name=name)(handle)  # type: ignore[arg-type]


def _options(pattern: str, allow: str) -> HTTPRouteHandler:
    async def handle() -> ASGIApp:
        return _sender(Answer(status=204, headers=[("Allow", allow)]))

    return HTTPRouteHandler(pattern, http_method="OPTIONS", status_code=200, name=f"OPTIONS {pattern}")(handle)


def _sender(answer: Answer) -> Any:
    async def send_it(scope: Scope, receive: Receive, send: Send) -> None:
        await deliver(answer, receive, send, head=scope["method"] == "HEAD")

    return send_it


class _Unserved(Response[None]):
    """An answer of ours where the router expects one of its own, whose headers would be other ones than those of all answers."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(None)
        self._answer = answer

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        """Return what sends it."""
        return _sender(self._answer)


def _unserved(request: AnyRequest, error: Exception) -> Answer:
    scope: Any = request.scope
    if isinstance(error, MethodNotAllowedException):
        problem = Problem(405, "method-not-allowed", "This path does not do that.", detail=f"{scope['method']} {scope['path']}")
        problem.allow = (error.headers or {}).get("allow", "")
    elif isinstance(error, HTTPException) and error.status_code == 404:
        problem = Problem(404, "unknown-path", "Nothing is here.", detail=f"{scope['path']} is not served.")
    elif isinstance(error, HTTPException) and error.status_code < 500:
        problem = Problem(error.status_code, "bad-request", "The request cannot be read.", detail=error.detail)
    else:
        return refused(error, scope)
    return error_page(problem) if wants_html(request) else from_problem(problem)


def wants_html(request: AnyRequest) -> bool:
    """Return whether a browser asks for a page."""
    return "text/html" in request.headers.get("accept", "") and not request.scope["path"].startswith("/api")
