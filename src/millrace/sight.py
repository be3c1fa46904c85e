"""What an engine's tables can do for who looks after an installation, beside the ports: abilities, so another engine may lack them.

Each answers from an index, so none costs more than what it returns or counts.

Neighbours: `ledger_watch` and `relay` look for holes in a journal, `message_trace` for what waits of a key; engines have the abilities.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

from millrace.ports import Journal, TimerRow, Timers


class JournalRange(Protocol):
    """A journal that can count the rows of a range of positions."""

    async def rows_between(self, after: int, *, until: int) -> tuple[int, int]:
        """Return, as of one moment, the last position ever given and how many rows are there in (after, until]."""
        ...


class KeyTimers(Protocol):
    """Timers that can be found by their key."""

    async def of_key(self, processor: str, *, key: str, limit: int) -> list[TimerRow]:
        """Return the timers of a key, earliest first."""
        ...


def journal_range(journal: Journal) -> JournalRange | None:
    """Return the ability of a journal, None where it has none."""
    return cast("Any", journal) if callable(getattr(journal, "rows_between", None)) else None


def key_timers(timers: Timers) -> KeyTimers | None:
    """Return the ability of timers, None where they have none."""
    return cast("Any", timers) if callable(getattr(timers, "of_key", None)) else None


__all__ = ["JournalRange", "KeyTimers", "journal_range", "key_timers"]
