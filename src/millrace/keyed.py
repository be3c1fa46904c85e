"""Keyed state of one transaction: what was loaded, what changed, written once at the end.

Three caches with one shape (`want`, `load`, `get`, `put`, `flush`): rows of handlers, streams of aggregates, documents of views. A
batch names all its keys first, each cache loads them with one query, functions read and change them in memory, and only the last
value of each key is written.

Neighbours: `UnitOfWork` owns the caches; patterns use them; the store's tables do the rows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import msgspec

from millrace.clock import to_text
from millrace.errors import DecodeError
from millrace.ports import StoreReader
from millrace.serialization import UNDECODABLE
from millrace.state import State, View, kind_of

Decode = Callable[[bytes], Any]
_decoders: dict[type, Decode] = {}


def decoder_of(cls: type) -> Decode:
    """Return the decoder of a state class, made once."""
    found = _decoders.get(cls)
    if found is None:
        found = _decoders[cls] = msgspec.json.Decoder(cls).decode
    return found


class Rows:
    """Rows of one State class."""

    def __init__(self, cls: type[State], tables: StoreReader) -> None:
        self.kind = kind_of(cls).name
        self._decode = decoder_of(cls)
        self._tables = tables
        # Public, because staging runs once per message: `dirty` holds the encoded row, empty for one that is removed.
        self.wanted: set[str] = set()
        self.values: dict[str, Any] = {}
        self.dirty: dict[str, bytes] = {}
        self.broken: dict[str, Exception] = {}

    def want(self, keys: Iterable[str]) -> None:
        """Name rows that will be needed."""
        self.wanted.update(keys)

    async def load(self) -> None:
        """Load what is wanted and not there yet, with one query."""
        missing = [key for key in self.wanted if key not in self.values]
        self.wanted.clear()
        if missing:
            found = await self._tables.states.load(self.kind, missing)
            decode, values = self._decode, self.values
            for key in missing:
                value = found.get(key)
                try:
                    values[key] = decode(value) if value is not None else None
                except UNDECODABLE as error:
                    values[key] = None
                    self.broken[key] = error

    def check(self, keys: Iterable[str]) -> None:
        """Fail for a row that is there and cannot be read: taking it for absent would overwrite it.

        Raises:
            DecodeError: one of the rows is unreadable.
        """
        for key in keys:
            if key in self.broken:
                raise DecodeError("invalid", f"stored row {self.kind}/{key} cannot be read: {self.broken[key]}")

    def get(self, key: str) -> Any:
        """Return the row as this transaction sees it, or None."""
        return self.values[key]

    async def flush(self) -> None:
        """Write what changed."""
        saved = [(self.kind, key, value) for key, value in self.dirty.items() if value]
        gone = [(self.kind, key) for key, value in self.dirty.items() if not value]
        self.dirty.clear()
        if saved:
            await self._tables.states.save(saved)
        if gone:
            await self._tables.states.delete(gone)


class Stream:
    """An aggregate as folded from its stream: state, version (number of events), version of the last snapshot."""

    __slots__ = ("error", "saved", "state", "version")

    def __init__(self, state: Any = None, version: int = 0, saved: int = 0) -> None:
        self.error: Exception | None = None  # why it could not be folded; whoever needs it fails with that
        self.state = state
        self.version = version
        self.saved = saved


class Documents:
    """Documents of one build of a view, with their look-up rows."""

    def __init__(self, cls: type[View], *, build: int, tables: StoreReader) -> None:
        self._kind = kind_of(cls)
        self._decode = decoder_of(cls)
        self.build = build
        self._tables = tables
        self._wanted: set[str] = set()
        self._values: dict[str, Any] = {}
        self._before: dict[str, Any] = {}
        self._encoded: dict[str, bytes] = {}
        self._broken: dict[str, Exception] = {}

    def want(self, keys: Iterable[str]) -> None:
        """Name documents that will be needed."""
        self._wanted.update(keys)

    async def load(self) -> None:
        """Load what is wanted and not there yet, with one query."""
        missing = [key for key in self._wanted if key not in self._values]
        self._wanted.clear()
        if missing:
            found = await self._tables.documents.load(self.build, missing)
            for key in missing:
                try:
                    self._values[key] = self._decode(found[key]) if key in found else None
                except UNDECODABLE as error:
                    self._broken[key] = error

    def get(self, key: str) -> Any:
        """Return the document as this transaction sees it, or None.

        Raises:
            DecodeError: it is there and cannot be read.
        """
        if key in self._broken:
            raise DecodeError("invalid", f"document {key} of view {self._kind.name} cannot be read: {self._broken[key]}")
        return self._values[key]

    def put(self, key: str, document: Any, value: bytes) -> None:
        """Change the document, already encoded; None removes it."""
        self._before.setdefault(key, self._values[key])
        self._values[key] = document
        self._encoded[key] = value

    async def flush(self) -> None:
        """Write what changed, look-ups included."""
        saved: list[tuple[str, bytes]] = []
        gone: list[str] = []
        remove: list[tuple[str, str, str, str]] = []
        add: list[tuple[str, str, str, str]] = []
        for key, before in self._before.items():
            after = self._values[key]
            old, new = self._lookups(key, before), self._lookups(key, after)
            remove += old - new
            add += new - old
            if after is None:
                gone.append(key)
            else:
                saved.append((key, self._encoded[key]))
        self._before.clear()
        await self._write(saved, gone, remove, add)

    async def _write(
        self,
        saved: list[tuple[str, bytes]],
        gone: list[str],
        remove: list[tuple[str, str, str, str]],
        add: list[tuple[str, str, str, str]],
    ) -> None:
        documents = self._tables.documents
        if saved:
            await documents.save(self.build, saved)
        if gone:
            await documents.delete(self.build, gone)
        if remove or add:
            await documents.index(self.build, remove=remove, add=add)

    def _lookups(self, key: str, document: Any) -> set[tuple[str, str, str, str]]:
        if document is None:
            return set()
        sort = lookup_text(getattr(document, self._kind.sort)) if self._kind.sort else key
        rows = {(field, lookup_text(getattr(document, field)), sort, key) for field in self._kind.lookups}
        rows.add(("", "", sort, key))
        return rows


def lookup_text(value: Any) -> str:
    """Return a value as text that sorts like the value: numbers padded, times in RFC 3339 with microseconds."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value + 10**19:020d}"
    if isinstance(value, float):
        (bits,) = struct.unpack(">Q", struct.pack(">d", value))
        return f"{bits ^ ((1 << 64) - 1) if bits >> 63 else bits | 1 << 63:020d}"
    if isinstance(value, datetime):
        return to_text(value)
    return str(value)
