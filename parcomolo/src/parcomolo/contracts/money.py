"""Money: an amount in minor units and an ISO 4217 currency.

Integers only: no float ever holds a price. Neighbours: every contract that names a price or a total.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

DEFAULT_CURRENCY = "EUR"


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """An amount in minor units (`1299` is 12.99) of an ISO 4217 currency."""

    amount: int
    currency: str = DEFAULT_CURRENCY

    def times(self, quantity: int) -> Money:
        """Return the price of `quantity` pieces."""
        return Money(amount=self.amount * quantity, currency=self.currency)

    def __str__(self) -> str:
        """Return it as people read it: `EUR 12.99`."""
        sign = "-" if self.amount < 0 else ""
        return f"{self.currency} {sign}{abs(self.amount) // 100}.{abs(self.amount) % 100:02d}"


def total_of(parts: Iterable[Money]) -> Money:
    """Return the sum; of nothing it is zero in the default currency.

    Raises:
        ValueError: the parts are in more than one currency.
    """
    money = tuple(parts)
    currencies = {part.currency for part in money} or {DEFAULT_CURRENCY}
    if len(currencies) > 1:
        raise ValueError(f"a total needs one currency, found {sorted(currencies)}")
    return Money(amount=sum(part.amount for part in money), currency=currencies.pop())
