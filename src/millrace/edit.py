"""An edited message: what an operator wrote, held against the class of the message, before anything is changed.

It is either all of its data or some of its fields; what a personal field holds need not be known to change another one. The key may not
change: the message takes the place of the original in the order of its key.

Neighbours: `dead_letters` makes an `Edit`, `letter_work.Replace` puts it in place.
"""

from __future__ import annotations

import re
from typing import Any, cast

import msgspec

from millrace.errors import InvalidEdit, LetterRefused
from millrace.held import HeldRow
from millrace.letter import content_of, envelope_of
from millrace.message import Message, declaration, key_of
from millrace.serialization import RECORD_BYTES_MAX, UNDECODABLE, Catalogue, Envelope, encode_json

ROOM = 8192
"""Bytes for the attributes of a message; with more than what is left for its data it would not fit into the log."""
_PATH = re.compile(r" - at `\$\.?([^`]*)`")
_MISSING = re.compile(r"missing required field `([^`]+)`")


class Edit(msgspec.Struct, frozen=True):
    """The message that takes the place of a letter; `original` is the envelope of that, None where it has none."""

    message: Message
    original: Envelope | None
    replaces: str
    """The id of the original, or where it lies if it has none."""
    unchanged: bool = False
    """It is the original said again."""


def edit_of(
    row: HeldRow, catalogue: Catalogue, *, data: Any = None, changes: dict[str, Any] | None = None, kind: str | None = None
) -> Edit:
    """Return the message that an operator wants in the place of a letter.

    Args:
        row: the letter.
        catalogue: the application's messages.
        data: all of its data, as JSON has them.
        changes: some of its fields instead.
        kind: its type, where the letter cannot be read: the name of the class, or its type on the wire.

    Raises:
        InvalidEdit: what was written fits no message class; names the field.
        LetterRefused: the type of the letter is not known here.
    """
    original = envelope_of(row, catalogue)
    cls = _class_of(row, catalogue, original, kind)
    fields = _merged(original, changes) if changes is not None else data
    message = _decoded(cls, fields)
    key = row.key or (original.partitionkey if original is not None else "")
    if key and key_of(message) != key:
        field = declaration(cls).key
        raise InvalidEdit(f"{field}: {key_of(message)!r} is another key than {key!r}; an edited message keeps its place", field=field)
    if len(size := encode_json(message)) + ROOM > RECORD_BYTES_MAX:
        raise InvalidEdit(f"data: {len(size):,} bytes; at most {RECORD_BYTES_MAX - ROOM:,} fit into a record", field="data")
    return Edit(message, original, original.id if original is not None else f"{row.topic}/{row.partition}/{row.offset}")


def said_again(row: HeldRow, catalogue: Catalogue) -> Edit:
    """Return a row that the log could not take as a message to be said again.

    Raises:
        LetterRefused: the log cannot take it now either, or it cannot be read here.
    """
    if len(row.value) > RECORD_BYTES_MAX:
        raise LetterRefused(f"it has {len(row.value):,} bytes and the log takes {RECORD_BYTES_MAX:,} at most; edit it, or discard it")
    original, content = envelope_of(row, catalogue), content_of(row, catalogue)
    message = catalogue.decode(original.type, original.data) if original is not None and content.message is not None else None
    if original is None or message is None:
        raise LetterRefused(f"it cannot be said again: {content.note or 'its type is unknown here'}")
    return Edit(message, original, original.id, unchanged=True)


def _class_of(row: HeldRow, catalogue: Catalogue, original: Envelope | None, kind: str | None) -> type[Message]:
    if kind is not None:
        found = [cls for cls in catalogue.classes() if kind in {cls.__name__, declaration(cls).name, catalogue.type_of(cls)}]
        if len(found) != 1:
            known = ", ".join(sorted(catalogue.type_of(cls) for cls in catalogue.classes()))
            raise InvalidEdit(f"type: {kind!r} names {len(found)} message classes; there are {known}", field="type")
        return found[0]
    cls = catalogue.class_of(original.type) if original is not None else None
    if cls is None:
        what = f"its type {original.type} is unknown here" if original is not None else f"it cannot be read ({row.reason})"
        raise LetterRefused(f"{what}; say which message it is to be (type)")
    return cls


def _merged(original: Envelope | None, changes: dict[str, Any]) -> dict[str, Any]:
    try:
        before = msgspec.json.decode(original.data, type=dict[str, Any]) if original is not None else None
    except UNDECODABLE:
        before = None
    if before is None:
        raise LetterRefused("its data cannot be read, so single fields cannot be changed; write all of its data")
    return {**before, **changes}


def _decoded(cls: type[Message], data: Any) -> Message:
    if not isinstance(data, dict):
        raise InvalidEdit(f"data: expected the fields of {cls.__name__} as a JSON object", field="data")
    given = cast("dict[str, Any]", data)
    known = {field.encode_name for field in msgspec.structs.fields(cls)}
    if unknown := sorted(given.keys() - known):
        raise InvalidEdit(f"{unknown[0]}: {cls.__name__} has no such field; it has {', '.join(sorted(known))}", field=unknown[0])
    try:
        return msgspec.json.decode(encode_json(given), type=cls)
    except UNDECODABLE as error:
        field = _field_of(str(error))
        raise InvalidEdit(f"{field}: {_PATH.sub('', str(error))}", field=field) from error


def _field_of(error: str) -> str:
    path = match.group(1) if (match := _PATH.search(error)) else ""
    missing = match.group(1) if (match := _MISSING.search(error)) else ""
    return ".".join(part for part in (path, missing) if part) or "data"


__all__ = ["Edit", "edit_of", "said_again"]
