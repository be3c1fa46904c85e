"""Pages as answers: the strict policy they are sent with, and the error page.

Neighbours: `rendering` fills the templates; `pages` decides what is on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from parcomolo.web.endpoint import Answer, Call
from parcomolo.web.problems import Problem
from parcomolo.web.rendering import render

CONTENT_TYPE = "text/html; charset=utf-8"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = [("Content-Security-Policy", POLICY), ("Referrer-Policy", "same-origin"), ("Cache-Control", "no-store")]
FIELDS_MAX = 200


def page(name: str, /, *, http_status: int = 200, **context: object) -> Answer:
    """Return a filled template as an answer."""
    body = render(name, **context).encode()
    return Answer(status=http_status, body=body, content_type=CONTENT_TYPE, headers=list(HEADERS))


def error_page(problem: Problem) -> Answer:
    """Return a problem as a page for people."""
    answer = page("error.html", http_status=problem.status, problem=problem.document())
    if problem.retry_after:
        answer.headers.append(("Retry-After", str(problem.retry_after)))
    if problem.allow:
        answer.headers.append(("Allow", problem.allow))
    return answer


def see_other(path: str) -> Answer:
    """Return the answer that leads a browser on after a form was sent."""
    return Answer(status=303, content_type=CONTENT_TYPE, headers=[("Location", path)])


def form_of(call: Call) -> Mapping[str, str]:
    """Return the fields of a sent form; of a repeated field the last.

    Raises:
        Problem: it cannot be read (400).
    """
    try:
        return dict(parse_qsl(call.body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX))
    except ValueError as error:
        raise Problem(400, "malformed-form", "The form cannot be read.") from error
