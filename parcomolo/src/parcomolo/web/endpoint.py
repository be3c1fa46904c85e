"""How a route is written: a call comes in, an answer goes out, and an `Endpoint` declares both for the description.

No web framework is named here, so the routes of a context are plain functions on values. Bodies and queries are
msgspec structs: what the description says is what the decoder checks.

Neighbours: every `routes` module makes endpoints; `application` serves them, `openapi` describes them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from http import HTTPStatus
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from parcomolo.contracts.lines import ORDERED_MAX
from parcomolo.web.problems import LINE_OF_TEXT, LINE_OR_NOTHING, WORD, Problem, body_problem, query_problem

T = TypeVar("T")
JSON = "application/json"
UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError, MemoryError)
NUMBERS = frozenset({"at_version", "limit", "quantity"})
QUERY_FIELDS_MAX = 100

Text = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=200, pattern=LINE_OF_TEXT),
]
"""A line of text that is not blank and holds no control characters."""
Name = Annotated[str, msgspec.Meta(max_length=200, pattern=LINE_OR_NOTHING)]
"""The name of a person, who need not give one; without control characters."""
Sku = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=WORD)]
"""The short name of a product."""
Quantity = Annotated[int, msgspec.Meta(ge=1, le=ORDERED_MAX)]
"""A number of pieces."""
Cursor = Annotated[str, msgspec.Meta(max_length=2000, description="`next` of the page before")]
Limit = Annotated[int, msgspec.Meta(ge=1, le=1000, description="at most this many")]
NOT_KEPT = ("Cache-Control", "no-store")
"""Of an answer that is true for a moment only."""


class Call(msgspec.Struct, kw_only=True):
    """One HTTP request, read completely. `params` are the parts of the path in braces, header names are lower case."""

    method: str
    path: str
    params: dict[str, str] = {}
    query: bytes = b""
    headers: list[tuple[bytes, bytes]] = []
    body: bytes = b""

    def header(self, name: bytes) -> str | None:
        """Return a header's value, the last one when it is repeated."""
        for key, value in reversed(self.headers):
            if key == name:
                return value.decode("latin-1").strip()
        return None

    def read(self, cls: type[T]) -> T:
        """Return the body.

        Raises:
            Problem: malformed JSON (400), a wrong field (422, which names it).
        """
        try:
            return decoder_of(cls)(self.body)
        except msgspec.ValidationError as error:
            raise body_problem(_malformation(self.body) or error) from error
        except UNREADABLE as error:
            raise body_problem(error) from error

    def ask(self, cls: type[T]) -> T:
        """Return the query; a text without a value counts as absent, a number without one is wrong.

        Raises:
            Problem: a wrong field (422, which names it).
        """
        try:
            pairs = parse_qsl(self.query.decode("latin-1"), keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
            given = {name: value for name, value in pairs if value or name in NUMBERS}
            return msgspec.convert(given, cls, strict=False)
        except (msgspec.MsgspecError, ValueError) as error:
            raise query_problem(error) from error


class Answer(msgspec.Struct, kw_only=True):
    """What is sent back: `body`, or chunks of `stream` as they come."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: list[tuple[str, str]] = []
    stream: AsyncIterator[bytes] | None = None


Handler = Callable[[Call], Awaitable[Answer]]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A route with everything that its description says.

    Args:
        method: GET, POST or DELETE.
        path: parts in braces are parameters.
        handler: makes the answer; raises `Problem` and the toolkit's errors.
        summary: a few words.
        description: what the summary leaves open.
        tag: the context it belongs to.
        body: type of the body; None when there is none.
        body_optional: an empty body counts as an empty object.
        query: struct of the query's fields.
        answers: status -> type of the JSON body, or a content type as text.
        problems: statuses of the problem details that can come.
        command: it changes something: takes `Idempotency-Key` (when `keyed`), answers with `Millrace-Position`.
        keyed: it takes `Idempotency-Key`.
        positioned: it takes `Millrace-Position` and waits for it.
        params: descriptions of the path's parameters.
        example: a body to try.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    description: str = ""
    tag: str = "platform"
    body: Any = None
    body_optional: bool = False
    query: type[msgspec.Struct] | None = None
    answers: dict[int, Any]
    problems: tuple[int, ...] = ()
    command: bool = False
    keyed: bool = False
    positioned: bool = False
    params: dict[str, str] = {}
    example: Any = None
    hidden: bool = False


def _malformation(body: bytes) -> BaseException | None:
    """Return what makes a body no JSON at all: it may stand behind the first wrong field."""
    try:
        msgspec.json.decode(body)
    except UNREADABLE as error:
        return error
    return None


@cache
def decoder_of(cls: Any) -> Callable[[bytes], Any]:
    """Return the strict decoder of a type."""
    return msgspec.json.Decoder(cls).decode


encode: Callable[[object], bytes] = msgspec.json.Encoder().encode


def ok(value: object, *headers: tuple[str, str], status: int = 200) -> Answer:
    """Return a value as JSON."""
    return Answer(status=status, body=encode(value), headers=list(headers))


def from_problem(problem: Problem) -> Answer:
    """Return the answer that tells a problem."""
    headers = [("Retry-After", str(problem.retry_after))] if problem.retry_after else []
    headers += [("Allow", problem.allow)] if problem.allow else []
    headers += [("WWW-Authenticate", problem.challenge)] if problem.challenge else []
    if problem.close:
        headers.append(("Connection", "close"))
    return Answer(status=problem.status, body=encode(problem.document()), content_type="application/problem+json", headers=headers)


def reason_phrase(status: int) -> str:
    """Return the standard words for a status."""
    return HTTPStatus(status).phrase
