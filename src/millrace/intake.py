"""From records to deliveries: opening envelopes, telling publications of our relays from foreign records, finding the pattern.

What a record can be:

- a message that a pattern of this processor takes: becomes a `Delivery`;
- a type nobody here takes: ignored, counted, its sequence remembered;
- unreadable (oversized, no CloudEvent, data that do not fit): a `Delivery` without a pattern, for the dead letters with reason and bytes.
  It blocks its key only when its envelope decodes and names a source of this application; otherwise its key is not to be trusted.

A claimed sequence above what that source has published is a forgery: such a record is treated as foreign, so that it cannot make
later, real records look like repeats.

Neighbours: `runtime` opens what it reads; `turn` reopens what is held and what timers fire.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from millrace.clock import from_micros, to_text
from millrace.errors import DecodeError
from millrace.message import Event, Message, declaration
from millrace.ports import HeldRow, Record, TimerRow
from millrace.processor import Delivery, Processor
from millrace.retry import RetryPolicy
from millrace.serialization import Catalogue, Envelope, open_envelope, pack_sequence, seal

TIMERS = "@timers"
"""The topic under which a timer that failed is held."""


class Opened(msgspec.Struct):
    """What the records of one partition turned into."""

    deliveries: list[Delivery]
    ignored: int
    sources: dict[str, int]


class Intake:
    """Opens records for one processor.

    Args:
        processor: whose routes decide what is taken.
        service_source: the source of this service; timers come from it.
        catalogue: message classes of the application.
        known_sources: the sources of this application's services.
        published: asks the log for the last position of (source, epoch).
        policy: retries.
        rejection: event class for refused commands.
        failed: told of every handler failure, for health.
    """

    def __init__(  # noqa: PLR0913  # what opening a record takes, all by keyword
        self,
        processor: Processor,
        *,
        name: str,
        service_source: str,
        catalogue: Catalogue,
        known_sources: frozenset[str],
        published: Callable[[str, int], Awaitable[int]],
        policy: RetryPolicy,
        rejection: type[Event] | None,
        failed: Callable[[Exception], None],
    ) -> None:
        self.name = name
        self.policy = policy
        self.rejection = rejection
        self.note = failed
        self.mode = processor.mode
        self._source = service_source
        self._catalogue = catalogue
        self._known = known_sources
        self._published = published
        self._heads: dict[str, int] = {}
        self._origins: dict[tuple[str, str], str] = {}
        self._routes: dict[str, tuple[Any, bool]] = {
            catalogue.type_of(cls): (pattern, declaration(cls).internal) for cls, pattern in processor.routes.items()
        }

    async def open(self, topic: str, partition: int, records: Sequence[Record]) -> Opened:
        """Open the records of a partition."""
        opened = Opened([], 0, {})
        for record in records:
            try:
                envelope = open_envelope(record.value)
            except DecodeError as error:
                opened.deliveries.append(self._unreadable(topic, partition, record, error))
                continue
            origin, sequence = await self._origin(envelope)
            route = self._routes.get(envelope.type)
            if route is None:
                opened.ignored += 1
                if origin:
                    opened.sources[origin] = sequence
                continue
            opened.deliveries.append(self._deliver(topic, partition, record, envelope, route, origin, sequence))
        return opened

    async def _origin(self, envelope: Envelope) -> tuple[str, int]:
        """Return ("source@epoch", position) for a publication by one of our relays, or ("", 0)."""
        name = (envelope.source, envelope.epoch)
        origin = self._origins.get(name)
        if origin is None:
            ours = envelope.source in self._known and envelope.epoch.isdigit()
            origin = self._origins[name] = f"{envelope.source}@{int(envelope.epoch)}" if ours else ""
            if len(self._origins) > 10_000:
                self._origins.clear()
        if not origin:
            return "", 0
        text = envelope.sequence
        if len(text) != 19 or not text.isdigit():
            return "", 0
        sequence = int(text)
        if sequence > self._heads.get(origin, 0):
            head = self._heads[origin] = await self._published(envelope.source, int(envelope.epoch))
            if sequence > head:
                return "", 0
        return origin, sequence

    def _deliver(  # noqa: PLR0913, PLR0917  # on the path of every message
        self,
        topic: str,
        partition: int,
        record: Record,
        envelope: Envelope,
        route: tuple[Any, bool],
        origin: str,
        sequence: int,
    ) -> Delivery:
        delivery = _delivery(envelope, envelope.partitionkey or envelope.subject or record.key or "")
        delivery.topic, delivery.partition, delivery.offset, delivery.value = topic, partition, record.offset, record.value
        delivery.origin, delivery.sequence = origin, sequence
        delivery.pattern, internal = route
        delivery.cause = envelope.causationid if internal else envelope.id
        try:
            delivery.message = self._decode(envelope)
        except DecodeError as error:
            delivery.pattern, delivery.result = None, (error.reason, error.detail)
            if not origin:
                delivery.key = ""
        return delivery

    def _decode(self, envelope: Envelope) -> Message:
        message = self._catalogue.decode(envelope.type, envelope.data)
        if message is None:
            raise DecodeError("unknown", envelope.type)
        return message

    def _unreadable(self, topic: str, partition: int, record: Record, error: DecodeError) -> Delivery:
        delivery = _delivery(Envelope("", "", ""), "")
        delivery.topic, delivery.partition, delivery.offset, delivery.value = topic, partition, record.offset, record.value
        delivery.result = (error.reason, error.detail)
        return delivery

    def reopen(self, row: HeldRow) -> Delivery:
        """Return a held message as a delivery; one that still cannot be read has no pattern."""
        record = Record(row.offset, row.key, row.value, 0)
        try:
            envelope = open_envelope(row.value)
        except DecodeError as error:
            return self._unreadable(row.topic, row.partition, record, error)
        route = self._routes.get(envelope.type)
        if route is None:
            return self._unreadable(row.topic, row.partition, record, DecodeError("unknown", f"{envelope.type} is taken by nobody now"))
        delivery = self._deliver(row.topic, row.partition, record, envelope, route, "", 0)
        delivery.key = row.key
        delivery.attempt = row.attempts + 1
        if row.topic == TIMERS:
            delivery.cause = envelope.causationid
        return delivery

    def timer(self, row: TimerRow) -> Delivery:
        """Return a due timer as a delivery of its key; causation passes through it."""
        envelope = Envelope(
            f"{self.name}/{row.key}/{row.name}/{row.due}",
            self._source,
            row.type,
            row.key,
            to_text(from_micros(row.due)),
            row.key,
            row.correlation,
            row.causation,
            pack_sequence(0),
            "",
            msgspec.Raw(row.data),
        )
        record = Record(row.due, row.key, seal(envelope), 0)
        route = self._routes.get(row.type)
        if route is None:
            delivery = self._unreadable(TIMERS, row.partition, record, DecodeError("unknown", f"timer {row.name}: nobody takes {row.type}"))
            delivery.key = row.key
        else:
            delivery = self._deliver(TIMERS, row.partition, record, envelope, route, "", 0)
            delivery.key, delivery.cause = row.key, row.causation
        delivery.timer = row.name
        return delivery


def _delivery(envelope: Envelope, key: str) -> Delivery:
    delivery = Delivery(
        id=envelope.id,
        source=envelope.source,
        key=key,
        now=_NEVER,
        time_text=envelope.time,
        correlation_id=envelope.correlationid,
        causation_id=envelope.causationid,
    )
    delivery.pattern, delivery.result, delivery.origin, delivery.sequence = None, None, "", 0
    delivery.repeated, delivery.timer, delivery.cause = False, "", envelope.id
    return delivery


_NEVER: datetime = from_micros(0)
