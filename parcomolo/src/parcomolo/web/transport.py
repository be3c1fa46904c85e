"""Calls and answers on the wire: ASGI in, ASGI out, the same for every route.

What pages of other sites send is refused before it is read. Bodies above 1 MiB are refused with 413, but only after up
to 8 MiB have been read and dropped, so that a client that is still sending gets to see the answer. A stream ends when
its client has gone, and waits while the client is slow.

Neighbours: `application` calls `answer_to` with the endpoint that the path leads to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any, Protocol

from parcomolo.web.endpoint import Answer, Call, Endpoint, from_problem
from parcomolo.web.problems import Problem, problem_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_MAX = 1 << 20
DROPPED_MAX = 8 << 20
_log = logging.getLogger("parcomolo.http")
_NOSNIFF = (b"x-content-type-options", b"nosniff")
_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Spans(Protocol):
    """Who traces requests."""

    async def serve(self, endpoint: Endpoint, headers: list[tuple[bytes, bytes]], answering: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return the answer."""
        ...


async def answer_to(endpoint: Endpoint, scope: Scope, receive: Receive, *, spans: Spans | None = None) -> Answer:
    """Return the endpoint's answer; what it raises becomes a problem."""
    if spans is None:
        return await _answer(endpoint, scope, receive)
    return await spans.serve(endpoint, scope["headers"], partial(_answer, endpoint, scope, receive))


async def _answer(endpoint: Endpoint, scope: Scope, receive: Receive) -> Answer:
    try:
        call = await _call_of(endpoint, scope, receive)
        return await endpoint.handler(call)
    except Exception as error:  # noqa: BLE001  # the last place that can turn an error into an answer
        return refused(error, scope)


def refused(error: BaseException, scope: Scope) -> Answer:
    """Return the answer for an error; what nobody expected goes to the log, not to the client."""
    problem = problem_of(error)
    if problem.status == 500:
        _log.error("%s %s failed", scope.get("method"), scope.get("path"), exc_info=error)
    return from_problem(problem)


async def _call_of(endpoint: Endpoint, scope: Scope, receive: Receive) -> Call:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    call = Call(
        method=endpoint.method,
        path=scope["path"],
        params=scope.get("path_params") or {},
        query=scope["query_string"],
        headers=headers,
    )
    if endpoint.method in _CHANGING:
        if _is_cross_site(headers):
            raise Problem(403, "cross-site", "Another site sent this.", detail="Requests from pages of other sites are refused.")
        call.body = await _body(receive)
    return call


def _is_cross_site(headers: list[tuple[bytes, bytes]]) -> bool:
    """Return whether a page of another site sent this: browsers say so, older ones only by an `Origin` that is not our `Host`.

    The scheme counts for nothing, because a proxy in front may speak another one. Programs send neither header.
    """
    host, origins = b"", list[bytes]()
    for name, value in headers:
        if name == b"sec-fetch-site" and value == b"cross-site":
            return True
        if name == b"origin":
            origins.append(value)
        elif name == b"host":
            host = value
    return any(origin.lower().rpartition(b"://")[2] != host.lower() or b"://" not in origin for origin in origins)


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > BODY_MAX:
            raise _too_large(read_all=True)
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > DROPPED_MAX:
            raise _too_large(read_all=False)
        parts = [*parts, part] if size <= BODY_MAX else []
    if size > BODY_MAX:
        raise _too_large(read_all=True)
    return b"".join(parts)


def _too_large(*, read_all: bool) -> Problem:
    problem = Problem(413, "body-too-large", "The body is too large.", detail=f"At most {BODY_MAX} bytes are accepted.")
    problem.close = not read_all
    return problem


async def deliver(answer: Answer, receive: Receive, send: Send, *, head: bool = False) -> None:
    """Send an answer; of one to HEAD only status and headers, and a stream is not begun."""
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    headers += (b"content-type", answer.content_type.encode()), _NOSNIFF
    if answer.stream is None and answer.status not in (204, 304):
        headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if head or answer.stream is None:
        await send({"type": "http.response.body", "body": b"" if head else answer.body})
    else:
        await _deliver_stream(answer.stream, receive, send)


async def _deliver_stream(stream: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
    sending = asyncio.create_task(_send_all(stream, send))
    gone = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, gone):
            task.cancel()
        await asyncio.gather(sending, gone, return_exceptions=True)


async def _send_all(stream: AsyncIterator[bytes], send: Send) -> None:
    async for chunk in stream:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
