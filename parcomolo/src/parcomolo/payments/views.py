"""The list of payments that people look at: one row per order for which the provider was asked."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from millrace import Context, View
from parcomolo.contracts.money import Money
from parcomolo.contracts.payments import PaymentFailed, PaymentRefunded, PaymentSucceeded


class Payment(View, key="payment_id", lookups=("order_id", "status"), sort="at", version=1):
    """A payment and what became of it; `at` is the time of its latest fact."""

    payment_id: str
    order_id: str
    amount: Money
    status: Literal["succeeded", "failed", "refunded"]
    at: datetime


def payment(view: Payment | None, event: PaymentSucceeded | PaymentFailed | PaymentRefunded, context: Context) -> Payment | None:
    """Show the latest fact; what is said again is none. A payment for which the provider was never asked is none."""
    if event.amount is None:
        return None
    match event:
        case PaymentSucceeded():
            status = "succeeded"
        case PaymentFailed():
            status = "failed"
        case PaymentRefunded():
            status = "refunded"
    if view is not None and view.status in (status, "refunded"):
        return None
    return Payment(payment_id=event.payment_id, order_id=event.order_id, amount=event.amount, status=status, at=context.time)
