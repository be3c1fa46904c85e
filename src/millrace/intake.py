"""From records to deliveries: opening envelopes, telling publications of our relays from foreign records, finding the pattern.

What a record can be:

- a message that a pattern of this processor takes: becomes a `Delivery`;
- a type nobody here takes, plain JSON of a kind that no mapping fits, or a fact that only its topic's owner may say, said by somebody
  else: ignored, counted;
- no record at all, but a hole of offsets that hold none (see `ports.Record`): ignored, counted;
- unreadable (oversized, no CloudEvent, data that do not fit): a `Delivery` without a pattern, for the dead letters with reason and bytes.
  It blocks its key only when its envelope decodes and names a source of this application; otherwise its key is not to be trusted.

Whether a record was published by one of our relays is what the log says (`Record.position`), never what an envelope claims: a forged
sequence cannot make later, real records look like repeats. A claim counts only against the record that makes it: a copy of one of our
own records, put there by a mirror or a replay tool, is a repeat when its sequence was seen already.

How a foreign record is read is `foreign`'s; what is held of it is kept with its headers, so that it can be opened again.

Neighbours: `runtime` opens what it reads; `turn` reopens what is held and what timers fire.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from millrace.clock import from_micros, to_text
from millrace.delivery import Delivery
from millrace.errors import DecodeError
from millrace.foreign import Original, Reader, pack, unpack
from millrace.held import HeldRow
from millrace.message import Event, Message, declaration, key_of
from millrace.ports import Record, TimerRow
from millrace.processor import Mode, Pattern, Processor
from millrace.retry import RetryPolicy
from millrace.serialization import UNDECODABLE, Catalogue, Envelope, open_envelope, pack_sequence, seal

TIMERS = "@timers"
"""The topic under which a timer that failed is held."""
WORKERS = 64
"""How many activities of a processor are called at once unless it says otherwise."""


class Opened(msgspec.Struct):
    """What the records of one partition turned into."""

    deliveries: list[Delivery]
    ignored: int
    sources: dict[str, int]
    latest: str
    urgent: bool


class Route(msgspec.Struct, frozen=True):
    """Who takes a type, and how its data are decoded."""

    pattern: Pattern
    decode: Callable[[bytes | msgspec.Raw], Message]
    internal: bool
    owner: str | None
    quiet: bool

    def refuses(self, envelope: Envelope) -> bool:
        """Return whether this is a sound fact that only its topic's owner may say, said by somebody else."""
        if self.owner is None or envelope.source == self.owner:
            return False
        try:
            self.decode(envelope.data)
        except UNDECODABLE:
            return False  # what cannot be read goes to the dead letters, whoever says it
        return True


