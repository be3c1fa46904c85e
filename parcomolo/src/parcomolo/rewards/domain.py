"""Counting delivered orders per customer. Pure.

Neighbours: follows `order-delivered` of orders; nobody here knows anything else about an order.
"""

from __future__ import annotations

from uuid import UUID, uuid5

import msgspec

from millrace import Event, State
from parcomolo.contracts.orders import OrderDelivered
from parcomolo.contracts.rewards import RewardGranted

EVERY = 3
"""A reward for this many purchases."""
_NAMESPACE = UUID("6f1d3c52-5f0e-4f0c-9a53-0a6b1c0e7d11")

Items = list[State | Event]


class Reward(msgspec.Struct, frozen=True, kw_only=True):
    """A reward and the number of purchases it was for."""

    reward_id: str
    purchases: int


class Rewards(State, key="customer_id"):
    """How many orders of a customer were delivered, and the rewards for them."""

    customer_id: str
    purchases: int = 0
    rewards: tuple[Reward, ...] = ()


class Purchase(State, key="order_id"):
    """An order that is counted; it is not counted again."""

    order_id: str
    customer_id: str


def count(event: OrderDelivered, rewards: Rewards | None, purchase: Purchase | None) -> Items:
    """Count a delivered order once; the 3rd, 6th, 9th ... of a customer earns a reward."""
    if purchase is not None:
        return []
    before = rewards or Rewards(customer_id=event.customer_id)
    purchases = before.purchases + 1
    counted = Purchase(order_id=event.order_id, customer_id=event.customer_id)
    if purchases % EVERY:
        return [counted, msgspec.structs.replace(before, purchases=purchases)]
    reward = Reward(reward_id=reward_id_of(event.customer_id, purchases=purchases), purchases=purchases)
    return [
        counted,
        msgspec.structs.replace(before, purchases=purchases, rewards=(*before.rewards, reward)),
        RewardGranted(customer_id=event.customer_id, purchases=purchases, reward_id=reward.reward_id),
    ]


def reward_id_of(customer_id: str, *, purchases: int) -> str:
    """Return the id of a customer's reward; the same for the same purchases, so it is granted once whoever repeats."""
    return str(uuid5(_NAMESPACE, f"{customer_id}/{purchases}"))
