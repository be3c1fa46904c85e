"""What every table of a store shares: where its statements run.

Readers run each statement by itself on whichever session is free. A write transaction collects statements that return nothing and sends
them with the next one that somebody waits for, so a whole turn is a few round trips. The order of statements is the order of calls
in both cases.

Neighbours: the table modules (`journal`, `rows`, `progress`, `documents`) derive from `Table`; `store` hands in a `Place`.
"""

from __future__ import annotations

from typing import Any, Protocol

from millrace.engines.postgres.arrays import Value
from millrace.engines.postgres.queries import Statement, Statements
from millrace.engines.postgres.session import Rows, Step


class Place(Protocol):
    """Where statements run.

    `writing` says that this is a write transaction, so that rows which are read are locked.
    """

    writing: bool
    sql: Statements
    schema: str

    async def ask(self, *steps: Step) -> Rows:
        """Run statements, after those that were put; return the rows of the last one."""
        ...

    def put(self, step: Step) -> None:
        """Run a statement whose rows nobody wants, before the next that is asked and before the commit."""
        ...

    def add_check(self, check: Check) -> None:
        """Let a check have its say before the commit."""
        ...


class Check(Protocol):
    """What must still hold when a transaction ends."""

    def steps(self) -> list[Step]:
        """Return statements that fail with a conflict where it does not."""
        ...


class Table:
    """Named statements on one place."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._writing = place.writing

    def _statement(self, query: str, *, locking: bool = False) -> Statement:
        return self._place.sql[f"{query} for update" if locking and self._writing else query]

    async def _all(self, query: str, *values: Value) -> list[Any]:
        return await self._place.ask(Step(self._place.sql[query], values))

    async def _locked(self, query: str, *values: Value) -> list[Any]:
        """Like `_all`; in a write transaction the rows stay as they are until it ends."""
        return await self._place.ask(Step(self._statement(query, locking=True), values))

    def _put(self, query: str, *values: Value) -> None:
        self._place.put(Step(self._place.sql[query], values))
