"""The HTTP routes of orders: take one, look at it, change it, cancel it, say that it has arrived.

Neighbours: `requests` and `answers` are the shapes, `domain` decides; a command's answer is stored with it, so that a
repeat gets the same bytes.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from millrace import Application, Command, IdempotencyKey, Outcome, masked
from parcomolo.contracts.lines import StockLine
from parcomolo.contracts.orders import CancelOrder
from parcomolo.orders import requests
from parcomolo.orders.answers import (
    OrderAnswer,
    OrderPage,
    OrderStory,
    StoredEvent,
    answer_of,
    story_as_of,
    story_as_placed,
    story_from_view,
)
from parcomolo.orders.identity import canonical, new_id
from parcomolo.orders.messages import AddLine, DeliverOrder, PlaceOrder, RemoveLine
from parcomolo.orders.order import Order
from parcomolo.orders.price_lookup import PriceLookup
from parcomolo.orders.prices import priced
from parcomolo.orders.requests import CancelOrderRequest, CancelRequest, NoFields, OrderRequest, WantedLine
from parcomolo.orders.views import OrderStatus
from parcomolo.web.endpoint import Answer, Call, Endpoint, encode, ok
from parcomolo.web.idempotency import fingerprint, keys_of
from parcomolo.web.positions import catch_up, position_header
from parcomolo.web.problems import Problem, field_problem, not_found

ORDER_ID = {"order_id": "the order's id, a UUID"}
COMMAND_PROBLEMS = (403, 404, 409, 413, 422, 429, 503)


class OrderRoutes:
    """The handlers of the routes.

    Args:
        app: the running application; orders must be hosted in this process.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._prices = PriceLookup(app)

    # Placing

    async def place(self, call: Call) -> Answer:
        """Take an order."""
        request = call.read(OrderRequest)
        outcome, order_id = await self.accept(request, call)
        location = ("Location", f"/api/orders/{order_id}")
        return _told(outcome, location, status=201)

    async def accept(self, request: OrderRequest, call: Call) -> tuple[Outcome, str]:
        """Place an order once, however often it is asked for; return the outcome and the order's id."""
        keys = keys_of(call, "POST /api/orders", request)
        if request.order_id is not None:
            order_id = str(request.order_id)
            keys = (*keys, IdempotencyKey("order_id", order_id, fingerprint(request)))
        else:
            order_id = new_id()
        wanted = requests.stock_lines(request)
        prices = await self._prices.get_many(line.sku for line in wanted)
        command = PlaceOrder(
            order_id=order_id,
            customer_id=request.customer_id,
            lines=priced(wanted, prices),
            payment_token=request.payment.token,
            ship_to=requests.ship_to(request),
            review_seconds=request.review_seconds,
        )
        outcome = await self._app.execute(command, idempotency=keys, answer=_answer)
        return outcome, _placed_id(outcome) if outcome.repeated else order_id

    # Looking

    async def show(self, call: Call) -> Answer:
        """Return the materialised status, or the state as of a version."""
        query = call.ask(requests.OrderQuery)
        order_id = order_id_of(call)
        await catch_up(self._app, call, OrderStatus, key=order_id)
        return ok(await self.story(order_id, at_version=query.at_version))

    async def story(self, order_id: str, *, at_version: int | None = None) -> OrderStory:
        """Return an order with its story.

        Raises:
            Problem: there is none (404).
        """
        view = await self._app.views(OrderStatus).get(order_id)
        if at_version is not None:
            return await self._as_of(order_id, at_version, view)
        if view is not None:
            return story_from_view(view)
        placed = story_as_placed(await self._app.events(Order, order_id))
        if placed is None:
            raise not_found("order", order_id)
        return placed

    async def _as_of(self, order_id: str, version: int, view: OrderStatus | None) -> OrderStory:
        events = await self._app.events(Order, order_id)
        if not events:
            raise not_found("order", order_id)
        if version > len(events):
            detail = f"The order is at version {len(events)}."
            raise Problem(404, "unknown-version", "The order has no such version yet.", detail=detail)
        stream = await self._app.load(Order, order_id, version=version)
        assert stream is not None  # noqa: S101  # it has events
        return story_as_of(cast("Order", stream.state), events, view)

    async def browse(self, call: Call) -> Answer:
        """List orders."""
        query = call.ask(requests.OrdersQuery)
        await catch_up(self._app, call, OrderStatus)
        return ok(await self.page(query))

    async def page(self, query: requests.OrdersQuery) -> OrderPage:
        """Return some orders, newest first.

        Raises:
            Problem: the cursor is wrong (422).
        """
        wanted = {"status": query.status, "customer_id": query.customer_id}
        equals: dict[str, Any] = {name: value for name, value in wanted.items() if value}
        try:
            page = await self._app.views(OrderStatus).list(limit=query.limit, cursor=query.cursor, **equals)
        except ValueError as error:
            raise field_problem("cursor", str(error)) from error
        return OrderPage(items=tuple(answer_of(view.order) for view in page.items), next=page.next)

    async def events(self, call: Call) -> Answer:
        """List the stored events."""
        order_id = order_id_of(call)
        found = await self._app.events(Order, order_id)
        if not found:
            raise not_found("order", order_id)
        type_of = self._app.catalogue.type_of
        return ok(
            [
                {
                    "version": event.version,
                    "type": type_of(type(event.message)),
                    "id": event.envelope.id,
                    "at": event.envelope.time,
                    "data": masked(event.message),
                }
                for event in found
            ]
        )

    # Changing

    async def add_line(self, call: Call) -> Answer:
        """Add pieces of a product."""
        order_id, line = order_id_of(call), call.read(WantedLine)
        prices = await self._prices.get_many([line.sku])
        [added] = priced([StockLine(sku=line.sku, quantity=line.quantity)], prices)
        command = AddLine(order_id=order_id, sku=added.sku, name=added.name, quantity=added.quantity, unit_price=added.unit_price)
        return await self.do(call, command, "POST /api/orders/{order_id}/lines", line)

    async def remove_line(self, call: Call) -> Answer:
        """Remove pieces of a product."""
        order_id, query = order_id_of(call), call.ask(requests.RemoveQuery)
        command = RemoveLine(order_id=order_id, sku=call.params["sku"], quantity=query.quantity)
        return await self.do(call, command, "DELETE /api/orders/{order_id}/lines/{sku}", command)

    async def cancel(self, call: Call) -> Answer:
        """Cancel."""
        order_id, request = order_id_of(call), call.read(CancelRequest)
        command = CancelOrder(order_id=order_id, reason=request.reason)
        return await self.do(call, command, "POST /api/orders/{order_id}/cancel", request)

    async def cancel_order(self, call: Call) -> Answer:
        """Cancel, by the workshop's name for it."""
        request = call.read(CancelOrderRequest)
        command = CancelOrder(order_id=str(request.order_id), reason=request.reason)
        return await self.do(call, command, "POST /api/cancelOrder", request)

    async def deliver(self, call: Call) -> Answer:
        """Say that the parcel has arrived."""
        order_id = order_id_of(call)
        if call.body:
            call.read(NoFields)
        return await self.do(call, DeliverOrder(order_id=order_id), "POST /api/orders/{order_id}/deliver", None)

    async def do(self, call: Call, command: Command, route: str, request: object) -> Answer:
        """Give a command to an order, once per idempotency key, and return the order as it is then."""
        keys = keys_of(call, route, getattr(command, "order_id", ""), request)
        outcome = await self._app.execute(command, idempotency=keys, answer=_answer)
        return _told(outcome)


