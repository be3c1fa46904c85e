"""The HTTP route by which an operator says how an order ends that is on hold, because somebody has taken its checkout over.

Without orchestration there is nothing to take over, so no order is ever on hold, and the route does not exist.

Neighbours: `holding` decides; `checkout.routes` has the takeover; `guard` says who may change something.
"""

from __future__ import annotations

from millrace import Application
from parcomolo.orders.answers import OrderAnswer
from parcomolo.orders.messages import SettleOrder
from parcomolo.orders.requests import SettleRequest
from parcomolo.orders.routes import COMMAND_PROBLEMS, ORDER_ID, OrderRoutes, order_id_of
from parcomolo.web.endpoint import Answer, Call, Endpoint
from parcomolo.web.guard import Guard

PATH = "/console/api/orders/{order_id}/settle"


class Settling:
    """The handler.

    Args:
        app: the running application; orders must be hosted in this process.
        guard: who may change something.
    """

    def __init__(self, app: Application, guard: Guard) -> None:
        self._guard = guard
        self._orders = OrderRoutes(app)

    async def settle(self, call: Call) -> Answer:
        """Begin to end an order that is on hold."""
        self._guard.check(call)
        order_id, request = order_id_of(call), call.read(SettleRequest)
        command = SettleOrder(order_id=order_id, outcome=request.outcome, reason=request.reason, by=request.by)
        return await self._orders.do(call, command, f"POST {PATH}", request)


def endpoints(app: Application, guard: Guard) -> tuple[Endpoint, ...]:
    """Return the route."""
    return (
        Endpoint(
            method="POST",
            path=PATH,
            handler=Settling(app, guard).settle,
            summary="Settle an order that is on hold",
            description="An order is on hold from when its saga was taken over. 200: it is under way, or done. `cancelled` calls its "
            "parcel off and gives back its stock, `completed` books its stock out; the order stays `on_hold`, with the outcome in "
            "`settling`, until shipping and inventory have answered, which its timeline tells. It is back where it was, told by "
            "`order-settlement-refused`, where the parcel leaves at that moment, or the stock proves to be gone. Sent again it asks again; "
            "the other outcome takes its place. Money that was taken before is not touched: whoever took over has seen to it. What is only "
            "taken once the order is settled as cancelled is refunded. 409 with a `reason`: `not_on_hold`; `already_shipped`, cancelled "
            "after the parcel has left; `not_confirmed` or `nothing_reserved`, completed though it was never confirmed, or though its "
            "stock is gone and no parcel has left. The reason, and the name in `by`, are kept and published.",
            tag="console",
            body=SettleRequest,
            answers={200: OrderAnswer},
            problems=(400, 401, *COMMAND_PROBLEMS),
            command=True,
            keyed=True,
            params=ORDER_ID,
            example={"outcome": "cancelled", "reason": "paid back by bank transfer", "by": "Ada"},
        ),
    )
