"""What the provider's answers mean to an order: values that go from the activities to the decisions about them.

Neighbours: `service` makes them of what the provider returned; `domain` decides what follows, in the transaction that notes the request as
answered.
"""

from __future__ import annotations

from typing import Literal

import msgspec

ChargeOutcome = Literal["ok", "declined_hard", "declined_soft", "unknown"]


class ChargeAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider said to one attempt."""

    order_id: str
    attempt: int
    outcome: ChargeOutcome
    reason: str = ""


class RefundAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider said to one attempt to refund."""

    order_id: str
    attempt: int
    refunded: bool
    reason: str = ""
