"""Engines that behave like another one but for what somebody wants to watch or to break.

Neighbours: the conformance checks watch with these, `mutants` break with them; nothing here knows a particular engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from millrace.ports import Engine, LogParts


class Wrapped:
    """Something that behaves like what it wraps, but for what a subclass changes."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


Wrap = Callable[[Any], Any]


def _as_it_is(inner: Any) -> Any:
    return inner


class WrappedEngine(Wrapped):
    """An engine with some of its parts wrapped.

    Args:
        inner: the engine.
        log, leases: wrap these.
        tables: wraps a store's tables, those of readers and those of transactions.
        transaction: wraps a store's write transactions, after `tables`; finds the store they belong to as `store`.
    """

    def __init__(  # one keyword per part
        self, inner: Engine, *, log: Wrap = _as_it_is, leases: Wrap = _as_it_is, tables: Wrap = _as_it_is, transaction: Wrap = _as_it_is
    ) -> None:
        super().__init__(inner)
        self._log, self._leases, self._tables, self._transaction = log, leases, tables, transaction

    def log(self) -> LogParts:
        """Return the wrapped log with the faces as they are."""
        parts = self.inner.log()
        return parts._replace(log=self._log(parts.log))

    def leases(self, instance: str) -> Any:
        """Return the wrapped leases."""
        return self._leases(self.inner.leases(instance))

    def reading(self) -> Any:
        """Return what looks at the same place; its tables are wrapped, its log is as it is."""
        return WrappedEngine(self.inner.reading(), tables=self._tables)

    def store(self, service: str) -> Any:
        """Return a store with wrapped tables."""
        return _WrappedStore(self.inner.store(service), self._tables, self._transaction)


class _WrappedStore(Wrapped):
    """A store whose tables are wrapped."""

    def __init__(self, inner: Any, tables: Wrap, transaction: Wrap) -> None:
        super().__init__(inner)
        self._tables, self._transaction = tables, transaction

    async def open(self) -> None:
        """Open, and wrap the reader."""
        await self.inner.open()
        self.reader = self._tables(self.inner.reader)

    async def begin(self) -> Any:
        """Begin a wrapped transaction."""
        transaction = self._transaction(Wrapped(self._tables(await self.inner.begin())))
        transaction.store = self.inner
        return transaction


__all__ = ["Wrap", "Wrapped", "WrappedEngine"]
