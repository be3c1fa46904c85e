"""What an engine implements: a `Log`, `Leases` on its partitions, and a `Store` per service.

The runtime and the patterns are written against these protocols alone. They are grouped by promise; each has at most seven
methods. Rows cross the border as plain tuples or the small structs below, in batches: no method is called per message.

Promises an engine makes (each has a conformance test):

- A `StoreTransaction` is atomic, durable when `commit` returns, and isolated from every other writer of the same store.
- `Journal.reserve` gives positions that nobody has had whose rows were published; rows become visible in position order.
- `Log.append` is atomic, keeps the order of its rows, and refuses rows of a source that are not newer than what it has.
- A lease names its holder by an instance; a dead holder's lease is free at once, a stopped holder's after its session.
- Every method raises `StoreUnavailable` with its reason, never a driver's own error. Where several processes write one store at once, a
  transaction that lost to another one raises `Conflict`: nothing of it has happened, and the writer does the same work again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import msgspec

from millrace.held import Held, Letters
from millrace.leasing import Leases
from millrace.read_position import PositionRow

Row = TypeVar("Row")


def rows_of(kind: type[Row], rows: Iterable[tuple[Any, ...]]) -> list[Row]:
    """Return plain tuples as named ones; three times as fast as calling the class, and there is one per message."""
    new: Any = cast("Any", tuple).__new__
    return list(map(partial(new, kind), rows))


class TopicSpec(msgspec.Struct, frozen=True):
    """A topic as declared: `retention_s` None keeps records for ever."""

    name: str
    partitions: int = 3
    retention_s: int | None = None


class TopicInfo(msgspec.Struct, frozen=True):
    """A topic as found: its identity and per partition the range of offsets [start, end)."""

    name: str
    identity: str
    ranges: tuple[tuple[int, int], ...]
    retention_s: int | None = None


class Record(NamedTuple):
    """One row of a partition, appended at a time (microseconds) by a relay of ours under a journal `position`, or by a foreign producer: 0.

    Below 0 there is no record: so many offsets up to this one hold none (holes are told, so that a lost record is noticed).
    `headers` are what a foreign producer put beside the value, None without any and for records of our relays.
    """

    offset: int
    key: str | None
    value: bytes
    at: int
    position: int
    headers: Sequence[tuple[str, bytes | None]] | None = None


class JournalRow(NamedTuple):
    """A journal row on its way to the log."""

    position: int
    topic: str
    partition: int
    key: str
    value: bytes


class Log(Protocol):
    """Partitioned, ordered, replayable topics."""

    async def open(self) -> None:
        """Open it, create or migrate what it needs."""
        ...

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        """Create the topics that do not exist; an existing one keeps its partitions."""
        ...

    async def append(self, source: str, epoch: int, rows: Sequence[JournalRow], *, after: int) -> int:
        """Append rows of a source, in order and all or none, if its last position is `after`.

        Returns the source's last position now: that of `rows`, or where it really stands when another relay was faster (nothing was added).
        A log whose appends are not one thing may have some of these rows already, from a relay that died; it appends the others.

        Raises:
            Recovery: what it has under one of these positions is another row.
        """
        ...

    async def published(self, source: str, epoch: int) -> int:
        """Return the last journal position of a source that the log has, 0 if none."""
        ...

    async def read(self, topic: str, partition: int, *, offset: int, limit: int) -> list[Record]:
        """Return at most `limit` records from `offset` on, in order."""
        ...

    async def topics(self) -> list[TopicInfo]:
        """Return all topics with their ranges."""
        ...

    async def close(self) -> None:
        """Release everything."""
        ...


class LogFeed(Protocol):
    """How readers learn that there is something to read."""

    def ends(self) -> Mapping[tuple[str, int], int]:
        """Return the newest known end offset per (topic, partition)."""
        ...

    def current(self) -> bool:
        """Return whether silence means something: not while the log cannot be asked for its ends, nor soon afterwards."""
        ...

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back, on the event loop, whenever `ends` moved; call what is returned to end that."""
        ...


class LogCopies(Protocol):
    """An ability that a log may have: to take a journal over without its rows passing through the caller."""

    async def copy(self, store: Store, source: str, epoch: int, *, after: int, limit: int) -> int | None:
        """Do what `Log.append` does with at most `limit` rows of a store's journal above `after`; None where it cannot, and nothing was."""
        ...


