"""What operations says to itself."""

from __future__ import annotations

from millrace import Command


class JudgeDelivery(Command, key="order_id", internal=True):
    """The delivery should have been seen by now; `seconds` since the order was placed."""

    order_id: str
    seconds: float
