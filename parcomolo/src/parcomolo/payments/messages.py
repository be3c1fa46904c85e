"""What payments says to itself: requests to the provider, and timers for asking again.

The provider is called outside of any transaction, by activities that read the requests; requests about one order are
worked on in order, so a void that follows a charge finds it.
"""

from __future__ import annotations

from typing import Annotated

from millrace import Command, Personal
from parcomolo.contracts.money import Money


class ChargeCard(Command, topic="internal.payments", key="order_id", internal=True):
    """Ask the provider to take the money; `payment_id` is the same in every attempt."""

    order_id: str
    payment_id: str
    amount: Money
    token: Annotated[str, Personal]
    attempt: int


class RefundCard(Command, topic="internal.payments", key="order_id", internal=True):
    """Ask the provider to give the money back."""

    order_id: str
    payment_id: str
    amount: Money
    attempt: int


class VoidCard(Command, topic="internal.payments", key="order_id", internal=True):
    """Make sure that the provider keeps no money under this key, now and later."""

    order_id: str
    payment_id: str


class ChargeAgain(Command, key="order_id", internal=True):
    """The time to ask for the money again has come."""

    order_id: str


class RefundAgain(Command, key="order_id", internal=True):
    """The time to try to give back again has come."""

    order_id: str
