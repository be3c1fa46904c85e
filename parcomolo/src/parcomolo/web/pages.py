"""The pages: the shop, the list of orders, an order; and the forms on them, for browsers without scripts.

A page shows what the API answers and sends what the API takes, so there is one set of rules. Forms are followed by a
redirect, which comes when the list has read what the form did.

Neighbours: the routes of orders do the work; `presentation` and the templates do the showing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any

import msgspec

from millrace import Application, Outcome, Position
from parcomolo.contracts.orders import CancelOrder
from parcomolo.inventory.stock import Stock
from parcomolo.orders.messages import DeliverOrder
from parcomolo.orders.prices import Price
from parcomolo.orders.requests import CancelRequest, OrderRequest, OrdersQuery
from parcomolo.orders.routes import ORDER_ID, OrderRoutes, order_id_of
from parcomolo.orders.views import OrderStatus
from parcomolo.web import presentation
from parcomolo.web.clock import ahead_of
from parcomolo.web.endpoint import Answer, Call, Endpoint, encode
from parcomolo.web.html import CONTENT_TYPE, error_page, form_of, page, see_other
from parcomolo.web.paging import return_path
from parcomolo.web.positions import catch_up
from parcomolo.web.problems import Problem, problem_of

GROUPS = ("burgers", "sides", "drinks")
PAGE = 20
TOPICS = ("orders", "inventory", "payments", "shipping")
REDIRECT_PATIENCE_S = 2.0
Showing = Callable[[Call], Awaitable[Answer]]


class ListQuery(OrdersQuery, kw_only=True):
    """The address of a page of the list; `back` leads to the pages before."""

    back: str = ""


class Pages:
    """The handlers.

    Args:
        app: the running application; orders must be hosted in this process.
        with_stock: inventory is hosted too, so the shop can say how much is left.
    """

    def __init__(self, app: Application, *, with_stock: bool) -> None:
        self._app = app
        self._orders = OrderRoutes(app)
        self._with_stock = with_stock

    async def shop(self, call: Call) -> Answer:
        """Show the products."""
        return page("storefront.html", products=await self._products())

    async def _products(self) -> list[dict[str, Any]]:
        prices = (await self._app.states(Price).list(limit=1000)).items
        left = await self._left([price.sku for price in prices]) if self._with_stock else {}
        return [{**msgspec.to_builtins(price), "available": left.get(price.sku)} for price in sorted(prices, key=_shelf)]

    async def _left(self, skus: Iterable[str]) -> dict[str, int]:
        rows = await self._app.states(Stock).get_many(skus)
        return {sku: row.available for sku, row in rows.items()}

    async def buy(self, call: Call) -> Answer:
        """Place the order that the form describes; a refusal is told in the shop, with the choices kept."""
        form = form_of(call)
        try:
            request = Call(method="POST", path="/api/orders", body=encode(presentation.buy_request(form)))
            _, order_id = await self._orders.accept(request.read(OrderRequest), call)
        except Exception as error:  # noqa: BLE001  # raised again unless it is a refusal
            return await self._shop_again(form, problem_of(error), error)
        return see_other(f"/orders/{order_id}")

    async def _shop_again(self, form: Any, problem: Problem, error: Exception) -> Answer:
        if problem.status == 500:
            raise error
        chosen = {**form, "quantity": form.get(f"quantity.{form.get('sku', '')}", "1")}
        products = await self._products()
        return page("storefront.html", http_status=problem.status, products=products, problem=problem.document(), chosen=chosen)

    async def orders(self, call: Call) -> Answer:
        """Show the list."""
        query = call.ask(ListQuery)
        await catch_up(self._app, call, OrderStatus)
        after = await self._cursor()
        asked = OrdersQuery(status=query.status, customer_id=query.customer_id, limit=PAGE, cursor=query.cursor)
        found = await self._orders.page(asked)
        here = call.path + (f"?{call.query.decode('latin-1')}" if call.query else "")
        return page(
            "orders.html",
            orders=msgspec.to_builtins(found.items),
            status=query.status or "",
            cursor=query.cursor or "",
            back=query.back,
            next=found.next,
            here=here,
            after=after,
            now=self._app.clock.now(),
            ahead_ms=ahead_of(self._app.clock) // timedelta(milliseconds=1),
        )

    async def order(self, call: Call) -> Answer:
        """Show an order."""
        return await self._order(call, "order.html")

    async def fragment(self, call: Call) -> Answer:
        """Show the body of an order's page."""
        return await self._order(call, "order_fragment.html")

    async def _order(self, call: Call, template: str) -> Answer:
        order_id = order_id_of(call)
        await catch_up(self._app, call, OrderStatus, key=order_id)
        after = await self._cursor(order_id)
        story = msgspec.to_builtins(await self._orders.story(order_id))
        return page(template, order=story, after=after)

    async def _cursor(self, order_id: str | None = None) -> str:
        """Return where to follow the facts from; asked before the orders are read, so that no fact falls in between."""
        return await self._app.cursor_behind(OrderStatus, TOPICS, key=order_id)

    async def cancel(self, call: Call) -> Answer:
        """Cancel, as the form asks."""
        form, order_id = form_of(call), order_id_of(call)
        request = Call(method="POST", path=call.path, body=encode({"reason": form.get("reason", "")}))
        command = CancelOrder(order_id=order_id, reason=request.read(CancelRequest).reason)
        return await self._back(await self._app.execute(command), form, order_id)

    async def deliver(self, call: Call) -> Answer:
        """Say that the parcel has arrived."""
        form, order_id = form_of(call), order_id_of(call)
        return await self._back(await self._app.execute(DeliverOrder(order_id=order_id)), form, order_id)

    async def _back(self, outcome: Outcome, form: Any, order_id: str) -> Answer:
        await self._settled(outcome.position, order_id)
        return see_other(return_path(form.get("return_to"), order_id))

    async def _settled(self, position: Position, order_id: str) -> None:
        try:
            await self._app.wait_for(OrderStatus, position, key=order_id, timeout=REDIRECT_PATIENCE_S)
        except TimeoutError:
            return


