"""Why is this message here? What caused it, who handled it, what it caused, and where something of it waits and until when.

Asked by the id of a message, by the name of a held one (`dead-letters list`), or by a key: the id of an order, say, or of a conversation.
The answer is the whole conversation as a tree of causes. Nothing is kept for it but what is there anyway:

    envelopes        say conversation and direct cause; both pass through timers and internal messages
    positions        say of each processor whether it has passed a message
    held rows        say what it did not get past, how often it was tried, and what it waits for
    closed letters   say what an operator gave up or put another message in the place of
    sagas            are instances whose id is a key of the conversation
    timers           of the conversation's keys say what is due later

A message that a processor has passed, does not hold and has no closed letter of was handled, or was recognised as one it had handled
before. How many tries it took is known only while it is held or kept as closed. A cause that lies nowhere is one from outside: a command
that was executed directly, or what a foreign producer named. `trace_search` says how messages are found and what is left out.

Neighbours: `trace_commands` prints it, users serve it over HTTP; the content of messages is no part of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from millrace.administration import declared_processors
from millrace.application import Application
from millrace.clock import from_micros, to_text
from millrace.consumer_state import RUNNING, Wish, load_wishes
from millrace.errors import DecodeError, UnknownMessage
from millrace.foreign import Original, Reader, unpack
from millrace.held import FIRST, ClosedRow, HeldRow, LetterFilter
from millrace.inspection import Inspection
from millrace.intake import TIMERS
from millrace.letter import HeldId, envelope_of
from millrace.ports import PositionRow, Store, TimerRow
from millrace.processor import annotated_messages
from millrace.rebuild import processor_of
from millrace.retry import BEHIND, DEAD, NOT_YET, RELAY, RETRY
from millrace.saga_report import SagaSummary
from millrace.sagas import forgetting, instances_of
from millrace.serialization import Envelope
from millrace.service import Service
from millrace.trace_search import FACT, LIMIT, Found, Search, Searched
from millrace.traceparent import apart

TIMERS_MAX = 100
CLOSED_TOGETHER = 1000
LETTERS_TOGETHER = 500
HANDLED, NOT_READ, SKIPPED, BEFORE = "handled", "not read", "skipped", "before its start"


class Dealing(msgspec.Struct, frozen=True):
    """What one processor has done with a message. Times are RFC 3339.

    `state` is handled, not read, skipped (an operator moved the position past it), before its start, retry, not_yet, behind, dead, or what
    an operator did to its letter: discarded, edited or published.
    """

    consumer: str
    state: str
    attempts: int | None = None
    """Tries that failed; None where that is not known."""
    reason: str | None = None
    due: str | None = None
    """When it is tried again."""
    deadline: str | None = None
    """Until when it waits for another message."""
    behind: str | None = None
    """What is in front: the id of a held message of its key, or how many records come before it."""
    held: str | None = None
    """Its name among held messages or closed letters."""
    wanted: str | None = None
    """paused or stopped, where an operator wants that."""
    successor: str | None = None
    """The id of the message that took its place."""


class TracedMessage(msgspec.Struct, frozen=True):
    """One message of the conversation."""

    id: str
    type: str
    source: str
    time: str
    key: str
    topic: str
    partition: int
    offset: int | None
    """None: it waits in the journal, or went to the dead letters of the relay, or is not published at all."""
    cause: str
    asked: bool
    dealings: tuple[Dealing, ...]


class TracedTimer(msgspec.Struct, frozen=True):
    """A timer that waits until it is due; or (`state`) one that has fired and failed, and is tried again or dead."""

    consumer: str
    key: str
    name: str
    type: str
    due: str
    cause: str
    state: str = "waits"
    attempts: int = 0
    held: str | None = None
    """Its name among held messages, where it has failed."""
    kind: str = "timer"
    """`forget` where nothing happens but that a saga's instance, which has ended or never began, is forgotten; else `timer`."""


class MessageTrace(msgspec.Struct, frozen=True):
    """The conversation of a message, oldest cause first."""

    asked: str
    conversation: str
    messages: tuple[TracedMessage, ...]
    timers: tuple[TracedTimer, ...]
    searched: Searched
    sagas: tuple[SagaSummary, ...] = ()
    """Instances of sagas that it belongs to, with what they wait for and until when."""

    def caused_by(self, id: str) -> tuple[TracedMessage, ...]:
        """Return what a message has caused directly."""
        return tuple(message for message in self.messages if message.cause == id)

    def roots(self) -> tuple[TracedMessage, ...]:
        """Return the messages whose cause is not among them."""
        ids = {message.id for message in self.messages}
        return tuple(message for message in self.messages if message.cause not in ids)

    def causes_of(self, id: str) -> tuple[TracedMessage, ...]:
        """Return a message and its causes, up to the root."""
        by_id = {message.id: message for message in self.messages}
        chain: list[TracedMessage] = []
        while id in by_id and by_id[id] not in chain:
            chain.append(by_id[id])
            id = by_id[id].cause
        return tuple(chain)


