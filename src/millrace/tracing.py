"""Where the toolkit tells a tracer what it does; nothing here knows OpenTelemetry (`telemetry` does).

Neighbours: `application`, `turn`, `workers` and `relay` call a `Tracing` where there is one: one comparison with None for each command,
turn, activity and append, and nothing per message where there is none. `traceparent` says how a trace travels.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from millrace.delivery import Delivery
from millrace.ports import JournalRow

T = TypeVar("T")


class TurnSpans(Protocol):
    """The spans of one turn."""

    def failed(self, delivery: Delivery, error: BaseException) -> None:
        """A message could not be handled in it."""
        ...

    def end(self) -> None:
        """Its transaction is durable."""
        ...

    def forget(self) -> None:
        """Nothing of it has happened; it may be prepared again."""
        ...


class Tracing(Protocol):
    """Who is told."""

    def executing(self, command: str, *, service: str, key: str) -> AbstractContextManager[str]:
        """Begin the execution of a command, under whatever runs now; gives the `traceparent` of what it says, empty for none."""
        ...

    def turn(self, group: str, deliveries: Sequence[Delivery]) -> TurnSpans | None:
        """Begin a turn; messages that are part of a sampled trace get a span each, and name it as their trace from here on."""
        ...

    async def calling(self, group: str, delivery: Delivery, call: Awaitable[T]) -> T:
        """Await an activity."""
        ...

    async def publishing(self, service: str, rows: Sequence[JournalRow], appending: Awaitable[T]) -> T:
        """Await an append of a relay."""
        ...


__all__ = ["Tracing", "TurnSpans"]
