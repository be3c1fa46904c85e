"""Servers for development and tests, without containers: see `kafka` and `postgres`."""
