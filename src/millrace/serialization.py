"""Messages to bytes and back: CloudEvents 1.0, structured mode, JSON.

A `Catalogue` knows every message class of an application by its type on the wire
(`<application>.<context>.<name>.v<version>`), so Python names and module paths never leave the process.

Decoding is in two steps, because a record whose envelope decodes but whose data does not still names its key and its source:
`open_envelope` (any failure: reason `undecodable`), then `Catalogue.decode` (`unknown` types give None, bad data `invalid`).

Neighbours: the runtime decodes what the log hands over; the journal stores what `seal` made, and the relay copies it unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Literal, Protocol, TypeVar

import msgspec

from millrace.errors import ConfigurationError, DecodeError
from millrace.message import Event, Message, declaration
from millrace.plain_json import PlainJson

CONTENT_TYPE = "application/cloudevents+json; charset=UTF-8"
RECORD_BYTES_MAX = 1 << 20
"""A record above this is never sent, and one that is found on a topic goes to the dead letters unread."""

UNDECODABLE = (msgspec.MsgspecError, ValueError, RecursionError, TypeError, MemoryError)
"""Every way in which decoding bytes can fail."""

Headers = Sequence[tuple[str, bytes | None]]
"""What a log may carry beside key and value of a record."""

Filled = Annotated[str, msgspec.Meta(min_length=1)]


class Envelope(msgspec.Struct, gc=False):
    """CloudEvents attributes in the order they are written; see the public contract for their meaning."""

    id: Filled
    source: Filled
    type: Filled
    subject: str = ""
    time: str = ""
    partitionkey: str = ""
    correlationid: str = ""
    causationid: str = ""
    sequence: str = ""
    epoch: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")
    specversion: Literal["1.0"] = "1.0"
    datacontenttype: str = "application/json"
    traceparent: str | msgspec.UnsetType | None = msgspec.UNSET
    """W3C trace context; without one there is no such member."""


seal: Callable[[Envelope], bytes] = msgspec.json.Encoder().encode


def _plain_text(value: object) -> str:
    """Return a text of a subclass, which msgspec does not take, as the text it is; asked for such values only."""
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


encode_json: Callable[[object], bytes] = msgspec.json.Encoder(enc_hook=_plain_text).encode
_open: Callable[[bytes], Envelope] = msgspec.json.Decoder(Envelope).decode


class Sized(Protocol):
    """A row with bytes."""

    @property
    def value(self) -> bytes:
        """Return its bytes."""
        ...


SizedRow = TypeVar("SizedRow", bound=Sized)


def cut_by_bytes(rows: list[SizedRow], bytes_max: int) -> None:
    """Drop what stands behind the row with which `bytes_max` is exceeded; so one row is always left, however large."""
    size = 0
    for count, row in enumerate(rows):
        size += len(row.value)
        if size > bytes_max:
            del rows[count + 1 :]
            break


def open_envelope(value: bytes, *, bytes_max: int | None = RECORD_BYTES_MAX) -> Envelope:
    """Return the envelope of a record.

    Args:
        value: the record.
        bytes_max: a larger one is not read; None for what this store wrote itself.

    Raises:
        DecodeError: it is no CloudEvents 1.0 JSON event; every way to fail ends here, too deep nesting included.
    """
    if bytes_max is not None and len(value) > bytes_max:
        raise DecodeError("oversized", f"{len(value)} bytes, at most {bytes_max} are read")
    try:
        return _open(value)
    except UNDECODABLE as error:
        raise DecodeError("undecodable", str(error)) from error


def pack_sequence(position: int) -> str:
    """Return a journal position as 19 digits, so that text order is number order."""
    return f"{position:019d}"


class Catalogue:
    """Every message class of an application, by class and by type on the wire.

    Args:
        application: first part of every type.
        services: names of the application's services; a topic named like one is that service's own.
    """

    def __init__(self, application: str, *, services: Iterable[str] = ()) -> None:
        self.application = application
        self._services = frozenset(services)
        self._types: dict[type[Message], str] = {}
        self._decoders: dict[str, tuple[type[Message], Callable[[bytes | msgspec.Raw], Message]]] = {}

    def add(self, classes: Iterable[type[Message]], *, service: str) -> None:
        """Register classes; one without a topic belongs to the context named like `service`.

        Raises:
            ConfigurationError: two classes have one type on the wire, or a mapping of plain JSON cannot work.
        """
        for cls in classes:
            self._check_plain(cls)
            wire = self._name(cls, service)
            known = self._decoders.get(wire)
            if known is not None and known[0] is not cls:
                raise ConfigurationError(f"{cls.__qualname__} and {known[0].__qualname__} both are {wire!r} on the wire")
            self._types.setdefault(cls, wire)
            self._decoders[wire] = (cls, msgspec.json.Decoder(cls).decode)

    def _check_plain(self, cls: type[Message]) -> None:
        declared = declaration(cls)
        if declared.plain is None:
            return
        if self.owner_of(cls) is not None:
            raise ConfigurationError(
                f"{cls.__qualname__}: only service {declared.topic!r} says what lies in its topic, so plain= has nothing to read there; "
                "foreign facts need a topic of their own"
            )
        for other in self._types:
            known = declaration(other)
            if other is not cls and known.topic == declared.topic and known.plain is not None and known.plain.where == declared.plain.where:
                raise ConfigurationError(
                    f"{cls.__qualname__} and {other.__qualname__} are read from the same plain JSON of topic {declared.topic!r}; "
                    "tell them apart by PlainJson(where=...)"
                )

    def plain(self) -> dict[str, list[tuple[str, PlainJson]]]:
        """Return (type on the wire, mapping) per topic that plain JSON is read from, those with the most conditions first."""
        found: dict[str, list[tuple[str, PlainJson]]] = {}
        for cls, wire in self._types.items():
            declared = declaration(cls)
            if declared.plain is not None and declared.topic is not None:
                found.setdefault(declared.topic, []).append((wire, declared.plain))
        return {topic: sorted(each, key=lambda pair: (-len(pair[1].where), pair[0])) for topic, each in found.items()}

    def _name(self, cls: type[Message], service: str) -> str:
        declared = declaration(cls)
        topic = declared.topic or service
        context = topic.removeprefix("internal.").split(".", 1)[0]
        return f"{self.application}.{context}.{declared.name}.v{declared.version}"

    def type_of(self, cls: type[Message]) -> str:
        """Return the type on the wire.

        Raises:
            ConfigurationError: no service declares the class.
        """
        try:
            return self._types[cls]
        except KeyError:
            raise ConfigurationError(
                f"{cls.__qualname__} is said or handled by no service; name it in an annotation or in Service(says=[...])"
            ) from None

    def decoder_of(self, cls: type[Message]) -> Callable[[bytes | msgspec.Raw], Message]:
        """Return the function that decodes the data of a registered class."""
        return self._decoders[self.type_of(cls)][1]

    def owner_of(self, cls: type[Message]) -> str | None:
        """Return the source that alone may say an event of this class, None where anybody may (commands, topics of nobody here)."""
        topic = declaration(cls).topic
        return f"/{self.application}/{topic}" if topic in self._services and issubclass(cls, Event) else None

    def class_of(self, wire: str) -> type[Message] | None:
        """Return the class for a type on the wire, or None for a foreign one."""
        found = self._decoders.get(wire)
        return found[0] if found else None

    def knows(self, cls: type[Message]) -> bool:
        """Return whether the class is registered."""
        return cls in self._types

    def decode(self, wire: str, data: bytes | msgspec.Raw) -> Message | None:
        """Return the message, or None for a type that this application does not know.

        Raises:
            DecodeError: the data do not fit the type.
        """
        found = self._decoders.get(wire)
        if found is None:
            return None
        try:
            return found[1](data)
        except UNDECODABLE as error:
            raise DecodeError("invalid", f"{wire}: {error}") from error

    def classes(self) -> tuple[type[Message], ...]:
        """Return every registered class."""
        return tuple(self._types)
