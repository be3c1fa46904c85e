"""Problem details (RFC 9457): every refusal has a stable `type`, and wrong fields are named.

One place turns the toolkit's errors and the decoder's into problems; nothing of the inside leaves through it.

Neighbours: `endpoint` raises what the decoder found, `application` turns what routes raise into answers.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import Any, TypeVar

import msgspec

from millrace import (
    ConfigurationError,
    IdempotencyConflict,
    Overloaded,
    PositionUnknown,
    Rejected,
    StoreUnavailable,
    UnknownMessage,
    VersionConflict,
)
from millrace.errors import ConsumerRefused, InvalidEdit, LetterRefused, SagaRefused

T = TypeVar("T")

LINE_OF_TEXT = r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$(?!\n)"
LINE_OR_NOTHING = r"^[^\x00-\x1f\x7f]*$(?!\n)"
WORD = r"^[^\x00-\x20\x7f]+$(?!\n)"
"""Lines end where the text does: `$` alone matches before a last line break, too."""
_PATTERNS = {
    repr(LINE_OR_NOTHING): "must not hold line breaks or other control characters",
    repr(LINE_OF_TEXT): "must not be blank, nor hold line breaks or other control characters",
    repr(WORD): "must not hold spaces, line breaks or other control characters",
}
"""What the decoder asks of a text by a regular expression, in words."""
_MATCHING = "Expected `str` matching regex "

_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(?P<field>[^`]+)`")
_UNKNOWN = re.compile(r"contains unknown field `(?P<field>[^`]*)`")


class Problem(Exception):
    """A refusal.

    Args:
        status: of the answer.
        kind: last part of its `type`, kebab-case, stable.
        title: the same for every problem of the kind.
        detail: this occurrence, for people.
        more: extension members, for programs.
    """

    def __init__(self, status: int, kind: str, title: str, *, detail: str = "", **more: Any) -> None:
        super().__init__(f"{status} {kind}: {detail or title}")
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.more = more
        self.retry_after = 0
        self.allow = ""
        self.challenge = ""
        self.close = False

    def document(self) -> dict[str, Any]:
        """Return the members of the JSON document."""
        told = {"type": f"/problems/{self.kind}", "title": self.title, "status": self.status}
        if self.detail:
            told["detail"] = self.detail
        return {**told, **self.more}


class ProblemDetails(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Why a request was refused. `reason` is the word to match on of a state conflict, `field` names what is wrong."""

    type: str
    title: str
    status: int
    detail: str | None = None
    reason: str | None = None
    field: str | None = None


NOT_JSON = "The body is not JSON."


def body_problem(error: BaseException) -> Problem:
    """Return the problem that a decoder had with a body."""
    if isinstance(error, msgspec.ValidationError):
        return field_problem(*_located(str(error), "$"))
    if isinstance(error, RecursionError):
        return Problem(400, "malformed-json", NOT_JSON, detail="It is nested too deeply.")
    if isinstance(error, msgspec.DecodeError):
        return Problem(400, "malformed-json", NOT_JSON, detail=str(error))
    return Problem(400, "malformed-json", NOT_JSON, detail="It cannot be decoded as UTF-8 text.")


def query_problem(error: BaseException) -> Problem:
    """Return the problem that a query has."""
    if isinstance(error, msgspec.ValidationError):
        return field_problem(*_located(str(error), "$"))
    return Problem(422, "invalid-field", "A field is wrong.", detail="The query cannot be read.", field="query")


def field_problem(field: str, what: str) -> Problem:
    """Return the problem of a wrong field; without a name it is the whole body."""
    field, what = field or "body", _PATTERNS.get(what.removeprefix(_MATCHING), what)
    detail = f"{field}: {what}"
    return Problem(422, "invalid-field", "A field is wrong.", detail=detail, field=field)


def _located(text: str, root: str) -> tuple[str, str]:
    """Return field and complaint of the decoder's text, such as "Expected `int` - at `$.lines[0].quantity`".

    What it writes as `[...]` is some entry of a mapping, and names nothing.
    """
    found = _WHERE.match(text)
    what, path = (found["what"], found["path"] or root) if found else (text, root)
    inner = _MISSING.search(what) or _UNKNOWN.search(what)
    if inner:
        path = f"{path}.{inner['field']}"
    return path.removeprefix(root).split("[...]")[0].removeprefix("."), what


def not_found(what: str, name: str) -> Problem:
    """Return the problem of an id that nothing has."""
    return Problem(404, f"unknown-{what}", f"There is no such {what}.", detail=f"{what} {name!r} is not known here.")


async def judged(work: Awaitable[T], *, what: str, name: str, field: str) -> T:
    """Return what an operator's request leads to.

    Args:
        work: does it.
        what: a consumer, letter or saga; it names the problems.
        name: of the one that is meant.
        field: of the request, which is wrong where the toolkit does not say itself which one is.

    Raises:
        Problem: there is none of this name (404), it does not stand so that this can be done (409), or a field is wrong (422).
    """
    try:
        return await work
    except UnknownMessage as error:
        raise not_found(what, name) from error
    except (ConsumerRefused, LetterRefused, SagaRefused) as error:
        raise Problem(409, f"{what}-state", "That cannot be done now.", detail=str(error), reason=f"{what}_state") from error
    except InvalidEdit as error:
        raise field_problem(error.field, str(error).removeprefix(f"{error.field}: ")) from error
    except ConfigurationError as error:
        raise field_problem(field, str(error)) from error


