"""Parcomolo: a commerce platform in which an order flows through inventory, payment and shipping by events.

Contexts are folders; they share `contracts` and nothing else. `bootstrap` puts them together, `cli` is the command line.
"""
