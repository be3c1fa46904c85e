"""Facts of the context rewards, keyed by `customer_id`."""

from __future__ import annotations

from millrace import Event


class RewardGranted(Event, name="reward-granted", topic="rewards", key="customer_id"):
    """A customer's third, sixth, ninth ... order was delivered."""

    customer_id: str
    purchases: int
    reward_id: str
