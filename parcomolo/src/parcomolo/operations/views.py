"""The list of alerts that operators look at."""

from __future__ import annotations

from datetime import datetime

from millrace import Context, View
from parcomolo.contracts.operations import DeliveryLate


class Alert(View, key="order_id", sort="at", version=1):
    """A late delivery; `at` is when it was found to be late."""

    order_id: str
    seconds: float
    at: datetime


def alert(view: Alert | None, event: DeliveryLate, context: Context) -> Alert | None:
    """Show each late delivery once."""
    return Alert(order_id=event.order_id, seconds=event.seconds, at=context.time) if view is None else None
