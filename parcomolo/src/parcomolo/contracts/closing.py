"""By which facts stock, payment and shipping say that nothing of an order is left with them, whether it was undone or has left.

Whoever orchestrates puts into what it commands, as `closed`, whom it has heard say so by then; what is told of the command can then be told
after what had led to it.
"""

from __future__ import annotations

from collections.abc import Collection

CLOSED_BY = {
    "stock": frozenset({"stock-released", "out-of-stock", "stock-committed"}),
    "payment": frozenset({"payment-failed", "payment-refunded"}),
    "shipping": frozenset({"shipping-cancelled", "shipping-failed", "item-shipped"}),
}


def closed_by(facts: Collection[str], *, but: str = "") -> tuple[str, ...]:
    """Return who has nothing left of an order after facts of these names, one of the three left out."""
    return tuple(axis for axis, closing in CLOSED_BY.items() if axis != but and not closing.isdisjoint(facts))
