"""The HTTP routes of inventory: what is on the shelf, and correcting it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from millrace import Application, Outcome, Rejected
from parcomolo.contracts.inventory import AdjustStock, StockAdjusted
from parcomolo.contracts.lines import COUNTED_MAX
from parcomolo.inventory.stock import Stock
from parcomolo.web.endpoint import Answer, Call, Endpoint, Text, encode, ok
from parcomolo.web.idempotency import keys_of
from parcomolo.web.positions import catch_up, follow_up, position_header
from parcomolo.web.problems import field_problem, not_found

ALL = 1000
SKU = {"sku": "the product"}
Delta = Annotated[
    int,
    msgspec.Meta(
        ge=-COUNTED_MAX,
        le=COUNTED_MAX,
        description="pieces to add, or to take away when negative; not 0",
        extra_json_schema={"not": {"const": 0}},
    ),
]


class StockLevel(msgspec.Struct, kw_only=True):
    """A product on the shelf; `available` is what is on hand and not reserved."""

    sku: str
    initial: int
    on_hand: int
    reserved: int
    available: int


class AdjustRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A correction of what is on hand, and why."""

    delta: Delta
    reason: Text


class Adjustment(msgspec.Struct, kw_only=True):
    """What was corrected, and what is on hand after it."""

    sku: str
    delta: int
    on_hand: int
    reason: str


class StockRoutes:
    """The handlers.

    Args:
        app: the running application; inventory must be hosted in this process.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def _read_up(self, call: Call) -> None:
        await catch_up(self._app, call, Stock)
        await follow_up(self._app, call)

    async def browse(self, call: Call) -> Answer:
        """List all products."""
        await self._read_up(call)
        return ok([_level(row) for row in (await self._app.states(Stock).list(limit=ALL)).items])

    async def show(self, call: Call) -> Answer:
        """Return one product."""
        await self._read_up(call)
        row = await self._app.states(Stock).get(call.params["sku"])
        if row is None:
            raise not_found("product", call.params["sku"])
        return ok(_level(row))

    async def adjust(self, call: Call) -> Answer:
        """Correct what is on hand."""
        sku, request = call.params["sku"], call.read(AdjustRequest)
        if request.delta == 0:
            raise field_problem("delta", "expected a number other than 0")
        keys = keys_of(call, "POST /api/stock/{sku}/adjust", sku, request)
        command = AdjustStock(sku=sku, delta=request.delta, reason=request.reason)
        try:
            outcome = await self._app.execute(command, idempotency=keys, answer=_answer)
        except Rejected as refusal:
            if refusal.reason == "unknown_product":
                raise not_found("product", sku) from refusal
            raise
        return Answer(body=outcome.answer or b"", headers=[position_header(outcome)])


def _level(row: Stock) -> StockLevel:
    return StockLevel(sku=row.sku, initial=row.initial, on_hand=row.on_hand, reserved=row.reserved, available=row.available)


def _answer(outcome: Outcome) -> bytes:
    said = next(message for message in outcome.messages if isinstance(message, StockAdjusted))
    return encode(Adjustment(sku=said.sku, delta=said.delta, on_hand=said.on_hand, reason=said.reason))


def endpoints(app: Application) -> tuple[Endpoint, ...]:
    """Return the routes."""
    routes = StockRoutes(app)
    return (
        Endpoint(
            method="GET",
            path="/api/stock",
            handler=routes.browse,
            summary="List the stock",
            tag="inventory",
            description="By sku.",
            answers={200: list[StockLevel]},
            problems=(400, 409, 503),
            positioned=True,
        ),
        Endpoint(
            method="GET",
            path="/api/stock/{sku}",
            handler=routes.show,
            summary="Look at the stock of a product",
            tag="inventory",
            answers={200: StockLevel},
            problems=(400, 404, 409, 503),
            positioned=True,
            params=SKU,
        ),
        Endpoint(
            method="POST",
            path="/api/stock/{sku}/adjust",
            handler=routes.adjust,
            summary="Correct the stock of a product",
            description="422 when less would remain on hand than is reserved.",
            tag="inventory",
            body=AdjustRequest,
            answers={200: Adjustment},
            problems=(400, 403, 404, 413, 422, 429, 503),
            command=True,
            keyed=True,
            params=SKU,
            example={"delta": 10, "reason": "found in the cellar"},
        ),
    )
