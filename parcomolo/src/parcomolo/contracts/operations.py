"""Facts of the context operations, keyed by `order_id`."""

from __future__ import annotations

from millrace import Event


class DeliveryLate(Event, name="delivery-late", topic="operations", key="order_id"):
    """Delivery took longer than the limit, or has not happened in time. `seconds`: business time since placed."""

    order_id: str
    seconds: float
