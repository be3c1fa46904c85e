"""The HTTP route of rewards."""

from __future__ import annotations

import msgspec

from millrace import Application
from parcomolo.rewards.domain import Reward, Rewards
from parcomolo.web.endpoint import Answer, Call, Endpoint, ok
from parcomolo.web.positions import catch_up


class CustomerRewards(msgspec.Struct, kw_only=True):
    """How many orders of a customer were delivered, and the rewards for them."""

    purchases: int
    rewards: tuple[Reward, ...]


def endpoints(app: Application) -> tuple[Endpoint, ...]:
    """Return the routes."""

    async def show(call: Call) -> Answer:
        await catch_up(app, call, Rewards)
        row = await app.states(Rewards).get(call.params["customer_id"])
        return ok(CustomerRewards(purchases=row.purchases if row else 0, rewards=row.rewards if row else ()))

    return (
        Endpoint(
            method="GET",
            path="/api/rewards/{customer_id}",
            handler=show,
            summary="Look at a customer's rewards",
            description="A customer nobody has heard of has none.",
            tag="rewards",
            answers={200: CustomerRewards},
            problems=(400, 409, 503),
            positioned=True,
            params={"customer_id": "the customer"},
        ),
    )