class Intake:
    """Opens records for one processor.

    Args:
        processor: whose routes decide what is taken.
        service_source: the source of this service; timers come from it.
        catalogue: message classes of the application.
        policy: of handlers that have none of their own, and the limit at which the consumer stops.
        rejection: event class for refused commands.
        failed: told of every handler failure, for health.
    """

    def __init__(  # what opening a record takes, all by keyword
        self,
        processor: Processor,
        *,
        name: str,
        service_source: str,
        catalogue: Catalogue,
        policy: RetryPolicy,
        rejection: type[Event] | None,
        failed: Callable[[Exception], None],
    ) -> None:
        self.name = name
        self.policy = policy
        self.rejection = rejection
        self.note = failed
        self.mode = processor.mode
        self.topics = processor.topics()
        self.workers = processor.workers or WORKERS
        self.patient = all(cls in pattern.quiet for cls, pattern in processor.routes.items())
        self.waits = processor.mode is Mode.TRANSACTION or any(pattern.missing for pattern in processor.routes.values())
        """Handling a message may take a look into the store."""
        self._policies = {cls: policy for cls, policy in processor.retries.items() if policy is not None}
        self._source = service_source
        self._foreign = Reader(catalogue)
        self._origins: dict[tuple[str, str], str] = {}
        self._routes: dict[str, Route] = {
            catalogue.type_of(cls): Route(
                pattern, catalogue.decoder_of(cls), declaration(cls).internal, catalogue.owner_of(cls), cls in pattern.quiet
            )
            for cls, pattern in processor.routes.items()
        }

    def policy_of(self, delivery: Delivery) -> RetryPolicy:
        """Return the policy of the handler that takes a message."""
        return self._policies.get(type(delivery.message), self.policy)

    def open(self, topic: str, partition: int, records: Sequence[Record]) -> Opened:
        """Open the records of a partition."""
        deliveries: list[Delivery] = []
        sources: dict[str, int] = {}
        ignored, latest, urgent = 0, "", False
        for record in records:
            sequence, origin = record[4], ""
            if sequence < 0:
                ignored -= sequence
                continue
            try:
                envelope = open_envelope(record[2]) if sequence else self._open_foreign(topic, partition, record)
            except DecodeError as error:
                deliveries.append(self._unreadable((topic, partition, record[0]), self._kept(topic, record), error))
                urgent = True
                continue
            if envelope is None:
                ignored += 1
                continue
            if sequence:
                origin = self._origins.get((envelope.source, envelope.epoch)) or self._remember_origin(envelope)
            route = self._routes.get(envelope.type)
            if route is None or route.refuses(envelope):
                ignored += 1
                if origin:
                    sources[origin] = sequence
                continue
            if origin:
                latest = envelope.time
            urgent = urgent or not route.quiet
            delivery = self._deliver(record, envelope, route, trusted=bool(origin))
            if not sequence:
                delivery.value = self._kept(topic, record)
            if not origin and envelope.sequence:
                delivery.claim = (f"{envelope.source}@{envelope.epoch}", envelope.sequence)
            delivery.topic, delivery.partition, delivery.origin, delivery.sequence = topic, partition, origin, sequence
            deliveries.append(delivery)
        return Opened(deliveries, ignored, sources, latest, urgent)

    def _open_foreign(self, topic: str, partition: int, record: Record) -> Envelope | None:
        original = Original(record[2], record[5] or (), record[3])
        return self._foreign.open(original, topic=topic, place=f"{topic}/{partition}/{record[0]}")

    def _kept(self, topic: str, record: Record) -> bytes:
        """Return a foreign record as it is kept: with what it takes to open it again."""
        return pack(Original(record[2], record[5] or (), record[3] if record[5] or self._foreign.maps(topic) else 0))

    def _remember_origin(self, envelope: Envelope) -> str:
        """Return "source@epoch", made once per source: readers keep the last sequence under it."""
        origin = self._origins[envelope.source, envelope.epoch] = f"{envelope.source}@{envelope.epoch}"
        return origin

    @staticmethod
    def _deliver(record: Record, envelope: Envelope, route: Route, *, trusted: bool) -> Delivery:
        delivery = Delivery()
        delivery.envelope = envelope
        delivery.offset, delivery.value = record[0], record[2]
        delivery.internal = route.internal
        try:
            delivery.message = route.decode(envelope.data)
        except UNDECODABLE as error:
            kind = "" if envelope.datacontenttype == "application/json" else f" (its content type is {envelope.datacontenttype})"
            delivery.result = ("invalid", f"{envelope.type}: {error}{kind}")
            delivery.key = envelope.partitionkey if trusted else ""
        else:
            delivery.pattern = route.pattern
            delivery.key = envelope.partitionkey or envelope.subject or record[1] or key_of(delivery.message)
        return delivery

    @staticmethod
    def _unreadable(place: tuple[str, int, int], kept: bytes, error: DecodeError) -> Delivery:
        delivery = Delivery()
        delivery.envelope = Envelope("", "", "")
        delivery.topic, delivery.partition, delivery.offset = place
        delivery.value = kept
        delivery.result = (error.reason, error.detail)
        return delivery

    def reopen(self, row: HeldRow) -> Delivery:
        """Return a held message as a delivery; one that still cannot be read has no pattern.

        One that was edited lets causation through: nobody else reads it, so what follows from it names the cause that it has itself.
        """
        original = unpack(row.value)
        record = Record(row.offset, row.key, original.value, original.at, 0, original.headers)
        place = (row.topic, row.partition, row.offset)
        try:
            envelope = self._open_foreign(row.topic, row.partition, record)
        except DecodeError as error:
            return self._unreadable(place, row.value, error)
        route = None if envelope is None else self._routes.get(envelope.type)
        if envelope is None or route is None:
            kind = "its kind of plain JSON" if envelope is None else envelope.type
            return self._unreadable(place, row.value, DecodeError("unknown", f"{kind} is taken by nobody now"))
        delivery = self._deliver(record, envelope, route, trusted=True)
        delivery.value = row.value
        delivery.topic, delivery.partition = row.topic, row.partition
        delivery.key = row.key or delivery.key
        delivery.attempt = row.attempts + 1
        delivery.internal = delivery.internal or row.topic == TIMERS or bool(row.replaces)
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
        record = Record(0, row.key, seal(envelope), 0, 0)  # its place among what is held is given when it fails, see `turn`
        route = self._routes.get(row.type)
        if route is None:
            place = (TIMERS, row.partition, record.offset)
            delivery = self._unreadable(place, record.value, DecodeError("unknown", f"timer {row.name}: nobody takes {row.type}"))
            delivery.key = row.key
        else:
            delivery = self._deliver(record, envelope, route, trusted=True)
            delivery.topic, delivery.partition, delivery.key, delivery.internal = TIMERS, row.partition, row.key, True
        delivery.timer = row.name
        return delivery
