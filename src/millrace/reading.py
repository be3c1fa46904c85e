"""Queries: what a service knows, as last committed.

Neighbours: `application` hands these out; routes of an application use them. Nothing here writes.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from millrace.errors import ConfigurationError, StoreUnavailable
from millrace.keyed import decoder_of, lookup_text
from millrace.ports import StoreReader
from millrace.serialization import UNDECODABLE
from millrace.state import State, View, kind_of

S = TypeVar("S", bound=State)
V = TypeVar("V", bound=View)
LIMIT_MAX = 1000


class Page(msgspec.Struct, frozen=True):
    """Some items, and the cursor of the next page (None: that was the last)."""

    items: tuple[Any, ...]
    next: str | None = None


class StateReader(Generic[S]):
    """Rows of one State class, by key."""

    def __init__(self, cls: type[S], tables: StoreReader) -> None:
        self._kind = kind_of(cls).name
        self._decode = decoder_of(cls)
        self._tables = tables

    async def get(self, key: str) -> S | None:
        """Return a row, or None."""
        return (await self.get_many([key])).get(key)

    async def get_many(self, keys: Iterable[str]) -> dict[str, S]:
        """Return the rows that exist."""
        found = await self._tables.states.load(self._kind, list(keys))
        return {key: self._decode(value) for key, value in found.items()}

    async def list(self, *, limit: int = 100, cursor: str | None = None) -> Page:
        """Return rows in key order, from a cursor on."""
        rows = await self._tables.states.page(self._kind, after=cursor or "", limit=limit + 1)
        items = tuple(self._decode(value) for _, value in rows[:limit])
        return Page(items, rows[limit - 1][0] if len(rows) > limit else None)


class ViewReader(Generic[V]):
    """Documents of the serving build of a view."""

    def __init__(self, cls: type[V], tables: StoreReader, *, build: Callable[[], Awaitable[int]]) -> None:
        self._kind = kind_of(cls)
        self._decode = decoder_of(cls)
        self._tables = tables
        self._build = build

    async def get(self, key: str) -> V | None:
        """Return a document, or None."""
        return (await self.get_many([key])).get(key)

    async def get_many(self, keys: Iterable[str]) -> dict[str, V]:
        """Return the documents that exist."""
        found = await self._tables.documents.load(await self._build(), list(keys))
        return {key: self._read(value) for key, value in found.items()}

    def _read(self, document: bytes) -> V:
        try:
            return self._decode(document)
        except UNDECODABLE as error:
            detail = f"its documents are of another version and a new build is under way ({error})"
            raise StoreUnavailable(f"view {self._kind.name}", reason="rebuilding", detail=detail) from error

    async def list(self, *, limit: int = 20, cursor: str | None = None, **equals: Any) -> Page:
        """Return documents, newest first by the view's sort field.

        Args:
            limit: at most this many, 1 to 1000.
            cursor: `Page.next` of the page before.
            equals: values of look-up fields; the first is looked up, others filter.

        Raises:
            ConfigurationError: a field is no look-up of the view.
            ValueError: the cursor or limit is malformed.
        """
        if not 1 <= limit <= LIMIT_MAX:
            raise ValueError(f"limit {limit}: from 1 to {LIMIT_MAX}")
        for name in equals:
            if name not in self._kind.lookups:
                raise ConfigurationError(f"view {self._kind.name!r} has no look-up {name!r}; it has {list(self._kind.lookups)}")
        wanted = [(name, lookup_text(value)) for name, value in equals.items()]
        return await self._page(wanted or [("", "")], limit=limit, before=_open_cursor(cursor))

    async def _page(self, wanted: Sequence[tuple[str, str]], *, limit: int, before: tuple[str, str] | None) -> Page:
        (field, value), *others = wanted
        build, items = await self._build(), list[Any]()
        while True:
            rows = await self._tables.documents.page(build, field=field, value=value, before=before, limit=limit + 1)
            for sort, key, document in rows[:limit]:
                before = (sort, key)
                item = self._read(document)
                if all(lookup_text(getattr(item, name)) == text for name, text in others):
                    items.append(item)
                if len(items) == limit:
                    more = (sort, key) != rows[-1][:2]
                    return Page(tuple(items), _seal_cursor(before) if more else None)
            if len(rows) <= limit:
                return Page(tuple(items), None)


def _seal_cursor(place: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def _open_cursor(cursor: str | None) -> tuple[str, str] | None:
    if not cursor:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(text, type=tuple[str, str])
    except (ValueError, msgspec.MsgspecError) as error:
        raise ValueError(f"not a cursor of this list: {cursor!r}") from error
