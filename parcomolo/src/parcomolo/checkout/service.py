"""The service checkout: it exists where checkout is orchestrated, and runs one saga per order, whose id is the order's."""

from __future__ import annotations

from millrace import Service
from parcomolo.checkout.saga import table


def build() -> Service:
    """Return the service."""
    checkout = Service("checkout")
    checkout.saga(table())
    return checkout
