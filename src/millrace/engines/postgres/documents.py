"""The tables of views: builds, documents, look-ups.

Documents are guarded as states are, because events of several partitions may fold into one. What builds there are is read and changed
under a lock, so that of processes that start at once one makes the first build.

Neighbours: implements `Documents` and `Views` of `ports`.
"""

from __future__ import annotations

from collections.abc import Sequence

from millrace.engines.postgres.arrays import blobs, restored, restored_keys, scalar, texts
from millrace.engines.postgres.rows import Guarded
from millrace.engines.postgres.schema import lock_key
from millrace.engines.postgres.session import Step
from millrace.engines.postgres.table import Table
from millrace.ports import ViewInfo


class PostgresDocuments(Guarded):
    """See `ports.Documents`."""

    _expectation = "expect_no_documents"

    async def load(self, view: int, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the documents that exist, locked in a write transaction."""
        found = restored_keys(await self._locked("load_documents", scalar(view), texts(sorted(keys))))
        self._note(str(view), keys, found)
        return found

    async def save(self, view: int, rows: Sequence[tuple[str, bytes]]) -> None:
        """Insert or replace (key, document)."""
        values = dict(rows)
        for query, keys in zip(("add_documents", "save_documents"), self._split(str(view), values), strict=True):
            if keys:
                self._put(query, scalar(view), texts(keys), blobs([values[key] for key in keys]))

    async def delete(self, view: int, keys: Sequence[str]) -> None:
        """Remove documents."""
        if keys:
            self._put("delete_documents", scalar(view), texts(keys))

    async def index(self, view: int, *, remove: Sequence[tuple[str, str, str, str]], add: Sequence[tuple[str, str, str, str]]) -> None:
        """Change look-up rows (field, value, sort, key)."""
        for query, rows in (("remove_lookups", remove), ("add_lookups", add)):
            if rows:
                self._put(query, scalar(view), *(texts(column) for column in zip(*sorted(rows), strict=True)))

    async def page(self, view: int, *, field: str, value: str, before: tuple[str, str] | None, limit: int) -> list[tuple[str, str, bytes]]:
        """Return (sort, key, document), newest first, below a cursor."""
        place = scalar(view), scalar(field), scalar(value)
        if before is None:
            rows = await self._all("first_documents", *place, scalar(limit))
        else:
            rows = await self._all("page_documents", *place, scalar(before[0]), scalar(before[1]), scalar(limit))
        return [(restored(sort), restored(key), document) for sort, key, document in rows]

    async def count(self, view: int) -> int:
        """Return how many documents a build has."""
        return (await self._all("count_documents", scalar(view)))[0][0]


class PostgresViews(Table):
    """See `ports.Views`."""

    async def list(self) -> list[ViewInfo]:
        """Return every build; in a write transaction nobody else changes them until it ends."""
        if not self._writing:
            return [ViewInfo(*row) for row in await self._all("views")]
        lock = Step(self._place.sql["lock_views"], (lock_key("views", self._place.schema),))
        return [ViewInfo(*row) for row in await self._place.ask(lock, Step(self._place.sql["views"]))]

    async def add(self, name: str, version: int, state: str) -> ViewInfo:
        """Create a build."""
        return ViewInfo((await self._all("add_view", scalar(name), scalar(version), scalar(state)))[0][0], name, version, state)

    async def mark(self, view: int, state: str) -> None:
        """Change a build's state."""
        self._put("mark_view", scalar(state), scalar(view))

    async def drop(self, view: int) -> None:
        """Remove a build with its documents."""
        for query in ("drop_documents", "drop_lookups", "drop_view"):
            self._put(query, scalar(view))