async def trace_message(app: Application, name: str, *, limit: int = LIMIT) -> MessageTrace:
    """Return the conversation of a message, as stored at one moment; beside running processes and without any.

    Args:
        app: the application, running or not.
        name: the id of a message (of an edited one that took the place of a letter as well: it leads to the original), the name of a held
            message, or the key or conversation of messages.
        limit: how many records may be read to find it.

    Raises:
        UnknownMessage: nothing of that name was found; the error says how much was looked at.
        StoreUnavailable: log or a store is not there or cannot be read.
    """
    async with Inspection(app) as inspection:
        return await trace(inspection, name, limit=limit)


async def trace(inspection: Inspection, name: str, *, limit: int = LIMIT) -> MessageTrace:
    """Return the conversation of a message; see `trace_message`."""
    search = Search(inspection, limit=limit)
    await search.open()
    known = await _known(inspection, search, name)
    chain = await _causes(search, known)
    first = min(chain, key=lambda found: found.envelope.time, default=None)
    if first is not None:
        await search.place(first)
    conversation = _conversation(first.envelope) if first is not None else name
    found = await search.unpublished(conversation)
    found += await search.mentions(conversation, key=conversation, since=first.at if first is not None else None)
    if first is None and found and (told := _conversation(found[0].envelope)) != conversation:
        conversation = told
        found += await search.unpublished(told)
        found += await search.mentions(told, key=told, since=min((each.at for each in found if each.at is not None), default=None))
    messages = _together([*chain, *found])
    if not messages:
        raise _nothing(name, search.searched)
    dealt = Dealings(inspection)
    await dealt.load(messages)
    keys = {conversation, *(_key(each.envelope) for each in messages)}
    timers = await _timers(inspection, keys, conversation)
    asked = {name, *(each.envelope.id for each in known)} if _is_held_name(name) or FACT.fullmatch(name) else {name}
    traced = tuple(_traced(each, dealt, asked) for each in messages)
    sagas = await instances_of([(service, store.reader) for service, store in inspection.services()], sorted(keys))
    return MessageTrace(name, conversation, traced, timers, search.searched, sagas)


def _nothing(name: str, searched: Searched) -> UnknownMessage:
    more = "" if searched.complete else f"; more may lie in {', '.join(searched.unread[:5])} (--limit reads further)"
    return UnknownMessage(f"no message, key or conversation {name!r} was found in {searched.records:,} records{more}")


def _is_held_name(name: str) -> bool:
    try:
        HeldId.parse(name)
    except UnknownMessage:
        return False
    return True


async def _known(inspection: Inspection, search: Search, name: str) -> list[Found]:
    """Return what can be looked up by name."""
    if _is_held_name(name) and (held := await _held(inspection, search, HeldId.parse(name))) is not None:
        return [held]
    fact = await search.fact(name) or await _replaced(inspection, name)
    return [fact] if fact is not None else await search.stream(name)


async def _replaced(inspection: Inspection, name: str) -> Found | None:
    """Return the original in whose place an edited message stands: that one is in no log, only the consumer of the original reads it."""
    if (parts := FACT.fullmatch(name)) is None or (store := inspection.stores.get(parts["service"])) is None:
        return None
    after = FIRST
    while rows := await store.reader.letters.closed(LetterFilter(), after=after, limit=CLOSED_TOGETHER):
        for row in rows:
            if row.successor == name and (envelope := envelope_of(row, inspection.app.catalogue)) is not None:
                return Found(envelope, row.topic, row.partition, row.offset)
        after = rows[-1].mark
    return None


async def _held(inspection: Inspection, search: Search, wanted: HeldId) -> Found | None:
    store = inspection.stores.get(wanted.service)
    if store is None:
        return None
    if wanted.processor == RELAY:
        return await search.fact(f"{wanted.service}-{await store.epoch()}-{wanted.offset}")
    for row in await store.reader.held.load(wanted.processor):
        if HeldId.of(wanted.service, row) == wanted:
            envelope = _open(inspection, row)
            return Found(envelope, row.topic, row.partition, row.offset) if envelope is not None else None
    return await search.record(wanted.topic, wanted.partition, wanted.offset)


def _open(inspection: Inspection, row: HeldRow) -> Envelope | None:
    original: Original = unpack(row.value)
    try:
        reader = Reader(inspection.app.catalogue)
        return reader.open(original, topic=row.topic, place=f"{row.topic}/{row.partition}/{row.offset}")
    except DecodeError:
        return None