class LogAdministration(Protocol):
    """What operators and tests do to a log."""

    async def put(self, topic: str, rows: Sequence[tuple[str | None, bytes]], *, partition: int | None = None) -> None:
        """Append records of a foreign producer: (key, value); the partition follows the key unless given."""
        ...

    async def expire(self, *, now_micros: int) -> int:
        """Apply retention; return how many records went."""
        ...

    async def first_since(self, topic: str, *, micros: int) -> tuple[int, ...]:
        """Return per partition the offset of the first record appended at or after a time, or the end where there is none."""
        ...

    async def sources(self) -> list[tuple[str, int, int, int]]:
        """Return (source, epoch, last position, rows published) of every source that published here."""
        ...

    async def counts(self) -> dict[tuple[str, int], int]:
        """Return how many records each (topic, partition) really holds; reads everything, for the ledger."""
        ...

    async def check(self) -> Iterable[tuple[str, bool, str]]:
        """Return (what, well, finding) about settings and health, for `doctor`."""
        ...


class TimerRow(msgspec.Struct):
    """A stored timer; `due` in microseconds."""

    processor: str
    key: str
    name: str
    partition: int
    due: int
    event_time: bool
    type: str
    data: bytes
    correlation: str
    causation: str


class StreamRow(NamedTuple):
    """One event of a stream, or a snapshot (type empty)."""

    stream: str
    version: int
    value: bytes


class JournalEntry(NamedTuple):
    """A row to append. Stream and version are None for what belongs to no stream, topic for what is not published."""

    position: int
    topic: str | None
    partition: int
    key: str
    stream: str | None
    version: int | None
    value: bytes


