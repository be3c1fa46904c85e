"""How far each source has published, and which process may publish it.

Theory. The truth is the records: each that a relay appended carries its journal position in a header, and in every partition a source's
positions grow, up to some row without a gap (`producer`). A *mark* in a compacted topic of the engine's own remembers the state of a
source at one moment: `position`, up to which everything is there; `rows`, how many there are; `places`, for each partition that the source
has written an offset behind which its next record must lie. A partition is put into `places`, and that mark is safe, before the first
row goes there. So

    (I)  all rows up to `position` are there;
    (II) what is there beyond `position` lies in `places`, behind the offsets named there.

One process at a time publishes a source: its *owner*. The order of marks in their partition decides, every process reads them:

    claim      by somebody new: becomes owner at once where there is none, or else when the owner yields, is dead, or has said nothing for
               `RELEASE_S`
    yield      by the owner, when it has finished the append in hand: to whom has claimed, or to nobody when it stops
    at         by the owner, after each append

Who does not own a source waits for the owner to publish what it would have (the owner follows the store, so it does), and claims it only
after `GRACE_S` without progress. Two live relays therefore put nothing twice on the log.

    crash before rows are sent         nothing happened
    crash while rows are sent          some partitions are ahead; the next owner reads behind `places`, by (II) it finds all of them, and
                                       sends only the rows that are missing; it compares the others byte by byte and stops when they differ,
                                       for then the store was restored from an older copy and positions would be reused
    crash before the mark              the same
    the owner is stopped, goes on      somebody else took over; rows may come twice. Each relay sends the rows of a partition in order and
                                       without a gap from a place where all before are there, so whoever reads meets a row first only after
                                       all rows before it, and drops the second: its sequence is not newer (guarantee 3)
    an append gave up                  what was on its way to a broker may arrive after the look at what is there: the same
    two of these at once               the same holds for each

The header is no secret: who may write a topic can forge it. Only access rights keep others from writing a service's topics.

Rejected: a lease in Kafka's group protocol (its session would delay every restart), `transactional.id` as a lock (see `producer`).

Neighbours: `log` hands over appends and what it reads of the marks; `producer` sends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from millrace.engines.kafka.fetcher import Place, headers_of
from millrace.engines.kafka.producer import Outgoing, RowProducer
from millrace.engines.kafka.settings import KafkaSettings
from millrace.errors import DecodeError, MillraceError, Recovery
from millrace.ports import JournalRow, Record
from millrace.serialization import open_envelope

GRACE_S = 0.3
RELEASE_S = 1.5
CLAIM, AT, YIELD = "claim", "at", "yield"
MARKS = "relays"
"""The compacted topic of marks, one partition."""

log = logging.getLogger("millrace")
_living: set[str] = set()
"""The relays of this very process that have not stopped."""


class Mark(msgspec.Struct, frozen=True):
    """The state of one source, said by one relay."""

    kind: str
    writer: str
    position: int
    rows: int
    places: dict[str, int]
    to: str = ""


class Standing(msgspec.Struct):
    """What the marks of a source say, folded in their order."""

    owner: str = ""
    candidate: str = ""
    position: int = 0
    rows: int = 0
    places: dict[str, int] = {}

    def fold(self, mark: Mark) -> None:
        """Take the next mark."""
        if mark.kind == CLAIM:
            if not self.owner and not self.places and not self.position:
                self.position, self.rows, self.places = mark.position, mark.rows, mark.places
            if self.owner in {"", mark.writer}:
                self.owner, self.candidate = mark.writer, ""
            else:
                self.candidate = mark.writer
            return
        if mark.writer not in {self.owner, self.candidate}:
            return  # a relay that was stopped and goes on: what it sent comes twice, what it says is old
        self.position, self.rows, self.places = mark.position, mark.rows, mark.places
        if mark.kind == YIELD:
            self.owner = mark.to or self.candidate
            self.candidate = "" if self.candidate == self.owner else self.candidate
        elif mark.writer == self.candidate:
            self.owner, self.candidate = mark.writer, ""


class Source:
    """What this process knows of a source that it publishes."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.mine = False
        self.position = 0
        self.rows = 0
        self.places: dict[str, int] = {}
        self.there: dict[Place, dict[int, bytes]] | None = {}
        """Rows beyond `position` that are there; None: not known."""


class Reach(msgspec.Struct, frozen=True):
    """What relays need of the log they are part of.

    Attributes:
        fresh: waits until every mark that is there now was folded.
        ends: the known ends; never above the true ones.
        ask: asks for the ends of partitions.
        scan: reads partitions from offsets on, up to their ends.
        acknowledged: takes the ends that an append has reached.
    """

    fresh: Callable[[], Awaitable[None]]
    ends: Callable[[], Mapping[Place, int]]
    ask: Callable[[Iterable[Place]], Awaitable[dict[Place, int]]]
    scan: Callable[[Mapping[Place, int]], Awaitable[dict[Place, list[Record]]]]
    acknowledged: Callable[[Mapping[Place, int]], None]


