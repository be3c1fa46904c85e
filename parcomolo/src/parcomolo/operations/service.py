"""The service operations."""

from __future__ import annotations

from millrace import Service
from parcomolo.contracts.operations import DeliveryLate
from parcomolo.contracts.orders import OrderDelivered, OrderPlaced
from parcomolo.operations import domain
from parcomolo.operations.domain import Items, Kept, Watch
from parcomolo.operations.views import Alert, alert
from parcomolo.settings import Settings


def build(settings: Settings) -> Service:
    """Return the service."""
    operations = Service("operations", says=(DeliveryLate,))
    operations.handler(watched=Watch.by("order_id"))(domain.judge_missing)
    operations.handler(watched=Watch.by("order_id"))(domain.leave)
    operations.view(Alert)(alert)

    @operations.handler(watched=Watch.by("order_id"))
    def watch(event: OrderPlaced, watched: Watch | None) -> Kept:
        return domain.watch(event, watched, limit=settings.late_delivery, grace=settings.late_grace)

    @operations.handler(watched=Watch.by("order_id"))
    def judge(event: OrderDelivered, watched: Watch | None) -> Items:
        return domain.judge_delivered(event, watched, limit=settings.late_delivery)

    return operations
