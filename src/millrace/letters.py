"""Dead letters as operators read them: listed, grouped, shown with their causes, exported. Nothing here changes any.

Letters of several services stand in one order, oldest first (closed ones in the order of closing), and are read in pages behind a cursor,
so a list of any length costs one page at a time. What is shown masks personal data; an export does not, because it is there to keep the
originals.

Neighbours: everything is read from an `Inspection`; `dead_letters` and `letter_commands` hand it on, `letter` reads content, `causes`
follows causes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from millrace.application import Application
from millrace.causes import Cause, causes_of
from millrace.clock import from_micros, to_micros, to_text
from millrace.errors import ConfigurationError, UnknownMessage
from millrace.foreign import unpack
from millrace.held import FIRST, ClosedRow, HeldRow, LetterFilter, LetterGroup, Mark
from millrace.inspection import Inspection
from millrace.letter import Content, Death, HeldId, content_of, envelope_of, history_of
from millrace.ports import Store
from millrace.retry import DEAD
from millrace.serialization import Headers
from millrace.service import Service

PAGE = 500
_LAST = "\U0010ffff"


class LetterQuery(msgspec.Struct, frozen=True):
    """Which dead letters are meant; None means any.

    Args:
        service: name of the service that holds them.
        processor: name of the processor; `relay` for rows that the log could not take.
        topic: where the message was read.
        key: of the message.
        reason: as the list shows it: the name of the exception, or undecodable, invalid, unknown, oversized, deadline.
        fingerprint: of the failure, as the groups show it.
        since: failed last at this moment or later, aware.
    """

    service: str | None = None
    processor: str | None = None
    topic: str | None = None
    key: str | None = None
    reason: str | None = None
    fingerprint: str | None = None
    since: datetime | None = None

    def filter(self, *, until: int | None = None) -> LetterFilter:
        """Return it as a store takes it."""
        since = to_micros(self.since) if self.since is not None else None
        return LetterFilter(self.processor, self.topic, self.key, self.reason, self.fingerprint, since, until)


class HeldMessage(msgspec.Struct, frozen=True):
    """A message that waits or is dead; moments in microseconds of business time."""

    id: str
    service: str
    processor: str
    topic: str
    partition: int
    offset: int
    key: str
    state: str
    reason: str
    fingerprint: str
    attempts: int
    """Since it was last redriven."""
    redriven: int
    """How often it was redriven, as far as that is remembered."""
    first_at: int
    """When it was held first."""
    last_at: int
    """When it failed last."""
    behind: int
    """Messages of its key that wait behind it."""
    size: int
    replaces: str
    """The id of the message whose place it has taken."""


class ClosedLetter(msgspec.Struct, frozen=True):
    """A dead letter that was discarded, edited or published, by whom, when and why; moments in microseconds of business time."""

    id: str
    service: str
    processor: str
    topic: str
    partition: int
    offset: int
    key: str
    how: str
    at: int
    who: str
    note: str
    successor: str
    """The id of the message that took its place."""
    reason: str
    fingerprint: str
    attempts: int
    first_at: int
    last_at: int
    size: int


class LetterDetail(msgspec.Struct, frozen=True):
    """A letter, held or closed, with everything that is known of it."""

    letter: HeldMessage | ClosedLetter
    handler: str | None
    """The function that takes its type; None when nobody does, or nobody can tell."""
    detail: str
    content: Content
    value: bytes
    headers: Headers = ()
    """Of a foreign record."""
    history: tuple[Death, ...] = ()
    causes: tuple[Cause, ...] = ()
    closed: tuple[ClosedLetter, ...] = ()
    """What was closed in the same place before."""


class LetterCause(msgspec.Struct, frozen=True):
    """Dead letters of one service that failed in the same way; `example` is the oldest."""

    service: str
    fingerprint: str
    processor: str
    reason: str
    count: int
    size: int
    first_at: int
    last_at: int
    example: str


def document_of(row: HeldMessage | ClosedLetter | LetterCause | Death) -> dict[str, Any]:
    """Return a row as JSON has it, its moments as text."""
    found: dict[str, Any] = msgspec.to_builtins(row)
    return {name: _moment(value) if name in {"at", "first_at", "last_at"} else value for name, value in found.items()}


def _moment(micros: int) -> str | None:
    return to_text(from_micros(micros)) if micros else None


def document_of_detail(detail: LetterDetail, *, raw: bool = False) -> dict[str, Any]:
    """Return a letter with everything that is known of it as JSON has it; `raw` adds the original bytes, unmasked."""
    content = detail.content
    shown: dict[str, Any] = {
        "handler": detail.handler,
        "detail": detail.detail,
        "type": content.type,
        "attributes": content.attributes,
        "data": content.data,
        "note": content.note,
        "history": [document_of(death) for death in detail.history],
        "causes": [msgspec.to_builtins(cause) for cause in detail.causes],
        "closed": [document_of(each) for each in detail.closed],
        **document_of(detail.letter),
    }
    if isinstance(detail.letter, ClosedLetter):
        shown["content_note"] = content.note
    if raw:
        shown["value_base64"] = base64.b64encode(detail.value).decode()
        shown["headers_base64"] = [[name, base64.b64encode(found or b"").decode()] for name, found in detail.headers]
    return shown


class LetterPage(msgspec.Struct, frozen=True):
    """Dead letters, oldest first, and the cursor of the next page, None behind the last."""

    items: tuple[HeldMessage, ...]
    next: str | None = None


class ClosedPage(msgspec.Struct, frozen=True):
    """Closed letters in the order of closing, and the cursor of the next page, None behind the last."""

    items: tuple[ClosedLetter, ...]
    next: str | None = None


async def list_letters(inspection: Inspection, wanted: LetterQuery, *, limit: int, cursor: str | None = None) -> LetterPage:
    """Return dead letters of all services, oldest first.

    Raises:
        ConfigurationError: there is no such service, or the cursor is of no list.
    """
    before, found = _parsed(cursor), list[tuple[Service, Store, HeldRow]]()
    for service, store in _stores(inspection, wanted):
        rows = await store.reader.letters.page(wanted.filter(), after=_after(before, service.name), limit=limit + 1)
        found += [(service, store, row) for row in rows]
    found.sort(key=lambda each: _ordered(each[0].name, each[2].mark))
    items = [await _held_message(service.name, store, row) for service, store, row in found[:limit]]
    more = len(found) > limit
    return LetterPage(tuple(items), _cursor(found[limit - 1][0].name, found[limit - 1][2].mark) if more else None)


async def list_closed(inspection: Inspection, wanted: LetterQuery, *, limit: int, cursor: str | None = None) -> ClosedPage:
    """Return closed letters of all services, in the order of closing; raises as `list_letters` does."""
    before, found = _parsed(cursor), list[tuple[Service, ClosedRow]]()
    for service, store in _stores(inspection, wanted):
        rows = await store.reader.letters.closed(wanted.filter(), after=_after(before, service.name), limit=limit + 1)
        found += [(service, row) for row in rows]
    found.sort(key=lambda each: _ordered(each[0].name, each[1].mark))
    more = len(found) > limit
    items = tuple(_closed_letter(service.name, row) for service, row in found[:limit])
    return ClosedPage(items, _cursor(found[limit - 1][0].name, found[limit - 1][1].mark) if more else None)


async def list_held(inspection: Inspection, wanted: LetterQuery, *, limit: int) -> list[HeldMessage]:
    """Return what waits or is dead, of all services, held longest first."""
    found: list[tuple[Service, Store, HeldRow]] = []
    meant = wanted.filter()
    any_at_all = meant == LetterFilter()
    for service, store in _stores(inspection, wanted):
        rows = await store.reader.held.list(state=None, limit=limit if any_at_all else 1 << 30)
        found += [(service, store, row) for row in rows if any_at_all or _fits(row, meant)]
    found.sort(key=lambda each: _ordered(each[0].name, each[2].mark))
    return [await _held_message(service.name, store, row) for service, store, row in found[:limit]]


def _fits(row: HeldRow, wanted: LetterFilter) -> bool:
    names = ("processor", "topic", "key", "reason", "fingerprint")
    same = all((value := getattr(wanted, name)) is None or value == getattr(row, name) for name in names)
    return same and (wanted.since is None or row.last_at >= wanted.since)


async def group_letters(inspection: Inspection, wanted: LetterQuery) -> list[LetterCause]:
    """Return dead letters of all services by what they failed of, the most frequent first; raises as `list_letters` does."""
    found = [
        LetterCause(
            service.name,
            group.fingerprint,
            group.processor,
            group.reason,
            group.count,
            group.size,
            group.first_at,
            group.last_at,
            str(HeldId(service.name, group.processor, group.topic, group.partition, group.offset)),
        )
        for service, store in _stores(inspection, wanted)
        for group in await store.reader.letters.groups(wanted.filter())
    ]
    return sorted(found, key=lambda each: (-each.count, each.service, each.processor, each.fingerprint))


async def count_letters(inspection: Inspection, wanted: LetterQuery) -> int:
    """Return how many dead letters are meant."""
    groups: list[LetterGroup] = []
    for _, store in _stores(inspection, wanted):
        groups += await store.reader.letters.groups(wanted.filter())
    return sum(group.count for group in groups)


async def count_held(inspection: Inspection, *, state: str | None) -> int:
    """Return how many messages are held, dead ones only if `state` says so."""
    counts = [counts for _, store in inspection.services() for counts in (await store.reader.held.counts()).values()]
    return sum(dead if state == DEAD else waiting + dead for waiting, dead in counts)


async def show_letter(inspection: Inspection, name: str) -> LetterDetail:
    """Return one message that is held, or the last of that name that was closed.

    Raises:
        UnknownMessage: there is none.
    """
    wanted = HeldId.parse(name)
    for service, store in inspection.services():
        if service.name == wanted.service:
            held = await store.reader.letters.take([wanted.place])
            closed = await closed_at(store, wanted)
            if held or closed:
                return await _detail(inspection, service, [*closed, *held])
    raise UnknownMessage(f"nothing is held or closed as {name!r}; `dead-letters list --state all` shows what is")


async def closed_at(store: Store, wanted: HeldId) -> list[ClosedRow]:
    """Return what was closed in a place, oldest first."""
    rows = await store.reader.letters.closed(LetterFilter(wanted.processor, wanted.topic), after=FIRST, limit=1 << 30)
    return [row for row in rows if (row.partition, row.offset) == (wanted.partition, wanted.offset)]


async def _detail(inspection: Inspection, service: Service, rows: Sequence[HeldRow | ClosedRow]) -> LetterDetail:
    """Return the last of what is in one place, with what was closed there before."""
    row, store = rows[-1], inspection.stores[service.name]
    letter = await _held_message(service.name, store, row) if isinstance(row, HeldRow) else _closed_letter(service.name, row)
    content, original = content_of(row, inspection.app.catalogue), unpack(row.value)
    envelope = envelope_of(row, inspection.app.catalogue)
    return LetterDetail(
        letter,
        _handler_of(inspection.app, service, row.processor, content),
        row.detail,
        content,
        original.value,
        headers=original.headers,
        history=history_of(row),
        causes=await causes_of(inspection, envelope, key=row.key) if envelope is not None else (),
        closed=tuple(_closed_letter(service.name, each) for each in rows[:-1] if isinstance(each, ClosedRow)),
    )


async def export_letters(inspection: Inspection, wanted: LetterQuery) -> AsyncGenerator[dict[str, Any]]:
    """Yield dead letters with their original bytes, unmasked; raises as `list_letters` does."""
    for service, store in _stores(inspection, wanted):
        after = FIRST
        while rows := await store.reader.letters.page(wanted.filter(), after=after, limit=PAGE):
            after = rows[-1].mark
            for row in rows:
                yield _exported(inspection.app, service, row)


def _exported(app: Application, service: Service, row: HeldRow) -> dict[str, Any]:
    original, content = unpack(row.value), content_of(row, app.catalogue)
    kept = {name: getattr(row, name) for name in ("processor", "topic", "partition", "offset", "key", "reason", "fingerprint", "attempts")}
    return {
        "id": str(HeldId.of(service.name, row)),
        "service": service.name,
        **kept,
        "detail": row.detail,
        "first_at": _moment(row.first_at),
        "last_at": _moment(row.last_at),
        "replaces": row.replaces,
        "history": [document_of(death) for death in history_of(row)],
        "type": content.type,
        "attributes": content.attributes,
        "value_base64": base64.b64encode(original.value).decode(),
        "headers_base64": [[name, base64.b64encode(value or b"").decode()] for name, value in original.headers],
    }


def _handler_of(app: Application, service: Service, processor: str, content: Content) -> str | None:
    """Return the name of the function that takes a message in a processor."""
    for each in service.processors(app.catalogue):
        if each.name == processor and content.message in each.routes:
            return each.routes[content.message].name
    for definition in service.views:
        if processor.rpartition("@")[0] == definition.name:
            return definition.function.__name__
    return None


async def _held_message(service: str, store: Store, row: HeldRow) -> HeldMessage:
    return HeldMessage(
        id=str(HeldId.of(service, row)),
        service=service,
        processor=row.processor,
        topic=row.topic,
        partition=row.partition,
        offset=row.offset,
        key=row.key,
        state=row.state,
        reason=row.reason,
        fingerprint=row.fingerprint,
        attempts=row.attempts,
        redriven=len(history_of(row)),
        first_at=row.first_at,
        last_at=row.last_at,
        behind=(await store.reader.letters.behind([row]))[0],
        size=len(unpack(row.value).value),
        replaces=row.replaces,
    )


def _closed_letter(service: str, row: ClosedRow) -> ClosedLetter:
    names = set(ClosedLetter.__struct_fields__) - {"id", "service", "size"}
    kept = {name: getattr(row, name) for name in names}
    return ClosedLetter(id=str(HeldId.of(service, row)), service=service, size=len(unpack(row.value).value), **kept)


def _stores(inspection: Inspection, wanted: LetterQuery) -> list[tuple[Service, Store]]:
    check_service(inspection.app, wanted)
    return [(service, store) for service, store in inspection.services() if wanted.service in {None, service.name}]


def check_service(app: Application, wanted: LetterQuery) -> None:
    """See that the service that a query names is one of the application.

    Raises:
        ConfigurationError: it is not.
    """
    names = [service.name for service in app.services]
    if wanted.service is not None and wanted.service not in names:
        raise ConfigurationError(f"there is no service {wanted.service!r}; there are {', '.join(names)}")


def _ordered(service: str, mark: Mark) -> tuple[Any, ...]:
    return (mark[0], service, *mark[1:])


def _after(cursor: tuple[str, Mark] | None, service: str) -> Mark:
    """Return behind which letter of a service a page goes on, where letters of one moment are ordered by service first."""
    if cursor is None:
        return FIRST
    last, mark = cursor
    if service == last:
        return mark
    return (mark[0] if service < last else mark[0] - 1, _LAST, *FIRST[2:])


def _cursor(service: str, mark: Mark) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode((service, mark))).decode().rstrip("=")


def _parsed(cursor: str | None) -> tuple[str, Mark] | None:
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(text, type=tuple[str, Mark])
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise ConfigurationError(f"cursor {cursor!r} is none that this list gave") from error


__all__ = [
    "ClosedLetter",
    "ClosedPage",
    "HeldMessage",
    "LetterCause",
    "LetterDetail",
    "LetterPage",
    "LetterQuery",
    "check_service",
    "closed_at",
    "count_held",
    "count_letters",
    "document_of",
    "document_of_detail",
    "export_letters",
    "group_letters",
    "list_closed",
    "list_held",
    "list_letters",
    "show_letter",
]
