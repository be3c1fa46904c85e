"""Parameters as the server takes them in binary: a batch of rows is one array per column, so it is one statement whatever its size.

A text of PostgreSQL has no U+0000, a text of Python may. Escaping it keeps the order of texts: U+0000 becomes U+0001 "0", and U+0001
itself becomes U+0001 "1". Texts without either, which is all there are in practice, pass as they are.

The arrays are packed here because the driver packs them element by element in Python, three times as slow.

Neighbours: the table modules pack with this; `session` sends what it returns.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

Value = bytes | None
_length = struct.Struct(">i").pack
_integer = struct.Struct(">q").pack
_header = struct.Struct(">iiiii").pack
_NULL = _length(-1)
_EIGHT = _length(8)
_EMPTY = struct.Struct(">iii").pack
TEXT, BYTES, INTEGER = 25, 17, 20


def _array(kind: int, items: Sequence[bytes], *, nulls: bool = False) -> bytes:
    if not items:
        return _EMPTY(0, 0, kind)
    return _header(1, int(nulls), kind, len(items), 1) + b"".join(items)


def texts(values: Sequence[str]) -> bytes:
    """Return a `text[]`."""
    every = "".join(values)
    encoded = [value.encode() for value in (values if _is_plain(every) else map(escaped, values))]
    return _array(TEXT, [_length(len(value)) + value for value in encoded])


def optional_texts(values: Sequence[str | None]) -> bytes:
    """Return a `text[]` with nulls."""
    present = [value for value in values if value is not None]
    if len(present) == len(values):
        return texts(present)
    encoded = (None if value is None else escaped(value).encode() for value in values)
    return _array(TEXT, [_NULL if value is None else _length(len(value)) + value for value in encoded], nulls=True)


def blobs(values: Sequence[bytes]) -> bytes:
    """Return a `bytea[]`."""
    return _array(BYTES, [_length(len(value)) + value for value in values])


def integers(values: Sequence[int]) -> bytes:
    """Return a `bigint[]`."""
    return _array(INTEGER, [_EIGHT + _integer(value) for value in values])


def optional_integers(values: Sequence[int | None]) -> bytes:
    """Return a `bigint[]` with nulls."""
    return _array(INTEGER, [_NULL if value is None else _EIGHT + _integer(value) for value in values], nulls=True)


def scalar(value: str | int | bytes | None) -> Value:
    """Return one `text`, `bigint` or null; bytes are packed already."""
    if isinstance(value, str):
        return escaped(value).encode()
    if isinstance(value, int):
        return _integer(value)
    return value


def _is_plain(value: str) -> bool:
    return "\x00" not in value and "\x01" not in value


def escaped(value: str) -> str:
    """Return a text that PostgreSQL can keep, in the same order among others."""
    return value if _is_plain(value) else value.replace("\x01", "\x011").replace("\x00", "\x010")


def restored(value: str) -> str:
    """Return the text that was escaped."""
    return value.replace("\x010", "\x00").replace("\x011", "\x01") if "\x01" in value else value


def restored_keys(rows: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    """Return rows (key, value) by key as it was given."""
    found = dict(rows)
    return {restored(key): value for key, value in found.items()} if any("\x01" in key for key in found) else found