async def _causes(search: Search, known: Sequence[Found]) -> list[Found]:
    """Return messages with their causes, as far as journals have them."""
    found = {each.envelope.id: each for each in known}
    asked = [each.envelope.causationid for each in known]
    while asked:
        cause = asked.pop()
        if cause and cause not in found and (fact := await search.fact(cause)) is not None:
            found[cause] = fact
            asked.append(fact.envelope.causationid)
    return list(found.values())


def _conversation(envelope: Envelope) -> str:
    return envelope.correlationid or _key(envelope)


def _key(envelope: Envelope) -> str:
    return envelope.partitionkey or envelope.subject


def _together(found: Iterable[Found]) -> list[Found]:
    """Return each message once, with its place in the log where that is known, in the order in which they happened."""
    by_id: dict[tuple[str, str], Found] = {}
    for each in found:
        name = (each.envelope.source, each.envelope.id)
        if name not in by_id or by_id[name].offset is None:
            by_id[name] = each
    return sorted(by_id.values(), key=lambda each: (each.envelope.time, each.envelope.source, each.envelope.sequence))


def _moment(micros: int) -> str | None:
    return to_text(from_micros(micros)) if micros else None


async def _timers(inspection: Inspection, keys: Iterable[str], conversation: str) -> tuple[TracedTimer, ...]:
    found: list[TracedTimer] = []
    names = sorted(keys)
    for service, store in inspection.services():
        for processor in await declared_processors(inspection.app, service, store):
            group = inspection.app.group_of(service.name, processor)
            rows = await _waiting_timers(store, processor, names, conversation=conversation)
            forgets = await forgetting(service, store.reader, rows)
            found += [_waiting_timer(row, group, "forget" if (row.processor, row.key) in forgets else "timer") for row in rows]
            failed = [row for row in await store.reader.held.load(processor, keys=names) if row.topic == TIMERS]
            found += [
                _failed_timer(row, group, service.name, envelope) for row in failed if (envelope := _open(inspection, row)) is not None
            ]
    return tuple(sorted(found, key=lambda timer: timer.due))


async def _waiting_timers(store: Store, processor: str, keys: Sequence[str], *, conversation: str) -> list[TimerRow]:
    rows = [row for key in keys for row in (await store.reader.timers.of_key(processor, key))[:TIMERS_MAX]]
    return [row for row in rows if conversation in {apart(row.correlation)[0], row.key}]


def _waiting_timer(row: TimerRow, group: str, kind: str) -> TracedTimer:
    return TracedTimer(group, row.key, row.name, row.type, _moment(row.due) or "", row.causation, kind=kind)


def _failed_timer(row: HeldRow, group: str, service: str, envelope: Envelope) -> TracedTimer:
    name = envelope.id.rsplit("/", 2)[-2] if envelope.id.count("/") >= 2 else envelope.id  # see `Intake.timer`
    again = row.due if row.state == RETRY else 0
    return TracedTimer(
        consumer=group,
        key=row.key,
        name=name,
        type=envelope.type,
        due=_moment(again) or envelope.time,
        cause=envelope.causationid,
        state=row.state,
        attempts=row.attempts,
        held=str(HeldId.of(service, row)),
    )


def _traced(found: Found, dealt: Dealings, asked: set[str]) -> TracedMessage:
    envelope = found.envelope
    return TracedMessage(
        id=envelope.id,
        type=envelope.type,
        source=envelope.source,
        time=envelope.time,
        key=_key(envelope),
        topic=found.topic,
        partition=found.partition,
        offset=found.offset,
        cause=envelope.causationid,
        asked=envelope.id in asked,
        dealings=tuple(dealt.of(found)),
    )


async def _closed(store: Store, keys: Iterable[str], places: Collection[tuple[str, int, int | None]]) -> list[ClosedRow]:
    """Return the letters of some keys that were closed in some places or by the relay, in the order of closing for each key."""
    found: list[ClosedRow] = []
    for key in keys:
        mark = FIRST
        while rows := await store.reader.letters.closed(LetterFilter(key=key), after=mark, limit=LETTERS_TOGETHER):
            found += [row for row in rows if row.processor == RELAY or (row.topic, row.partition, row.offset) in places]
            mark = rows[-1].mark
    return found


class _Taker(msgspec.Struct):
    """A processor with what is stored of it."""

    group: str
    service: str
    topics: Sequence[str]
    types: frozenset[str]
    positions: Mapping[tuple[str, int], PositionRow]
    held: Mapping[tuple[str, int, int], HeldRow]
    closed: Mapping[tuple[str, int, int], ClosedRow]
    wanted: str


def _put_aside(row: ClosedRow, taker: _Taker, wanted: str | None) -> Dealing:
    name, successor = str(HeldId.of(taker.service, row)), row.successor or None
    return Dealing(taker.group, row.how, row.attempts, row.reason or None, held=name, wanted=wanted, successor=successor)


