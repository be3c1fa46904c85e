"""Routes that list a view: a plain JSON array, newest first; the next page is named by a `Link` header.

Neighbours: routes whose answer is an array by contract.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec

from millrace import Application, Page, View
from parcomolo.web.endpoint import Answer, Call, Cursor, Endpoint, Limit, ok
from parcomolo.web.positions import catch_up
from parcomolo.web.problems import field_problem


class PageQuery(msgspec.Struct, kw_only=True):
    """Which page; the next one is in the header `Link`."""

    limit: Limit = 100
    cursor: Cursor | None = None


class OrderPageQuery(PageQuery, kw_only=True):
    """Those of one order, or all."""

    order_id: Annotated[str, msgspec.Meta(max_length=200)] | None = None


def list_of(app: Application, view: type[View], *, path: str, summary: str, tag: str, by_order: bool = False) -> Endpoint:
    """Return the route that lists a view; `by_order`, if it can be asked for the rows of one order, by its look-up `order_id`."""

    async def browse(call: Call) -> Answer:
        query = call.ask(OrderPageQuery if by_order else PageQuery)
        order_id = query.order_id if isinstance(query, OrderPageQuery) else None
        return await _listed(app, call, view, query, **({"order_id": order_id.lower()} if order_id else {}))

    return Endpoint(
        method="GET",
        path=path,
        handler=browse,
        summary=summary,
        tag=tag,
        description="Of one order, or all; newest first." if by_order else "Newest first.",
        query=OrderPageQuery if by_order else PageQuery,
        answers={200: list[view]},
        problems=(400, 409, 422, 503),
        positioned=True,
    )


async def _listed(app: Application, call: Call, view: type[View], query: PageQuery, **equals: str) -> Answer:
    """Answer with a page of a view.

    Raises:
        Problem: the cursor is wrong (422), or what the call wants to have been read is not (503).
    """
    await catch_up(app, call, view)
    try:
        page = await app.views(view).list(limit=query.limit, cursor=query.cursor, **equals)
    except ValueError as error:
        raise field_problem("cursor", str(error)) from error
    return ok(page.items, *_link(call, page, query, equals))


def _link(call: Call, page: Page, query: PageQuery, equals: dict[str, Any]) -> list[tuple[str, str]]:
    if page.next is None:
        return []
    address = f"{call.path}?{urlencode({**equals, 'limit': query.limit, 'cursor': page.next})}"
    return [("Link", f'<{address}>; rel="next"')]