def _shelf(price: Price) -> tuple[int, str, int, str]:
    known = price.group in GROUPS
    return (GROUPS.index(price.group) if known else len(GROUPS), price.group, price.unit_price.amount, price.sku)


def _for_people(show: Showing) -> Showing:
    """Tell a refusal as a page."""

    async def shown(call: Call) -> Answer:
        try:
            return await show(call)
        except Exception as error:
            problem = problem_of(error)
            if problem.status == 500:
                raise
            return error_page(problem)

    return shown


def endpoints(app: Application, *, with_stock: bool) -> tuple[Endpoint, ...]:
    """Return the routes of the pages."""
    pages = Pages(app, with_stock=with_stock)

    def shown(path: str, show: Showing, **more: Any) -> Endpoint:
        answers = {200: CONTENT_TYPE}
        return Endpoint(method="GET", path=path, handler=_for_people(show), summary="A page", answers=answers, hidden=True, **more)

    def sent(path: str, take: Showing, **more: Any) -> Endpoint:
        return Endpoint(method="POST", path=path, handler=_for_people(take), summary="A form", answers={303: None}, hidden=True, **more)

    return (
        shown("/", pages.shop),
        shown("/orders", pages.orders),
        shown("/orders/{order_id}", pages.order, params=ORDER_ID),
        shown("/orders/{order_id}/fragment", pages.fragment, params=ORDER_ID),
        sent("/buy", pages.buy),
        sent("/orders/{order_id}/cancel", pages.cancel, params=ORDER_ID),
        sent("/orders/{order_id}/deliver", pages.deliver, params=ORDER_ID),
    )
