"""Records of producers that are not ours: told what they are, opened as the same envelopes, kept with what belongs to them.

Three ways to write a record are read:

    structured    the value is a CloudEvent (JSON); how our relays write, so their records never come here
    binary        the value is the data, the attributes are headers `ce_<name>`, `content-type` is the data's: CloudEvents' Kafka binding
    plain         the value is JSON that a message class has a mapping for (`PlainJson`)

A record says itself that it is a CloudEvent: by `content-type: application/cloudevents...`, by a header `ce_specversion`, or by a member
`specversion`. Only what says nothing of the kind is read by a mapping, so a topic may hold all three.

What is held (waits or is dead) is kept with its original bytes. Headers and time of append belong to them: without these it could not be
opened again. `pack` puts them in front, as one line of JSON after a mark that begins no JSON; a record that happens to begin with the mark
is packed as well, so what was packed is never guessed.

Neighbours: engines hand headers over in `Record`; `intake` opens records and held rows with this, `dead_letters` shows what is packed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from millrace.clock import from_micros, to_text
from millrace.errors import DecodeError
from millrace.plain_json import PlainJson, at_path
from millrace.serialization import RECORD_BYTES_MAX, UNDECODABLE, Catalogue, Envelope, Headers, encode_json, open_envelope, seal

CONTENT = "content-type"
ATTRIBUTE = "ce_"
MARK = b"\x00millrace record\n"
ATTRIBUTES = tuple(name for name in Envelope.__struct_fields__ if name not in {"data", "specversion", "datacontenttype"})
_MICROS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_json = msgspec.json.Decoder()
_raw = msgspec.json.Decoder(msgspec.Raw)


class Original(NamedTuple):
    """A foreign record: its bytes and what the log says of it. `at` is when it was appended, in microseconds."""

    value: bytes
    headers: Headers = ()
    at: int = 0


class _Beside(msgspec.Struct):
    """What is kept beside the bytes of a record."""

    at: int
    headers: list[tuple[str, bytes | None]]


class _Encoded(msgspec.Struct):
    """The data of an event that are not written as JSON but as base64."""

    data_base64: bytes


def pack(record: Original) -> bytes:
    """Return a record as it is kept; the value itself where nothing has to be kept beside it."""
    if not record.headers and not record.at and not record.value.startswith(MARK):
        return record.value
    beside = encode_json(_Beside(record.at, [(name, value) for name, value in record.headers]))
    return b"%b%b\n%b" % (MARK, beside, record.value)


def unpack(kept: bytes) -> Original:
    """Return the record of what `pack` returned."""
    if not kept.startswith(MARK):
        return Original(kept)
    beside, _, value = kept[len(MARK) :].partition(b"\n")
    found = msgspec.json.decode(beside, type=_Beside)
    return Original(value, found.headers, found.at)


class Reader:
    """Opens foreign records.

    Args:
        catalogue: message classes of the application, with their mappings.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._plain = catalogue.plain()

    def maps(self, topic: str) -> bool:
        """Return whether plain JSON on a topic is read by a mapping."""
        return topic in self._plain

    def open(self, record: Original, *, topic: str, place: str) -> Envelope | None:
        """Return the envelope of a record; None for plain JSON of a kind that no message class is.

        Args:
            record: the record.
            topic: where it lies.
            place: its topic, partition and offset as text.

        Raises:
            DecodeError: it cannot be read.
        """
        if len(record.value) > RECORD_BYTES_MAX:
            raise DecodeError("oversized", f"{len(record.value)} bytes, at most {RECORD_BYTES_MAX} are read")
        headers = _texts(record.headers) if record.headers else {}
        if not headers.get(CONTENT, "").lower().startswith("application/cloudevents"):
            if f"{ATTRIBUTE}specversion" in headers:
                return open_binary(headers, record.value)
            mappings = self._plain.get(topic)
            if mappings is not None:
                return _open_plain(record, mappings, topic=topic, place=place)
        return _open_structured(record.value)


