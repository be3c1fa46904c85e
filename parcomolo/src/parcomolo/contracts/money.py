"""Money: an amount in minor units and an ISO 4217 currency.

Integers only: no float ever holds a price. It is written in one way wherever people read it.
Neighbours: every contract that names a price or a total.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

DEFAULT_CURRENCY = "EUR"
_SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥"}
_DECIMALS = {"JPY": 0, "KRW": 0, "ISK": 0, "BHD": 3, "KWD": 3, "TND": 3}


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """An amount in minor units (`1299` is 12.99) of an ISO 4217 currency."""

    amount: int
    currency: str = DEFAULT_CURRENCY

    def times(self, quantity: int) -> Money:
        """Return the price of `quantity` pieces."""
        return Money(amount=self.amount * quantity, currency=self.currency)

    def __str__(self) -> str:
        """Return it as people read it; see `written`."""
        return written(self.amount, self.currency)


def written(amount: int, currency: str) -> str:
    """Return an amount as people read it: `€1,299.00`, or `12.99 CHF` where the currency has no symbol of its own."""
    places = _DECIMALS.get(currency, 2)
    whole, rest = divmod(abs(amount), 10**places)
    number = f"{whole:,}" + (f".{rest:0{places}d}" if places else "")
    sign = "\N{MINUS SIGN}" if amount < 0 else ""
    symbol = _SYMBOLS.get(currency)
    return f"{sign}{symbol}{number}" if symbol else f"{sign}{number} {currency}"


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
