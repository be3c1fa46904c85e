"""The tables of views: builds, documents, look-ups.

Neighbours: implements `Documents` and `Views` of `ports`.
"""

from __future__ import annotations

from collections.abc import Sequence

from millrace.engines.sqlite.table import Table, json_text
from millrace.ports import ViewInfo


class SqliteDocuments(Table):
    """See `ports.Documents`."""

    async def load(self, view: int, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the documents that exist."""
        return dict(self._all("load_documents", (view, json_text(keys))))

    async def save(self, view: int, rows: Sequence[tuple[str, bytes]]) -> None:
        """Insert or replace (key, document)."""
        self._many("save_documents", [(view, key, value) for key, value in rows])

    async def delete(self, view: int, keys: Sequence[str]) -> None:
        """Remove documents."""
        self._many("delete_documents", [(view, key) for key in keys])

    async def index(self, view: int, *, remove: Sequence[tuple[str, str, str, str]], add: Sequence[tuple[str, str, str, str]]) -> None:
        """Change look-up rows (field, value, sort, key)."""
        self._many("remove_lookups", [(view, *row) for row in remove])
        self._many("add_lookups", [(view, *row) for row in add])

    async def page(self, view: int, *, field: str, value: str, before: tuple[str, str] | None, limit: int) -> list[tuple[str, str, bytes]]:
        """Return (sort, key, document), newest first, below a cursor."""
        if before is None:
            return self._all("first_documents", (view, field, value, limit))
        return self._all("page_documents", (view, field, value, *before, limit))

    async def count(self, view: int) -> int:
        """Return how many documents a build has."""
        return self._all("count_documents", (view,))[0][0]


class SqliteViews(Table):
    """See `ports.Views`."""

    async def list(self) -> list[ViewInfo]:
        """Return every build."""
        return [ViewInfo(*row) for row in self._all("views")]

    async def add(self, name: str, version: int, state: str) -> ViewInfo:
        """Create a build."""
        return ViewInfo(self._all("add_view", (name, version, state))[0][0], name, version, state)

    async def mark(self, view: int, state: str) -> None:
        """Change a build's state."""
        self._all("mark_view", (state, view))

    async def drop(self, view: int) -> None:
        """Remove a build with its documents."""
        for query in ("drop_documents", "drop_lookups", "drop_view"):
            self._all(query, (view,))
