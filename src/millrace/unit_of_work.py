"""Everything one transaction changes, staged in memory and written at its end.

Order of a flush, and why: states, documents, timers and held messages first; then positions of the journal are reserved, envelopes are
sealed with them, and the journal is appended last, so that on an engine where an append takes an instance-wide lock the lock is held
for the shortest time.

Nothing is staged by a function that raises: patterns compute everything, then stage.

Neighbours: patterns stage; the writer opens, flushes and commits it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import msgspec

from millrace.clock import to_micros, to_text
from millrace.delivery import Delivery
from millrace.errors import ConfigurationError, NotYet
from millrace.held import HeldRow
from millrace.keyed import Documents, Rows, Stream
from millrace.message import Message, declaration, key_of
from millrace.partitioning import partition_of
from millrace.ports import JournalEntry, PositionRow, StoredAnswer, StoreTransaction, TimerRow, rows_of
from millrace.position import Position
from millrace.serialization import Catalogue, Envelope, encode_json, seal
from millrace.state import Delete, State, View, row_key
from millrace.timers import Cancel, Timer
from millrace.traceparent import behind


class Saying(msgspec.Struct, frozen=True):
    """Who says what a unit of work publishes: constant for a service."""

    service: str
    source: str
    epoch: int
    catalogue: Catalogue
    partitions: Callable[[str], int]
    declared: dict[type[Message], tuple[str, str | None, str, int]]
    """What was looked up of a message class when it was said first: type, topic, key field, partitions."""


class Draft(msgspec.Struct, gc=False):
    """A message about to be journalled; `envelope` lacks only id and sequence."""

    message: Message
    envelope: Envelope
    topic: str | None
    partition: int
    stream: str | None = None
    version: int | None = None


class Dependent(msgspec.Struct, gc=False):
    """A message of which some rows are named by rows.

    Attributes:
        delivery: the message.
        sources: classes of the rows that name others.
        name: names the others and returns whether some of them are not loaded.
    """

    delivery: Delivery
    sources: tuple[type[State], ...]
    name: Callable[[Delivery, UnitOfWork], bool]


class UnitOfWork:
    """The changes of one transaction.

    Args:
        transaction: open on the service's store.
        saying: who speaks.
        now: the clock's time, the same for everything in this transaction.
        moved: how far that clock was moved away from real time, in microseconds.
    """

    def __init__(self, transaction: StoreTransaction, saying: Saying, now: datetime, *, moved: int = 0) -> None:
        self.transaction = transaction
        self.now = now
        self.now_micros = to_micros(now)
        self.unmoved_micros = self.now_micros - moved
        """What concerns machines is dated by it, because nobody can move it; see `clock`."""
        self._now_text = ""
        self._saying = saying
        self._epoch = str(saying.epoch)
        self._rows: dict[type[State], Rows] = {}
        self._documents: dict[tuple[type[View], int], Documents] = {}
        self.dependents: list[Dependent] = []
        self.streams: dict[str, Stream] = {}
        self.wanted_streams: dict[str, Any] = {}
        self._declared = saying.declared
        self.drafts: list[Draft] = []
        self._timers: dict[tuple[str, str, str], TimerRow | None] = {}
        self.positions: list[PositionRow] = []
        self.held: list[HeldRow] = []
        self.released: list[HeldRow] = []
        self.snapshots: list[tuple[str, bytes]] = []
        self.journalled: list[JournalEntry] = []
        self.first_commands: dict[tuple[str, str], object] = {}
        self.wanted_answers: set[tuple[str, str]] = set()
        self.answers: dict[tuple[str, str], StoredAnswer] = {}

    @property
    def service(self) -> str:
        """Return the name of the service that speaks."""
        return self._saying.service

    def rows(self, cls: type[State]) -> Rows:
        """Return the cache of a State class."""
        found = self._rows.get(cls)
        if found is None:
            found = self._rows[cls] = Rows(cls, self.transaction)
        return found

    def documents(self, cls: type[View], build: int) -> Documents:
        """Return the cache of a view's build."""
        found = self._documents.get((cls, build))
        if found is None:
            found = self._documents[cls, build] = Documents(cls, build=build, tables=self.transaction)
        return found

    async def load(self) -> None:
        """Load everything that was named, one query per kind; rows that name others first, so that those are loaded with their kind.

        Kinds come in one order, because a load may lock what it reads.
        """
        if self.dependents:
            await self._load_what_names()
        for rows in sorted(self._rows.values(), key=lambda rows: rows.kind):
            await rows.load()
        for documents in sorted(self._documents.values(), key=lambda documents: documents.build):
            await documents.load()
        if self.wanted_streams:
            await self._load_streams()
        if self.wanted_answers:
            wanted, self.wanted_answers = sorted(self.wanted_answers), set()
            self.answers.update(await self.transaction.answers.find(wanted))

    async def _load_what_names(self) -> None:
        dependents, self.dependents = self.dependents, []
        for cls in {cls: None for dependent in dependents for cls in dependent.sources}:
            await self.rows(cls).load()
        for dependent in dependents:
            with contextlib.suppress(NotYet, Exception):  # judged when the message is handled: its rows may be others by then
                dependent.name(dependent.delivery, self)

    async def _load_streams(self) -> None:
        wanted, self.wanted_streams = self.wanted_streams, {}
        for aggregate in {id(a): a for a in wanted.values()}.values():
            names = [name for name, owner in wanted.items() if owner is aggregate]
            self.streams.update(await aggregate.fold(self.transaction, names))

    def draft(self, message: Message, cause: Delivery) -> Draft:
        """Return the message as a draft, encoded; nothing is staged yet.

        Raises:
            Exception: whatever makes it impossible to encode.
        """
        cls = type(message)
        known = self._declared.get(cls)
        if known is None:
            known = self._declared[cls] = self._declare(cls)
        wire, topic, key_name, partitions = known
        key = str(getattr(message, key_name))
        now = self._now_text or self._say_now()
        envelope = Envelope(
            "",
            self._saying.source,
            wire,
            key,
            now,
            key,
            cause.envelope.correlationid or key,
            cause.envelope.causationid if cause.internal else cause.envelope.id,
            "",
            self._epoch,
            msgspec.Raw(encode_json(message)),
        )
        if (trace := cause.envelope.traceparent) is not msgspec.UNSET:
            envelope.traceparent = trace
        return Draft(message, envelope, topic, partition_of(key, partitions))

    def _say_now(self) -> str:
        self._now_text = to_text(self.now)
        return self._now_text

    def _declare(self, cls: type[Message]) -> tuple[str, str | None, str, int]:
        declared = declaration(cls)
        return self.type_of(cls), declared.topic, declared.key, self._saying.partitions(declared.topic or "")

    def stage(self, items: Any, delivery: Delivery, *, processor: str) -> None:
        """Stage what a function returned: states, deletions, messages, timers.

        Raises:
            ConfigurationError: an item is none of these; nothing is staged then.
        """
        drafts: list[Draft] = []
        rows: list[tuple[Rows, str, State | None, bytes]] = []
        timers: list[tuple[str, TimerRow | None]] = []
        for item in items:
            if isinstance(item, Message):
                drafts.append(self.draft(item, delivery))
            elif isinstance(item, State):
                cls = type(item)
                rows.append((self._rows.get(cls) or self.rows(cls), str(getattr(item, cls.__kind__.key)), item, encode_json(item)))
            elif isinstance(item, Delete):
                rows.append((self.rows(type(item.state)), row_key(item.state), None, b""))
            elif isinstance(item, Timer):
                timers.append((item.name, self.timer_row(item, delivery, processor=processor)))
            elif isinstance(item, Cancel):
                timers.append((item.name, None))
            else:
                raise ConfigurationError(
                    f"a function of processor {processor!r} returned {type(item).__name__}; "
                    "return State, Delete, Event, Command, Timer, Cancel"
                )
        self.drafts += drafts
        for cache, key, row, value in rows:
            cache.values[key] = row
            cache.dirty[key] = value
        for name, timer in timers:
            self.put_timer(delivery.key, name, timer, processor=processor)

    def type_of(self, cls: type[Message]) -> str:
        """Return the type of a class on the wire; one that nobody has named yet is this service's."""
        catalogue = self._saying.catalogue
        if not catalogue.knows(cls):
            catalogue.add([cls], service=self._saying.service)
        return catalogue.type_of(cls)

    def timer_row(self, timer: Timer, delivery: Delivery, *, processor: str) -> TimerRow:
        """Return a timer of the message's key as a row; nothing is staged yet."""
        return TimerRow(
            processor=processor,
            key=delivery.key,
            name=timer.name,
            partition=delivery.partition,
            due=to_micros(timer.due(self.now)),
            event_time=timer.event_time,
            type=self.type_of(type(timer.message)),
            data=encode_json(timer.message),
            correlation=behind(delivery.correlation_id, delivery.envelope.traceparent),
            causation=delivery.cause,
        )

    def timer_of(self, message: Message, *, processor: str, name: str, due: int, topics: Iterable[str]) -> TimerRow:
        """Return a timer for a processor that reads these topics, as a row of the message's own key; nothing is staged yet."""
        key, partitions = key_of(message), self._saying.partitions
        width = max([partitions(topic) for topic in topics], default=partitions(self._saying.service))
        wire = self._saying.catalogue.type_of(type(message))
        return TimerRow(processor, key, name, partition_of(key, width), due, False, wire, encode_json(message), "", "")

    def put_timer(self, key: str, name: str, row: TimerRow | None, *, processor: str) -> None:
        """Stage a timer, or with None its removal."""
        self._timers[processor, key, name] = row

    def cancel_timer(self, processor: str, key: str, name: str) -> None:
        """Stage the removal of a timer."""
        self._timers[processor, key, name] = None

    def has_timer(self, processor: str, key: str, name: str) -> bool:
        """Return whether this transaction has set or cancelled a timer."""
        return (processor, key, name) in self._timers

    def due_now(self, processor: str) -> list[TimerRow]:
        """Return the timers of a processor that were staged and are due already, by the clock."""
        rows = self._timers.values()
        return [row for row in rows if row is not None and row.processor == processor and row.due <= self.now_micros and not row.event_time]

    def unset_timer(self, processor: str, key: str, name: str) -> None:
        """Take a staged timer back."""
        self._timers.pop((processor, key, name), None)

    def timers_set(self) -> list[TimerRow]:
        """Return the timers staged."""
        return [row for row in self._timers.values() if row is not None]

    async def flush(self) -> None:
        """Write everything that was staged; the transaction stays open."""
        for rows in self._rows.values():
            await rows.flush()
        for documents in self._documents.values():
            await documents.flush()
        await self._flush_timers()
        transaction = self.transaction
        if self.released:
            await transaction.held.remove(self.released)
        if self.held:
            await transaction.held.save(self.held)
        if self.positions:
            await transaction.positions.advance(self.positions)
        if self.drafts:
            await self._append()

    async def _flush_timers(self) -> None:
        gone = [key for key, row in self._timers.items() if row is None]
        if gone:
            await self.transaction.timers.cancel(gone)
        new = self.timers_set()
        if new:
            await self.transaction.timers.set(new)

    async def _append(self) -> None:
        first = await self.transaction.journal.reserve(len(self.drafts))
        prefix = f"{self._saying.service}-{self._epoch}-"
        entries: list[tuple[Any, ...]] = []
        add = entries.append
        for position, draft in enumerate(self.drafts, first):
            envelope = draft.envelope
            envelope.id = f"{prefix}{position}"
            envelope.sequence = f"{position:019d}"
            add((position, draft.topic, draft.partition, envelope.subject, draft.stream, draft.version, seal(envelope)))
        self.journalled = rows_of(JournalEntry, entries)
        await self.transaction.journal.append(self.journalled, snapshots=self.snapshots)

    def position_of(self, drafts: list[Draft]) -> Position:
        """Return where drafts were written; after `flush`."""
        places: dict[str, int] = {}
        for draft in drafts:
            if draft.topic is not None:
                places[f"{draft.topic}/{draft.partition}"] = int(draft.envelope.sequence)
        return Position(source=self._saying.source, epoch=self._saying.epoch, places=places)