def as_structured(record: Original) -> bytes:
    """Return the value of a record, or in its place the CloudEvent in structured mode that says what one in binary mode says."""
    headers = _texts(record.headers)
    if f"{ATTRIBUTE}specversion" not in headers:
        return record.value
    try:
        envelope = open_binary(headers, record.value)
        _raw.decode(envelope.data)
    except (DecodeError, *UNDECODABLE):
        return record.value
    return seal(envelope)


def _texts(headers: Headers) -> dict[str, str]:
    """Return headers as text; of one that comes twice the first."""
    found: dict[str, str] = {}
    for name, value in headers:
        if value is not None:
            found.setdefault(name.lower(), value.decode("utf-8", "replace"))
    return found


def open_binary(headers: Mapping[str, str], value: bytes) -> Envelope:
    """Return the envelope of a CloudEvent in binary mode.

    Raises:
        DecodeError: it is none of version 1.0, or a required attribute is missing.
    """
    attributes: dict[str, Any] = {name: text for name in ATTRIBUTES if (text := headers.get(ATTRIBUTE + name))}
    version = headers[f"{ATTRIBUTE}specversion"]
    if version != "1.0":
        raise DecodeError("undecodable", f"CloudEvents version {version!r} in header {ATTRIBUTE}specversion, 1.0 is read")
    if missing := [ATTRIBUTE + name for name in ("id", "source", "type") if name not in attributes]:
        raise DecodeError("undecodable", f"a CloudEvent in binary mode without header {', '.join(missing)}")
    content = headers.get(CONTENT, "application/json")
    return Envelope(**attributes, data=msgspec.Raw(value or b"null"), datacontenttype=content)


def _open_structured(value: bytes) -> Envelope:
    envelope = open_envelope(value)
    if b'"data_base64"' in value and bytes(envelope.data) == b"null":
        try:
            envelope.data = msgspec.Raw(msgspec.json.decode(value, type=_Encoded).data_base64)
        except UNDECODABLE as error:
            raise DecodeError("undecodable", str(error)) from error
    return envelope


def _open_plain(record: Original, mappings: Sequence[tuple[str, PlainJson]], *, topic: str, place: str) -> Envelope | None:
    try:
        found = _json.decode(record.value)
    except UNDECODABLE as error:
        raise DecodeError("undecodable", f"neither a CloudEvent nor JSON: {error}") from error
    if not isinstance(found, dict):
        raise DecodeError("undecodable", f"no JSON object but {type(found).__name__}")
    if "specversion" in found:
        return _open_structured(record.value)
    for wire, mapping in mappings:
        if mapping.fits(found):  # pyright: ignore[reportUnknownArgumentType]  # plain JSON
            return _mapped(record, found, wire=wire, mapping=mapping, topic=topic, place=place)
    return None


def _mapped(record: Original, found: Any, *, wire: str, mapping: PlainJson, topic: str, place: str) -> Envelope:
    data = record.value if not mapping.data else encode_json(_at(found, mapping.data, "data"))
    return Envelope(
        id=place if not mapping.id else _text(found, mapping.id, "id"),
        source=mapping.source or f"/foreign/{topic}",
        type=wire,
        time=to_text(from_micros(record.at) if not mapping.time else _moment(found, mapping)),
        partitionkey=_text(found, mapping.key, "key") if mapping.key else "",
        data=msgspec.Raw(data),
    )


def _at(found: Any, path: str, what: str) -> Any:
    value = at_path(found, path)
    if value is None:
        raise DecodeError("undecodable", f"plain JSON without {path!r}, where its {what} should be")
    return value


def _text(found: Any, path: str, what: str) -> str:
    value = _at(found, path, what)
    if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
        return str(value)
    raise DecodeError("undecodable", f"plain JSON with {path}={value!r}; its {what} is text or a whole number")


def _moment(found: Any, mapping: PlainJson) -> datetime:
    value = _at(found, mapping.time, "time")
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return from_micros(round(value * _MICROS[mapping.time_unit]))
        moment = datetime.fromisoformat(value if isinstance(value, str) else "")
    except (ValueError, TypeError, OverflowError) as error:
        raise DecodeError("undecodable", f"plain JSON with {mapping.time}={value!r}: no time ({error})") from error
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


__all__ = ["Original", "Reader", "as_structured", "pack", "unpack"]
