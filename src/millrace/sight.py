"""What an engine's tables can do for who looks after an installation, beside the ports: an ability, so another engine may lack it.

It answers from an index, so it costs no more than what it counts.

Neighbours: `ledger_watch` and `relay` look for holes in a journal; engines have the ability.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

from millrace.ports import Journal


class JournalRange(Protocol):
    """A journal that can count the rows of a range of positions."""

    async def rows_between(self, after: int, *, until: int) -> tuple[int, int]:
        """Return, as of one moment, the last position ever given and how many rows are there in (after, until]."""
        ...


def journal_range(journal: Journal) -> JournalRange | None:
    """Return the ability of a journal, None where it has none."""
    return cast("Any", journal) if callable(getattr(journal, "rows_between", None)) else None


__all__ = ["JournalRange", "journal_range"]