class Dealings:
    """Knows what each processor has done with messages.

    Args:
        inspection: what is stored.
    """

    def __init__(self, inspection: Inspection) -> None:
        self._inspection = inspection
        self._takers: list[_Taker] = []
        self._relays: dict[tuple[str, int], HeldRow | ClosedRow] = {}

    async def load(self, messages: Sequence[Found]) -> None:
        """Read positions and held messages, as far as these messages need them."""
        keys = sorted({_key(found.envelope) for found in messages} | {""})
        for service, store in self._inspection.services():
            wishes = await load_wishes(store.reader)
            types = await self._types(service, store)
            closed = await _closed(store, keys, {(found.topic, found.partition, found.offset) for found in messages})
            for processor, topics in (await declared_processors(self._inspection.app, service, store)).items():
                rows = await store.reader.positions.load(processor)
                held = await store.reader.held.load(processor, keys=keys)
                self._takers.append(
                    _Taker(
                        group=self._inspection.app.group_of(service.name, processor),
                        service=service.name,
                        topics=topics,
                        types=types.get(processor, frozenset()),
                        positions={(row.topic, row.partition): row for row in rows},
                        held={(row.topic, row.partition, row.offset): row for row in held},
                        closed={(row.topic, row.partition, row.offset): row for row in closed if row.processor == processor},
                        wanted=wishes.get(processor, Wish()).state,
                    )
                )
            source = self._inspection.source_of(service.name)
            self._relays.update({(source, row.offset): row for row in closed if row.processor == RELAY})
            self._relays.update({(source, row.offset): row for row in await store.reader.held.load(RELAY, keys=[""])})

    async def _types(self, service: Service, store: Store) -> dict[str, frozenset[str]]:
        """Return processor -> types on the wire that it takes."""
        catalogue = self._inspection.app.catalogue
        found = {p.name: frozenset(catalogue.type_of(cls) for cls in p.routes) for p in service.processors(catalogue)}
        views = {definition.name: definition for definition in service.views}
        for build in await store.reader.views.list():
            if build.name in views:
                classes = annotated_messages(views[build.name].function, position=1)
                found[processor_of(build)] = frozenset(catalogue.type_of(cls) for cls in classes)
        return found

    def of(self, found: Found) -> list[Dealing]:
        """Return what each processor that takes a message has done with it."""
        envelope = found.envelope
        if found.offset is None:
            row = self._relays.get((envelope.source, int(envelope.sequence or 0)))
            if isinstance(row, ClosedRow):
                return [Dealing("relay", row.how, row.attempts, row.reason, successor=row.successor or None)]
            return [Dealing("relay", DEAD, row.attempts, row.reason)] if row is not None else []
        return [
            self._dealing(taker, found, found.offset)
            for taker in self._takers
            if found.topic in taker.topics and envelope.type in taker.types
        ]

    def _dealing(self, taker: _Taker, found: Found, offset: int) -> Dealing:
        wanted = taker.wanted if taker.wanted != RUNNING else None
        row = taker.positions.get((found.topic, found.partition))
        if (held := taker.held.get((found.topic, found.partition, offset))) is not None:
            return self._waiting(taker, held, wanted)
        if (letter := taker.closed.get((found.topic, found.partition, offset))) is not None:
            return _put_aside(letter, taker, wanted)
        if row is None or row.offset <= offset:
            before = offset - row.offset if row is not None else None
            return Dealing(taker.group, NOT_READ, behind=f"{before:,} records" if before else None, wanted=wanted)
        if offset < row.start:
            return Dealing(taker.group, BEFORE, wanted=wanted)
        if row.replay is not None and row.replay.gap_at(offset) is not None:
            return Dealing(taker.group, SKIPPED, wanted=wanted)
        return Dealing(taker.group, HANDLED, wanted=wanted)

    def _waiting(self, taker: _Taker, held: HeldRow, wanted: str | None) -> Dealing:
        front = min(
            (row for row in taker.held.values() if (row.topic, row.partition, row.key) == (held.topic, held.partition, held.key)),
            key=lambda row: row.offset,
        )
        behind: str | None = None
        if held.state == BEHIND and front is not held:
            envelope = _open(self._inspection, front)
            behind = envelope.id if envelope is not None else str(HeldId.of(taker.service, front))
        return Dealing(
            consumer=taker.group,
            state=held.state,
            attempts=held.attempts,
            reason=held.reason or None,
            due=_moment(held.due) if held.state in {RETRY, NOT_YET} else None,
            deadline=_moment(held.deadline) if held.state == NOT_YET else None,
            behind=behind,
            held=str(HeldId.of(taker.service, held)),
            wanted=wanted,
        )


__all__ = ["Dealing", "MessageTrace", "TracedMessage", "TracedTimer", "trace", "trace_message"]
