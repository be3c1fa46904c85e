"""Held messages as operators see them: a short stable name each, and their content with personal fields masked.

A held message is named by where it is kept and where it comes from, `service:processor:topic:partition:offset`, which
never changes while it is there. Original bytes are shown only to whoever asks for them, because they may hold
personal data; the decoded form masks what its class marks as personal, and leaves out the data of types that this
application does not know.

What becomes of a letter that is redriven and dies again is its history: each death with its reason, its fingerprint and the attempts before
it, the last `HISTORY_MAX` of them.

Neighbours: stores keep the rows; `letters` lists and shows them, `letter_work` changes them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from millrace.errors import DecodeError, UnknownMessage
from millrace.foreign import Reader, unpack
from millrace.held import ClosedRow, HeldPlace, HeldRow
from millrace.message import MASK, Message, masked, personal_fields
from millrace.retry import RELAY, RETRY
from millrace.serialization import Catalogue, Envelope, open_envelope

ID_FORM = "service:processor:topic:partition:offset"
HISTORY_MAX = 20


class HeldId(msgspec.Struct, frozen=True):
    """The name of a held message."""

    service: str
    processor: str
    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        """Return it as text."""
        return f"{self.service}:{self.processor}:{self.topic}:{self.partition}:{self.offset}"

    @classmethod
    def of(cls, service: str, row: HeldRow | ClosedRow) -> HeldId:
        """Return the name of a row of a service."""
        return cls(service, row.processor, row.topic, row.partition, row.offset)

    @property
    def place(self) -> HeldPlace:
        """Return where it is held in the store of its service."""
        return self.processor, self.topic, self.partition, self.offset

    @classmethod
    def parse(cls, text: str) -> HeldId:
        """Return the name that a text spells.

        Raises:
            UnknownMessage: it spells none.
        """
        service, _, rest = text.partition(":")
        parts = rest.rsplit(":", 3)
        if not service or len(parts) != 4 or not all(parts) or not (parts[2].isdecimal() and parts[3].removeprefix("-").isdecimal()):
            raise UnknownMessage(f"{text!r} names no held message; expected {ID_FORM}, as `dead-letters list` shows it")
        return cls(service, parts[0], parts[1], int(parts[2]), int(parts[3]))


class Death(msgspec.Struct, frozen=True):
    """One time that a letter was given up: when, of what, after how many attempts."""

    at: int
    reason: str
    attempts: int
    fingerprint: str = ""


def history_of(row: HeldRow | ClosedRow) -> tuple[Death, ...]:
    """Return the deaths before a letter was last redriven, oldest first."""
    return msgspec.json.decode(row.history, type=tuple[Death, ...]) if row.history else ()


def revived(row: HeldRow, *, now_micros: int) -> HeldRow:
    """Return a dead letter as a message that is due now and has all its attempts before it; how it died is in its history."""
    died = Death(row.last_at or row.first_at, row.reason, row.attempts, row.fingerprint)
    history = msgspec.json.encode([*history_of(row), died][-HISTORY_MAX:]).decode()
    return msgspec.structs.replace(row, state=RETRY, attempts=0, due=now_micros, deadline=0, history=history)


class Content(msgspec.Struct, frozen=True):
    """What could be read of a held message; `data` is masked, None where it cannot be shown, and `note` says why."""

    type: str | None = None
    message: type[Message] | None = None
    attributes: dict[str, str] = {}
    data: Any = None
    note: str | None = None


def envelope_of(row: HeldRow | ClosedRow, catalogue: Catalogue) -> Envelope | None:
    """Return the envelope of a letter; None where it has none that could be read."""
    try:
        return Reader(catalogue).open(unpack(row.value), topic=row.topic, place=f"{row.topic}/{row.partition}/{row.offset}")
    except DecodeError as error:
        if error.reason != "oversized" or row.processor != RELAY:
            return None
    return open_envelope(row.value, bytes_max=None)  # the service's own, which the log could not take


def content_of(row: HeldRow | ClosedRow, catalogue: Catalogue) -> Content:
    """Return what can be read of a held message, personal fields masked."""
    original = unpack(row.value)
    beside = {"headers": ", ".join(sorted({name for name, _ in original.headers}))} if original.headers else {}
    try:
        envelope = Reader(catalogue).open(original, topic=row.topic, place=f"{row.topic}/{row.partition}/{row.offset}")
    except DecodeError as error:
        return Content(attributes=beside, note=f"it cannot be decoded: {error}")
    if envelope is None:
        return Content(attributes=beside, note="it is plain JSON of a kind that no message class is declared to be")
    cls = catalogue.class_of(envelope.type)
    data, note = None, None
    if cls is None:
        note = "its type is unknown here, and with it which fields are personal"
    else:
        data, note = _data_of(cls, envelope, catalogue)
    return Content(envelope.type, cls, _attributes_of(envelope) | beside, data, note)


def _data_of(cls: type[Message], envelope: Envelope, catalogue: Catalogue) -> tuple[Any, str | None]:
    try:
        message = catalogue.decode(envelope.type, envelope.data)
        return (masked(message) if message is not None else None), None
    except DecodeError as error:
        note = f"the data do not fit {cls.__name__}: {error.detail}"
    try:
        plain = msgspec.json.decode(envelope.data, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None, note
    hidden = personal_fields(cls)
    return {name: MASK if name in hidden and value is not None else value for name, value in plain.items()}, note


def _attributes_of(envelope: Envelope) -> dict[str, str]:
    plain: dict[str, Any] = {name: getattr(envelope, name) for name in envelope.__struct_fields__ if name != "data"}
    return {name: value for name, value in plain.items() if value != ""}