def order_id_of(call: Call) -> str:
    """Return the order that a path names.

    Raises:
        Problem: it is no UUID (404).
    """
    order_id = canonical(call.params["order_id"])
    if order_id is None:
        raise not_found("order", call.params["order_id"])
    return order_id


def _answer(outcome: Outcome) -> bytes:
    return encode(answer_of(outcome.state))


class _Placed(msgspec.Struct):
    order_id: str


_placed: Any = msgspec.json.Decoder(_Placed).decode


def _placed_id(outcome: Outcome) -> str:
    return _placed(outcome.answer or b"").order_id


def _told(outcome: Outcome, *headers: tuple[str, str], status: int = 200) -> Answer:
    return Answer(status=status, body=outcome.answer or b"", headers=[position_header(outcome), *headers])


EXAMPLE = {
    "customer_id": "ada",
    "lines": [{"sku": "cheese", "quantity": 2}],
    "payment": {"token": "tok_ok"},
    "ship_to": {"name": "Ada Lovelace", "city": "London"},
}


def endpoints(app: Application) -> tuple[Endpoint, ...]:
    """Return the routes."""
    routes = OrderRoutes(app)
    return (*_reading(routes), *_placing(routes), *_changing(routes), *_ending(routes))


def _reading(routes: OrderRoutes) -> tuple[Endpoint, ...]:
    return (
        Endpoint(
            method="GET",
            path="/api/orders",
            handler=routes.browse,
            summary="List orders",
            tag="orders",
            description="Newest first. A filter without a value counts as absent.",
            query=requests.OrdersQuery,
            answers={200: OrderPage},
            problems=(400, 409, 422, 503),
            positioned=True,
        ),
        Endpoint(
            method="GET",
            path="/api/orders/{order_id}",
            handler=routes.show,
            summary="Look at an order",
            tag="orders",
            description="Its materialised status with the timeline of every fact so far, from all services. An answer "
            "is causally closed: no status is shown before every fact that caused it. With `at_version` the state as "
            "of then.",
            query=requests.OrderQuery,
            answers={200: OrderStory},
            problems=(400, 404, 409, 422, 503),
            positioned=True,
            params=ORDER_ID,
        ),
        Endpoint(
            method="GET",
            path="/api/orders/{order_id}/events",
            handler=routes.events,
            tag="orders",
            summary="List an order's own stored events",
            description="Oldest first, with versions from 1.",
            answers={200: list[StoredEvent]},
            problems=(404, 503),
            params=ORDER_ID,
        ),
    )