class States(Protocol):
    """Keyed rows: (kind, key) -> bytes."""

    async def load(self, kind: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the rows that exist; inside a transaction they are locked until it ends."""
        ...

    async def save(self, rows: Sequence[tuple[str, str, bytes]]) -> None:
        """Insert or replace (kind, key, value)."""
        ...

    async def delete(self, rows: Sequence[tuple[str, str]]) -> None:
        """Remove (kind, key)."""
        ...

    async def page(self, kind: str, *, after: str, limit: int) -> list[tuple[str, bytes]]:
        """Return (key, value) with keys above `after`, ascending."""
        ...


class Journal(Protocol):
    """The append-only table of everything the service has said: event store and outbox at once."""

    async def streams(self, after: Mapping[str, int], *, until: int | None = None) -> list[StreamRow]:
        """Return the events of streams above a version each (and up to `until`), by stream and version."""
        ...

    async def reserve(self, count: int) -> int:
        """Return the first of `count` consecutive positions for rows that this transaction will append."""
        ...

    async def snapshots(self, streams: Sequence[str]) -> dict[str, bytes]:
        """Return the snapshots that exist."""
        ...

    async def append(self, rows: Sequence[JournalEntry], *, snapshots: Sequence[tuple[str, bytes]] = ()) -> None:
        """Append rows at reserved positions; replace snapshots of streams, which may be deleted at any time."""
        ...

    async def tail(self, after: int, *, limit: int) -> tuple[list[JournalRow], int]:
        """Return the next rows to publish above a position, and the position up to which was looked."""
        ...

    async def head(self) -> int:
        """Return the last position ever given to a committed row."""
        ...

    async def counts(self, until: int) -> tuple[int, int, int, int]:
        """Return (rows ever appended, rows there, rows retention removed, rows for the log up to a position, removed ones too)."""
        ...


class Positions(Protocol):
    """Read positions with their fencing tokens."""

    async def load(self, processor: str, *, places: Sequence[tuple[str, int]] | None = None) -> list[PositionRow]:
        """Return the positions of a processor: all, or those of some (topic, partition) that exist."""
        ...

    async def claim(self, processor: str, partitions: Sequence[tuple[str, int, int, str]]) -> list[PositionRow]:
        """Write a new fencing token into each (topic, partition, start offset, topic identity) and return the rows."""
        ...

    async def advance(self, rows: Sequence[PositionRow]) -> None:
        """Store rows whose tokens the same transaction has compared."""
        ...

    async def forget(self, processor: str) -> None:
        """Remove a processor's positions, held messages and timers."""
        ...

    async def processors(self) -> list[str]:
        """Return the names of all processors that have positions here."""
        ...


class Timers(Protocol):
    """Stored timers."""

    async def set(self, rows: Sequence[TimerRow]) -> None:
        """Insert or replace by (processor, key, name)."""
        ...

    async def cancel(self, rows: Sequence[tuple[str, str, str]]) -> list[bool]:
        """Remove (processor, key, name); say of each whether it was there."""
        ...

    async def due(self, processor: str, *, partition: int, until: int, limit: int) -> list[TimerRow]:
        """Return the timers of a partition that are due, earliest first."""
        ...

    async def next(self, processor: str) -> dict[int, int]:
        """Return the earliest due time per partition, at the cost of a look-up for each, however many timers wait."""
        ...

    async def page(self, processor: str, *, partition: int, after: tuple[int, str, str], limit: int) -> list[TimerRow]:
        """Return the timers of a partition above (due, key, name), ascending."""
        ...

    async def of_key(self, processor: str, key: str) -> list[TimerRow]:
        """Return the timers of a key, by name."""
        ...

    async def count(self, processor: str | None = None, *, partition: int | None = None) -> int:
        """Return how many timers wait: all, or those of a processor's partition; reads them all, off the hot path."""
        ...


class ViewInfo(msgspec.Struct, frozen=True):
    """One build of a view: `state` is building, serving or retired."""

    id: int
    name: str
    version: int
    state: str


class Documents(Protocol):
    """Documents of views: found by key, by look-up, and in order."""

    async def load(self, view: int, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the documents that exist."""
        ...

    async def save(self, view: int, rows: Sequence[tuple[str, bytes]]) -> None:
        """Insert or replace (key, document)."""
        ...

    async def delete(self, view: int, keys: Sequence[str]) -> None:
        """Remove documents."""
        ...

    async def index(self, view: int, *, remove: Sequence[tuple[str, str, str, str]], add: Sequence[tuple[str, str, str, str]]) -> None:
        """Change look-up rows (field, value, sort, key); field "" lists all."""
        ...

    async def page(self, view: int, *, field: str, value: str, before: tuple[str, str] | None, limit: int) -> list[tuple[str, str, bytes]]:
        """Return (sort, key, document) of a look-up, newest first, below a cursor."""
        ...

    async def count(self, view: int) -> int:
        """Return how many documents a build has; reads them all, for operators."""
        ...


class Views(Protocol):
    """The builds of the views of a service."""

    async def list(self) -> list[ViewInfo]:
        """Return every build."""
        ...

    async def add(self, name: str, version: int, state: str) -> ViewInfo:
        """Create a build."""
        ...

    async def mark(self, view: int, state: str) -> None:
        """Change a build's state."""
        ...

    async def drop(self, view: int) -> None:
        """Remove a build with its documents."""
        ...


class StoredAnswer(NamedTuple):
    """What an idempotency key was used for first."""

    fingerprint: str
    answer: bytes
    at: int


class Answers(Protocol):
    """First answers by idempotency key."""

    async def find(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], StoredAnswer]:
        """Return what is stored for (scope, key)."""
        ...

    async def add(self, rows: Sequence[tuple[str, str, StoredAnswer]]) -> None:
        """Store (scope, key, answer)."""
        ...

    async def seen(self, processor: str, ids: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return which (source, id) of foreign producers a processor has had."""
        ...

    async def remember(self, processor: str, ids: Sequence[tuple[str, str]], *, now_micros: int) -> None:
        """Store (source, id) of foreign records."""
        ...

    async def expire(self, *, before: int) -> int:
        """Forget what is older; return how many rows went."""
        ...


class StoreReader(Protocol):
    """The tables of a store as last committed, or as this transaction sees them."""

    states: States
    journal: Journal
    positions: Positions
    held: Held
    letters: Letters
    timers: Timers
    documents: Documents
    views: Views
    answers: Answers


class StoreTransaction(StoreReader, Protocol):
    """An open write transaction."""

    async def execute(self, sql: str, /, *values: Any) -> list[tuple[Any, ...]]:
        """Run the application's own SQL in the transaction; placeholders as the engine's driver takes them."""
        ...

    async def savepoint(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work`; when it raises, undo what it did and raise on."""
        ...

    async def commit(self) -> None:
        """Make everything durable."""
        ...

    async def rollback(self) -> None:
        """Undo everything."""
        ...


class Store(Protocol):
    """A service's own database."""

    name: str
    reader: StoreReader

    async def open(self) -> None:
        """Open it, create or migrate what it needs."""
        ...

    async def epoch(self) -> int:
        """Return the epoch of its journal."""
        ...

    async def begin(self) -> StoreTransaction:
        """Begin a write transaction; waits for other writers."""
        ...

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back, on the event loop, when another process has committed."""
        ...

    async def check(self) -> Iterable[tuple[str, bool, str]]:
        """Return (what, well, finding) about settings and health, for `doctor`."""
        ...

    async def close(self) -> None:
        """Release everything."""
        ...


class LogParts(NamedTuple):
    """The faces of one log."""

    log: Log
    feed: LogFeed
    administration: LogAdministration
    copies: LogCopies | None = None


class Engine(Protocol):
    """Opens logs, leases and stores; what `Application(engine=...)` takes."""

    name: str

    def log(self) -> LogParts:
        """Return the log of this installation (one per process)."""
        ...

    def leases(self, instance: str) -> Leases:
        """Return the leases for this process."""
        ...

    def store(self, service: str) -> Store:
        """Return the store of a service."""
        ...

    def reading(self) -> Engine:
        """Return an engine for the same place that creates, changes and owns nothing.

        Its log and each of its stores show the moment of their `open`, which raises `StoreUnavailable` (`absent`) for what is not there.
        """
        ...

    async def start(self) -> None:
        """Begin what runs in the background, after log and stores are open."""
        ...

    async def stop(self) -> None:
        """End it, after they are closed."""
        ...
