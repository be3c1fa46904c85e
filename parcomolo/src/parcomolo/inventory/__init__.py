"""Inventory: what is on hand, what is promised to an order, and what is left to sell."""
