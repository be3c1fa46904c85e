"""Turns templates into pages.

Autoescape is on for every template, and a name that the context does not hold is an error, not an empty text.
"""

from datetime import UTC, datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from parcomolo.web import presentation
from parcomolo.web.paging import paging


def environment() -> Environment:
    """Make the environment with the filters and globals that the templates use."""
    made = Environment(
        loader=PackageLoader("parcomolo", "web/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(_filters())
    made.globals.update(_shown_everywhere())
    return made


def _filters() -> dict[str, Any]:
    return {
        "ago": presentation.ago,
        "grouped": presentation.grouped,
        "money": presentation.money,
        "pill": presentation.pill,
        "present": presentation.present,
        "stock_note": presentation.stock_note,
    }


def _shown_everywhere() -> dict[str, Any]:
    return {
        "asset": asset,
        "outcomes": presentation.OUTCOMES,
        "paging": paging,
        "picture": presentation.picture,
        "statuses": presentation.STATUSES,
    }


@cache
def _shared() -> Environment:
    return environment()


def asset(path: str) -> str:
    """Give the address of a static file."""
    return f"/static/{path}"


def render(name: str, /, **context: object) -> str:
    """Fill a template; `now` is the present moment unless the caller says otherwise."""
    context.setdefault("now", datetime.now(UTC))
    return _shared().get_template(name).render(context)