def unavailable(detail: str, *, kind: str = "unavailable", retry_after: int = 1) -> Problem:
    """Return the problem of something that cannot be done at this moment."""
    problem = Problem(503, kind, "Not now.", detail=detail)
    problem.retry_after = retry_after
    return problem


_FIELDS = {
    "unknown_product": ("unknown-product", "There is no such product.", "sku"),
    "reason_required": ("invalid-field", "A field is wrong.", "reason"),
    "invalid_quantity": ("invalid-field", "A field is wrong.", "quantity"),
    "no_lines": ("invalid-field", "A field is wrong.", "lines"),
    "below_reserved": ("below-reserved", "Less would remain than is reserved.", "delta"),
}
"""Refusals that blame the request rather than the state: kind, title, field."""


_SENTENCES = {
    "invalid_quantity": "From 1 to 1,000,000 pieces of a product can be ordered at once.",
    "reason_required": "A reason is needed.",
    "no_lines": "An order has at least one line.",
    "below_reserved": "Customers have reserved more than would remain on the shelf.",
    "order_exists": "There is an order with this id already.",
    "order_cancelling": "The order is being cancelled, so its lines stay as they are.",
    "order_cancelled": "The order is cancelled, so its lines stay as they are.",
    "order_rejected": "The order was rejected, so its lines stay as they are.",
    "order_expired": "The order has expired, so its lines stay as they are.",
    "order_confirmed": "The order is confirmed, so its lines stay as they are.",
    "order_completed": "The order is completed, so its lines stay as they are.",
    "checkout_started": "Checkout has begun, so the lines stay as they are.",
    "last_line": "This is all that the order holds: cancel the order instead.",
    "not_in_order": "The order does not hold this product.",
    "more_than_ordered": "The order holds fewer pieces of this product.",
    "cancellation_already_requested": "The order is being cancelled already.",
    "on_hold": "Somebody looks after the order by hand, so nothing else is done with it until that is settled.",
    "not_on_hold": "Only an order that is on hold is settled: take its saga over first.",
    "not_confirmed": "The order was never confirmed, so it cannot be completed: settle it as cancelled.",
    "nothing_reserved": "Nothing is reserved for the order and nothing has left, so it cannot be completed: settle it as cancelled.",
    "already_shipped": "The parcel has left already, so the order cannot be cancelled.",
    "already_cancelled": "The order is cancelled already.",
    "already_rejected": "The order was rejected, so there is nothing to cancel.",
    "already_expired": "The order has expired, so there is nothing to cancel.",
    "already_completed": "The order is completed, so it cannot be cancelled.",
    "already_delivered": "The parcel was delivered already.",
    "not_shipped": "The parcel has not left yet, so it cannot be delivered.",
}
"""What a refusal says to people, by its reason; what is missing here tells the reason itself."""


def refusal(error: Rejected) -> Problem:
    """Return the problem of a business refusal."""
    words = error.reason.replace("_", " ").capitalize()
    if error.reason == "order_unknown":
        return not_found("order", str(error.detail.get("order_id", "")))
    if error.reason in _FIELDS:
        kind, title, field = _FIELDS[error.reason]
        named = f": {error.detail[field]}" if field in error.detail else ""
        detail = _SENTENCES.get(error.reason, f"{words}{named}.")
        return Problem(422, kind, title, detail=detail, field=field, **_plain(error.detail))
    return Problem(
        409,
        error.reason.replace("_", "-"),
        "That cannot be done now.",
        detail=_SENTENCES.get(error.reason, f"{words}."),
        reason=error.reason,
        **_plain(error.detail),
    )


def _plain(detail: dict[str, object]) -> dict[str, Any]:
    taken = {"type", "title", "status", "detail", "reason", "field"}
    return {name: msgspec.to_builtins(value) for name, value in detail.items() if name not in taken}


def problem_of(error: BaseException) -> Problem:
    """Return the problem for anything that a route raised; what nobody expected tells nothing of the inside."""
    match error:
        case Problem():
            return error
        case Rejected():
            return refusal(error)
        case IdempotencyConflict():
            detail = "The key was used before with another request; use a new key for a new request."
            return Problem(422, "idempotency-conflict", "The key belongs to another request.", detail=detail)
        case VersionConflict():
            return Problem(409, "version-conflict", "Somebody else was faster.", reason="version_conflict")
        case PositionUnknown():
            detail = "The position is of another installation or epoch; ask again without it."
            return Problem(409, "unknown-position", "The position is unknown here.", detail=detail)
        case Overloaded():
            problem = Problem(429, "overloaded", "Too much to do.", detail="Nothing was done; try again.")
            problem.retry_after = max(1, round(error.retry_after))
            return problem
        case StoreUnavailable():
            return unavailable(f"The store is {error.reason.replace('_', ' ')}; nothing was done.", retry_after=2)
        case _:
            return Problem(500, "internal", "Something went wrong here.", detail="The error is in the server's log.")
