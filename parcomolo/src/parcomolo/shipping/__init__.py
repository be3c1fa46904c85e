"""Shipping: books a parcel for a paid order, sends it after a while, and decides whether a cancellation still works."""
