"""Catalogue: which products there are, and what they cost now."""
