"""The service rewards."""

from __future__ import annotations

from millrace import Service
from parcomolo.contracts.rewards import RewardGranted
from parcomolo.rewards.domain import Purchase, Rewards, count


def build() -> Service:
    """Return the service."""
    rewards = Service("rewards", says=(RewardGranted,))
    rewards.handler(rewards=Rewards.by("customer_id"), purchase=Purchase.by("order_id"))(count)
    return rewards
