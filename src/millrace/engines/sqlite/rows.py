"""The tables of keyed rows: states, and first answers by idempotency key.

Neighbours: implements `States` and `Answers` of `ports`.
"""

from __future__ import annotations

from collections.abc import Sequence

from millrace.engines.sqlite.table import Table, json_text
from millrace.ports import StoredAnswer


class SqliteStates(Table):
    """See `ports.States`."""

    async def load(self, kind: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the rows that exist."""
        return dict(self._all("load_states", (kind, json_text(keys))))

    async def save(self, rows: Sequence[tuple[str, str, bytes]]) -> None:
        """Insert or replace (kind, key, value)."""
        self._many("save_states", rows)

    async def delete(self, rows: Sequence[tuple[str, str]]) -> None:
        """Remove (kind, key)."""
        self._many("delete_states", rows)

    async def page(self, kind: str, *, after: str, limit: int) -> list[tuple[str, bytes]]:
        """Return (key, value) above `after`."""
        return self._all("page_states", (kind, after, limit))


class SqliteAnswers(Table):
    """See `ports.Answers`."""

    async def find(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], StoredAnswer]:
        """Return what is stored for (scope, key)."""
        scopes: dict[str, list[str]] = {}
        for scope, key in keys:
            scopes.setdefault(scope, []).append(key)
        return {
            (scope, row[0]): StoredAnswer(*row[1:])
            for scope, names in scopes.items()
            for row in self._all("find_answers", (scope, json_text(names)))
        }

    async def add(self, rows: Sequence[tuple[str, str, StoredAnswer]]) -> None:
        """Store (scope, key, answer)."""
        self._many("add_answer", [(scope, key, *answer) for scope, key, answer in rows])

    async def seen(self, processor: str, ids: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return which foreign records a processor has had."""
        return {(source, name) for source, name in self._all("find_seen", (processor, json_text(ids)))}

    async def remember(self, processor: str, ids: Sequence[tuple[str, str]], *, now_micros: int) -> None:
        """Store foreign records."""
        self._many("add_seen", [(processor, source, name, now_micros) for source, name in ids])

    async def expire(self, *, before: int) -> int:
        """Forget answers and foreign ids from before a time."""
        self._all("expire_answers", (before,))
        gone = self._changes()
        self._all("expire_seen", (before,))
        return gone + self._changes()
