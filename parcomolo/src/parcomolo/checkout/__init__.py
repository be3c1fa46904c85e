"""Checkout: leads an order through stock, payment and shipping by commands, and back where that does not work."""
