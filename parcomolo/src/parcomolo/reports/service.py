"""The service reports: two views, and nothing of its own to say."""

from __future__ import annotations

from millrace import Service
from parcomolo.reports.views import OrderCounts, ProductSales, count_all, order_counts, product_sales, products_of


def build() -> Service:
    """Return the service."""
    reports = Service("reports")
    reports.view(ProductSales, key=products_of)(product_sales)
    reports.view(OrderCounts, key=count_all)(order_counts)
    return reports
