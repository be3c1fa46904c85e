"""Event-sourced aggregates: state is what folding the stream's events gives, and nothing else.

`decide(message, state, context)` returns new events or refuses; `evolve(state, event)` folds one. Both are pure, so replay gives the same
state every time. A stream is the journal's rows with its name and versions 1, 2, 3 ...; appending twice at one version is impossible
(a unique index), so of two concurrent decisions one decides again.

Snapshots are an optimisation: rows that can be deleted at any time. One is kept every `snapshot_every` events with a mark of the
evolve function's identity (name, version of the state class), and ignored when the mark differs.

Neighbours: `service.aggregate` makes one; `UnitOfWork` loads streams through `fold`; readers through `fold` on the reader's tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from millrace.delivery import Delivery
from millrace.errors import ConfigurationError, DecodeError, VersionConflict
from millrace.keyed import Stream
from millrace.message import Message, kebab, key_of
from millrace.ports import StoreReader, TimerRow
from millrace.processor import Mode, annotated_messages, items_of
from millrace.serialization import Catalogue, Envelope, encode_json, open_envelope
from millrace.timers import Cancel, Timer
from millrace.unit_of_work import Draft, UnitOfWork


class Snapshot(msgspec.Struct, frozen=True):
    """A stored fold; `mark` says which definition made it."""

    version: int
    mark: str
    state: msgspec.Raw


class Recorded(msgspec.Struct, frozen=True):
    """A stored event with what the envelope says of it."""

    message: Message
    version: int
    envelope: Envelope


_open_snapshot = msgspec.json.Decoder(Snapshot).decode


class Aggregate:
    """An event-sourced aggregate type.

    Args:
        state: the class that folding gives; frozen.
        decide: (message, state or None, context) -> events, timers; raises Rejected.
        evolve: (state or None, event) -> state.
        catalogue: where its messages are registered.
        snapshot_every: events between snapshots; 0 keeps none.
        patient: messages that may wait a moment for company.
    """

    mode = Mode.PURE
    replayable = False
    missing = None

    def __init__(  # the declaration of an aggregate, all by keyword
        self,
        *,
        state: type[Any],
        decide: Callable[..., Any],
        evolve: Callable[..., Any],
        catalogue: Catalogue,
        snapshot_every: int,
        version: int = 1,
        patient: Iterable[type[Message]] = (),
    ) -> None:
        if not getattr(state, "__struct_config__", None) or not state.__struct_config__.frozen:
            raise ConfigurationError(f"{state.__name__}: an aggregate's state is a msgspec Struct with frozen=True")
        self.name = kebab(state.__name__)
        self.state = state
        self.messages = annotated_messages(decide)
        self.events = annotated_messages(evolve, position=1)
        self.quiet = frozenset(patient)
        if unknown := self.quiet - set(self.messages):
            raise ConfigurationError(f"{self.name}: patient with {sorted(c.__name__ for c in unknown)}, which its decide does not take")
        self._decide = decide
        self._evolve = evolve
        self._catalogue = catalogue
        self._snapshot_every = snapshot_every
        self._mark = f"{self.name}.v{version}"
        self._decode_state: Callable[[msgspec.Raw], Any] = msgspec.json.Decoder(state).decode

    def stream_of(self, key: str) -> str:
        """Return the name of a key's stream."""
        return f"{self.name}/{key}"

    def wants(self, delivery: Delivery, work: UnitOfWork) -> None:
        """Name the stream."""
        stream = f"{self.name}/{delivery.key}"
        if stream not in work.streams:
            work.wanted_streams[stream] = self

    def react(self, delivery: Delivery, work: UnitOfWork) -> None:
        """Decide, fold, stage."""
        self.decide(delivery, work, expected=None)

    def decide(self, delivery: Delivery, work: UnitOfWork, *, expected: int | None) -> Stream:
        """Decide, fold, stage; return the stream as it is then.

        Raises:
            Rejected: the decision was no.
            VersionConflict: the stream is not at `expected`.
        """
        name = f"{self.name}/{delivery.key}"
        stream = work.streams[name]
        if stream.error is not None:
            raise stream.error
        if expected is not None and stream.version != expected:
            raise VersionConflict(name, expected=expected, found=stream.version)
        items = items_of(self._decide(delivery.message, stream.state, delivery))
        state, version = stream.state, stream.version
        drafts: list[Draft] = []
        for item in items:
            if isinstance(item, Timer | Cancel):
                continue
            draft = work.draft(item, delivery)
            if type(item) in self.events:
                if key_of(item) != delivery.key:
                    raise ConfigurationError(f"{type(item).__name__} for {key_of(item)!r} was decided on stream {name!r}")
                state = self._evolve(state, item)
                version += 1
                draft.stream, draft.version = name, version
            drafts.append(draft)
        timers = [(item.name, self._timer_row(item, delivery, work)) for item in items if isinstance(item, Timer | Cancel)]
        snapshot = self._snapshot(stream, state, version)
        for timer, row in timers:
            work.put_timer(delivery.key, timer, row, processor=self.name)
        work.drafts += drafts
        if version != stream.version:
            stream = work.streams[name] = Stream(state, version, stream.saved if snapshot is None else version)
        if snapshot is not None:
            work.snapshots.append((name, snapshot))
        return stream

    def _timer_row(self, item: Timer | Cancel, delivery: Delivery, work: UnitOfWork) -> TimerRow | None:
        return work.timer_row(item, delivery, processor=self.name) if isinstance(item, Timer) else None

    def _snapshot(self, before: Stream, state: Any, version: int) -> bytes | None:
        """Return an encoded snapshot when enough events came since the last one."""
        if not self._snapshot_every or version // self._snapshot_every <= before.saved // self._snapshot_every:
            return None
        return encode_json(Snapshot(version=version, mark=self._mark, state=msgspec.Raw(encode_json(state))))

    async def call(self, delivery: Delivery, work: UnitOfWork | None) -> Any:
        """Not for aggregates."""
        raise NotImplementedError(self.name)

    async def fold(self, tables: StoreReader, streams: Sequence[str], *, until: int | None = None) -> dict[str, Stream]:
        """Return streams folded up to a version; absent ones have state None and version 0."""
        folded = await self._snapshots(tables, streams, until)
        rows = await tables.journal.streams({name: stream.version for name, stream in folded.items()}, until=until)
        evolve, message_of = self._evolve, self._message
        for name, version, value in rows:
            stream = folded[name]
            if stream.error is not None:
                continue
            try:
                stream.state = evolve(stream.state, message_of(value))
            except Exception as error:  # noqa: BLE001  # one stream that cannot be folded must not stop the others
                stream.error = error
            stream.version = version
        return folded

    async def _snapshots(self, tables: StoreReader, streams: Sequence[str], until: int | None) -> dict[str, Stream]:
        folded = {name: Stream() for name in streams}
        if not self._snapshot_every:
            return folded
        found: Mapping[str, bytes] = await tables.journal.snapshots(streams)
        for name, value in found.items():
            snapshot = _open_snapshot(value)
            if snapshot.mark == self._mark and (until is None or snapshot.version <= until):
                folded[name] = Stream(self._decode_state(snapshot.state), snapshot.version, snapshot.version)
        return folded

    def _message(self, value: bytes) -> Message:
        envelope = open_envelope(value, bytes_max=None)
        message = self._catalogue.decode(envelope.type, envelope.data)
        if message is None:
            raise DecodeError("unknown", f"stream event {envelope.id} has type {envelope.type}, which evolve does not take")
        return message

    async def history(self, tables: StoreReader, key: str) -> list[Recorded]:
        """Return the stored events of a key with their envelopes."""
        rows = await tables.journal.streams({self.stream_of(key): 0})
        return [Recorded(self._message(value), version, open_envelope(value, bytes_max=None)) for _, version, value in rows]