class Relays:
    """Publishes the journals of this process.

    Args:
        settings: names.
        producer: sends.
        reach: the log.
    """

    def __init__(self, settings: KafkaSettings, producer: RowProducer, reach: Reach) -> None:
        self.name = _own_name()
        self._topic = settings.internal(MARKS)
        self._settings = settings
        self._producer = producer
        self._reach = reach
        self._sources: dict[str, Source] = {}
        self._changed = asyncio.Event()
        self._yielding: set[asyncio.Task[None]] = set()
        self.standings: dict[str, Standing] = {}

    def start(self) -> None:
        """Take part."""
        _living.add(self.name)

    def fold(self, marks: Iterable[Record]) -> dict[Place, int]:
        """Take what was read of the marks; return the ends that they tell of."""
        ends: dict[Place, int] = {}
        for record in marks:
            key = record[1]
            if record[4] < 0 or not record[2] or key is None:
                continue
            mark = msgspec.json.decode(record[2], type=Mark)
            standing = self.standings.setdefault(key, Standing())
            standing.fold(mark)
            ends.update({place_of(text): end for text, end in mark.places.items()})
            self._heed(key, standing)
        self._changed.set()
        self._changed = asyncio.Event()
        return ends

    def _heed(self, key: str, standing: Standing) -> None:
        """Let go of what somebody else has claimed or taken."""
        source = self._sources.get(key)
        if source is None or not source.mine:
            return
        if standing.owner == self.name and standing.candidate:
            self._yield_soon(key)
        elif self.name not in {standing.owner, standing.candidate}:
            source.mine = False

    async def published(self, key: str) -> tuple[int, int]:
        """Return position and number of rows of a source, as this process or the marks know."""
        source = self._sources.get(key)
        if source is None or not source.mine:
            await self._reach.fresh()
        return self.known(key)

    def known(self, key: str) -> tuple[int, int]:
        """Return the same as far as the marks were folded."""
        source = self._sources.get(key)
        if source is not None and source.mine:
            return source.position, source.rows
        standing = self.standings.get(key, Standing())
        return standing.position, standing.rows

    async def append(self, key: str, rows: Sequence[JournalRow], *, after: int) -> int:
        """See `ports.Log.append`."""
        source = self._sources.setdefault(key, Source())
        async with source.lock:
            if not source.mine:
                position, _ = await self.published(key)
                if not rows or position != after:
                    return position
                if not await self._take_over(key, source, rows[-1][0]):
                    return self.standings[key].position
            if rows and source.position == after:
                await self._publish(key, source, rows)
            return source.position

    async def begin(self, key: str, position: int, rows: int) -> None:
        """Say where a source that was never published here stands, and leave it to whoever publishes it.

        Raises:
            Recovery: it was published, and stands elsewhere.
        """
        if await self.published(key) == (position, rows):
            return
        standing = self.standings.get(key, Standing())
        if standing.owner or standing.position or standing.places:
            raise Recovery(f"{key}: it stands at position {standing.position} with {standing.rows} rows, not at {position} with {rows}")
        for kind in (CLAIM, YIELD):
            await self._write(key, Mark(kind, self.name, position, rows, {}), wait=True)
        await self._reach.fresh()

    async def _take_over(self, key: str, source: Source, upto: int) -> bool:
        """Become the owner, unless the one there is publishes the same rows."""
        standing = self.standings.setdefault(key, Standing())
        while standing.owner not in {"", self.name} and not _is_dead(standing.owner):
            before = standing.position
            if before >= upto:
                return False
            await self._until(lambda: standing.position > before or not standing.owner, GRACE_S)  # noqa: B023  # called at once
            if standing.position == before:
                break
        unknown = standing.owner not in {"", self.name}
        await self._write(key, Mark(CLAIM, self.name, standing.position, standing.rows, standing.places), wait=True)
        await self._reach.fresh()
        if standing.candidate == self.name:
            if not _is_dead(standing.owner):
                await self._until(lambda: standing.owner == self.name, RELEASE_S)
            if standing.candidate not in {self.name, ""}:
                return False
        elif standing.owner != self.name:
            return False
        else:
            unknown = False
        if standing.owner == self.name:
            unknown = False
        source.mine = True
        source.position, source.rows, source.places = standing.position, standing.rows, dict(standing.places)
        source.there = None if unknown else {}
        return True

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        until = asyncio.get_running_loop().time() + seconds
        while not condition() and (left := until - asyncio.get_running_loop().time()) > 0:
            changed = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait([changed], timeout=left)
            changed.cancel()

    async def _publish(self, key: str, source: Source, rows: Sequence[JournalRow]) -> None:
        if source.there is None:
            source.there = await self._find(key, source)
        missing = [row for row in rows if not self._is_there(key, source.there, row)] if source.there else rows
        await self._announce(key, source, missing)
        there, source.there = source.there, None  # until the rows are acknowledged, nobody knows what is there
        ends = await self._producer.send([self._outgoing(row) for row in missing]) if missing else {}
        source.position, source.rows = rows[-1][0], source.rows + len(rows)
        source.there = {place: found for place, found in there.items() if max(found) > source.position}
        prefix = len(self._settings.namespace)
        self._reach.acknowledged({(topic[prefix:], partition): end for (topic, partition), end in ends.items()})
        known = self._reach.ends()
        if not source.there:
            source.places = {text: max(offset, known.get(place_of(text), 0)) for text, offset in source.places.items()}
        await self._write(key, Mark(AT, self.name, source.position, source.rows, source.places))

    def _outgoing(self, row: JournalRow) -> Outgoing:
        position, topic, partition, key, value = row
        return Outgoing(self._settings.topic(topic), partition, key.encode(), value, headers_of(position))

    async def _announce(self, key: str, source: Source, rows: Sequence[JournalRow]) -> None:
        """Put partitions that the source has not written yet into a mark, before the first row goes there."""
        new = {(row[1], row[2]) for row in rows} - {place_of(text) for text in source.places}
        if new:
            ends = await self._reach.ask(new)
            places = source.places | {text_of(place): ends.get(place, 0) for place in new}
            await self._write(key, Mark(AT, self.name, source.position, source.rows, places), wait=True)
            source.places = places

    async def _find(self, key: str, source: Source) -> dict[Place, dict[int, bytes]]:
        """Return the rows beyond the position that are there."""
        scanned = await self._reach.scan({place_of(text): offset for text, offset in source.places.items()})
        found: dict[Place, dict[int, bytes]] = {}
        for place, records in scanned.items():
            mine = {record[4]: record[2] for record in records if record[4] > source.position and _source_of(record) == key}
            if mine:
                found[place] = mine
        return found

    @staticmethod
    def _is_there(key: str, there: Mapping[Place, Mapping[int, bytes]], row: JournalRow) -> bool:
        found = there.get((row[1], row[2]))
        if not found or row[0] > max(found):
            return False
        if found.get(row[0]) != row[4]:
            raise Recovery(
                f"{key}: the log has another record under position {row[0]} in {row[1]}/{row[2]}; the store was restored from an older "
                "copy. Publishing would reuse positions; restore the newer store or open a new epoch"
            )
        return True

    def _yield_soon(self, key: str) -> None:
        task = asyncio.get_running_loop().create_task(self._yield(key), name=f"yield {key}")
        self._yielding.add(task)
        task.add_done_callback(self._yielding.discard)

    async def _yield(self, key: str, *, to: str | None = None) -> None:
        """Let go of a source, to whom has claimed it or to nobody."""
        source, standing = self._sources[key], self.standings[key]
        async with source.lock:
            known, source.mine = source.mine and source.there is not None, False
            if not known:
                return  # the next owner has to look what is there
            mark = Mark(YIELD, self.name, source.position, source.rows, source.places, to=standing.candidate if to is None else to)
            try:
                await self._write(key, mark, wait=True)
            except MillraceError as error:
                log.warning("relay of %s: letting go of it failed: %s", key, error)

    async def _write(self, key: str, mark: Mark, *, wait: bool = False) -> None:
        row = Outgoing(self._topic, 0, key.encode(), msgspec.json.encode(mark), None)
        if wait:
            await self._producer.send([row])
        else:
            self._producer.send_later(row)

    async def repeat(self) -> None:
        """Write again how far the sources of this process have come: the last mark of one may have been lost."""
        for key, source in self._sources.items():
            if source.mine and source.there is not None and not source.lock.locked():
                await self._write(key, Mark(AT, self.name, source.position, source.rows, source.places))

    async def stop(self) -> None:
        """Let go of everything."""
        await asyncio.gather(*self._yielding, return_exceptions=True)
        await asyncio.gather(*(self._yield(key, to="") for key, source in self._sources.items() if source.mine))
        self.forget()

    def forget(self) -> None:
        """Take part no more, without a word."""
        _living.discard(self.name)


def _source_of(record: Record) -> str:
    try:
        envelope = open_envelope(record[2], bytes_max=None)
    except DecodeError:
        return ""
    return f"{envelope.source}@{envelope.epoch}"


def text_of(place: Place) -> str:
    """Return a place as a mark names it."""
    return f"{place[0]}/{place[1]}"


def place_of(text: str) -> Place:
    """Return the place that a mark names."""
    topic, _, partition = text.rpartition("/")
    return topic, int(partition)


def _own_name() -> str:
    return f"{_machine()}/{os.getpid()}/{os.urandom(4).hex()}"


def _machine() -> str:
    """Return a name of the space in which process numbers mean something."""
    try:
        space = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        space = 0
    return f"{socket.gethostname()}:{space}"


def _is_dead(name: str) -> bool:
    """Return whether a relay is known to have ended: its process is one of this machine's and is gone."""
    machine, _, rest = name.partition("/")
    if machine != _machine():
        return False
    pid = int(rest.partition("/")[0])
    if pid == os.getpid():
        return name not in _living
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


__all__ = ["MARKS", "Reach", "Relays", "place_of"]