def _placing(routes: OrderRoutes) -> tuple[Endpoint, ...]:
    return (
        Endpoint(
            method="POST",
            path="/api/orders",
            handler=routes.place,
            summary="Place an order",
            tag="orders",
            description="Prices are the catalogue's of this moment; the answer comes after the order is durable. A "
            "repeat of the same body with the same `Idempotency-Key` or `order_id` gets the first answer again, "
            "another body with it 422. Tokens of the simulated payment provider: tok_ok, tok_declined, "
            "tok_insufficient_funds, tok_timeout_then_ok, tok_timeout, tok_refund_fails_twice.",
            body=OrderRequest,
            answers={201: OrderAnswer},
            problems=(400, 403, 409, 413, 422, 429, 503),
            command=True,
            keyed=True,
            example=EXAMPLE,
        ),
    )


def _changing(routes: OrderRoutes) -> tuple[Endpoint, ...]:
    return (
        Endpoint(
            method="POST",
            path="/api/orders/{order_id}/lines",
            handler=routes.add_line,
            tag="orders",
            summary="Add pieces of a product",
            description="While the order is under review (`review_seconds`). The same product merges, the newest "
            "price wins for all its pieces.",
            body=WantedLine,
            answers={200: OrderAnswer},
            problems=(400, *COMMAND_PROBLEMS),
            command=True,
            keyed=True,
            params=ORDER_ID,
            example={"sku": "fries", "quantity": 1},
        ),
        Endpoint(
            method="DELETE",
            path="/api/orders/{order_id}/lines/{sku}",
            handler=routes.remove_line,
            tag="orders",
            summary="Remove pieces of a product",
            description="While the order is under review; at most what is there, and not the last line.",
            query=requests.RemoveQuery,
            answers={200: OrderAnswer},
            problems=COMMAND_PROBLEMS,
            command=True,
            keyed=True,
            params={**ORDER_ID, "sku": "the product"},
        ),
    )


def _ending(routes: OrderRoutes) -> tuple[Endpoint, ...]:
    return (
        Endpoint(
            method="POST",
            path="/api/orders/{order_id}/cancel",
            handler=routes.cancel,
            tag="orders",
            summary="Cancel an order",
            description="The reason is stored and published. 409 once shipped, cancelled or rejected, and when a "
            "cancellation was asked for before.",
            body=CancelRequest,
            answers={200: OrderAnswer},
            problems=(400, *COMMAND_PROBLEMS),
            command=True,
            keyed=True,
            params=ORDER_ID,
            example={"reason": "changed my mind"},
        ),
        Endpoint(
            method="POST",
            path="/api/orders/{order_id}/deliver",
            handler=routes.deliver,
            tag="orders",
            summary="Say that the parcel has arrived",
            description="Only when it was shipped, and once.",
            body=NoFields,
            body_optional=True,
            answers={200: OrderAnswer},
            problems=(400, *COMMAND_PROBLEMS),
            command=True,
            keyed=True,
            params=ORDER_ID,
        ),
        Endpoint(
            method="POST",
            path="/api/cancelOrder",
            handler=routes.cancel_order,
            tag="orders",
            summary="Cancel an order, by another name",
            description="The same as the route `cancel`.",
            body=CancelOrderRequest,
            answers={200: OrderAnswer},
            problems=(400, *COMMAND_PROBLEMS),
            command=True,
            keyed=True,
        ),
    )
