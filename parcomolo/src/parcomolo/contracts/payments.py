"""Facts and commands of the context payments, keyed by `order_id`.

An order has one payment; its `payment_id` follows from the order's id and is the key at the provider.
"""

from __future__ import annotations

from typing import Annotated

from millrace import Command, Event, Personal
from parcomolo.contracts.money import Money

VOIDED_BECAUSE = frozenset({"order_cancelled", "order_settled", "reservation_expired", "out_of_stock"})
"""Reasons of `payment-failed` that no card is to blame for: the money was not wanted any more."""


class PaymentSucceeded(Event, name="payment-succeeded", topic="payments", key="order_id"):
    """The money was taken, once."""

    order_id: str
    payment_id: str
    amount: Money


class PaymentFailed(Event, name="payment-failed", topic="payments", key="order_id"):
    """No money is kept. `retryable`: the buyer may try again. No `amount`: the provider was never asked. `closed`: as the command said."""

    order_id: str
    payment_id: str
    reason: str
    retryable: bool = False
    amount: Money | None = None
    closed: tuple[str, ...] = ()


class PaymentRefunded(Event, name="payment-refunded", topic="payments", key="order_id"):
    """The money was given back; the provider has said so. `closed` is what the command said."""

    order_id: str
    payment_id: str
    amount: Money
    reason: str
    closed: tuple[str, ...] = ()


class RefundFailed(Event, name="refund-failed", topic="payments", key="order_id"):
    """The provider refused every attempt to give the money back; `refund-payment` tries again."""

    order_id: str
    payment_id: str
    reason: str


class PaymentCommandRejected(Event, name="command-rejected", topic="payments", key="order_id"):
    """The answer to a command from `payments.commands` that was refused."""

    order_id: str
    command: str
    reason: str


class ProcessPayment(Command, name="process-payment", topic="payments.commands", key="order_id"):
    """Take the amount; payments retries, not its caller."""

    order_id: str
    amount: Money
    token: Annotated[str, Personal]


class RefundPayment(Command, name="refund-payment", topic="payments.commands", key="order_id"):
    """Give back what was taken, and never take it again. `closed`: who else has nothing left of the order.

    `only_open`: what has been taken is left as it is; what has not been, is not taken any more, or given back if it is just being taken.
    """

    order_id: str
    reason: str
    closed: tuple[str, ...] = ()
    only_open: bool = False
