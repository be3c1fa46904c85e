"""The two reports: quantities sold per product and price, and how orders ended.

A confirmation counts at once and is taken back when the order is undone later; facts that end an order say whether
there is something to take back, so nothing is looked up and a rebuild gives the same figures. (Seed 003, acceptance
T19.)
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from millrace import Context, Delete, View
from parcomolo.contracts.lines import Line
from parcomolo.contracts.money import Money
from parcomolo.contracts.orders import OrderCancelled, OrderConfirmed, OrderExpired, OrderPlaced, OrderRejected

ALL = "all"
SalesFact = OrderConfirmed | OrderCancelled | OrderRejected | OrderExpired
OutcomeFact = OrderPlaced | SalesFact


class ProductSales(View, key="product", sort="sku", version=1):
    """How many pieces of a product were sold at a price."""

    product: str
    sku: str
    unit_price: Money
    quantity: int = 0


def product_of(line: Line) -> str:
    """Return the key of the row a line counts in."""
    return f"{line.sku}|{line.unit_price.amount}|{line.unit_price.currency}"


def products_of(event: SalesFact) -> list[str]:
    """Return the rows that a fact changes: none when it undoes what was never confirmed."""
    return sorted({product_of(line) for line in _counted(event)})


def product_sales(view: ProductSales | None, event: SalesFact, context: Context) -> ProductSales | Delete | None:
    """Count the lines of one product and price; a row without sales goes."""
    lines = [line for line in _counted(event) if product_of(line) == context.key]
    sold = sum(line.quantity for line in lines) * (1 if isinstance(event, OrderConfirmed) else -1)
    before = view or ProductSales(product=context.key, sku=lines[0].sku, unit_price=lines[0].unit_price)
    after = replace(before, quantity=before.quantity + sold)
    return after if after.quantity else Delete(after)


def _counted(event: SalesFact) -> Iterable[Line]:
    return event.lines if isinstance(event, OrderConfirmed) or event.was_confirmed else ()


class OrderCounts(View, key="scope", version=1):
    """How many orders were placed, succeeded (confirmed and not undone), and failed (rejected or expired)."""

    scope: str = ALL
    total: int = 0
    succeeded: int = 0
    failed: int = 0


def count_all(_event: OutcomeFact) -> str:
    """Return the one row there is."""
    return ALL


def order_counts(view: OrderCounts | None, event: OutcomeFact) -> OrderCounts:
    """Count; an order that is open, or was cancelled, counts in the total only."""
    counts = view or OrderCounts()
    match event:
        case OrderPlaced():
            return replace(counts, total=counts.total + 1)
        case OrderConfirmed():
            return replace(counts, succeeded=counts.succeeded + 1)
        case OrderCancelled():
            return replace(counts, succeeded=counts.succeeded - event.was_confirmed)
        case OrderRejected() | OrderExpired():
            return replace(counts, succeeded=counts.succeeded - event.was_confirmed, failed=counts.failed + 1)
