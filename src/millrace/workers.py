"""Activities called beside each other: several workers for one processor, order per key, a bounded buffer, a contiguous watermark.

Theory. What a processor has read ahead of its position lies in one lane per partition, in the order of the log:

    waiting    not called: every worker is busy, or something of its key is before it
    calling    a worker awaits it
    called     what it answered or raised is there
    behind     its key is held, so it is not called; it is committed behind what is held

Four things hold, whatever the workers do and however many there are:

- **Only a prefix is committed.** `take` hands out, per partition, what stands before the first record that is waiting or calling. So the
  position is a low watermark: nothing below it is missing, and a kill repeats calls of what lay in the lanes, never skips one.
- **One call per key.** Of a (topic, partition, key) one call runs at most, in the order of the log. After one that failed none follows
  until the turn of that failure is over (`learn`): the key is held then, and what comes later goes behind. An answer that was there
  when its key became held is forgotten, because its call was made before the call that is to be repeated.
- **The buffer is bounded.** A lane takes at most `ahead` records, and no more beyond `AHEAD_BYTES`. A slow head fills its lane and stops
  the reading of that partition; the lanes of others move on.
- **A call that nobody waits for any more keeps its key.** When a partition is lost or a turn failed, lanes are dropped; a call that runs
  cannot be called back, but no second one of its key begins before it has ended.

Where a circuit breaker is open no call begins, but for the one that probes; those that run end as they are. Whether a call went well is
told to the breaker when it ends, whenever it is committed.

Held messages and timers that are due are called by the same workers, before anything new. A timer's answer is committed when everything
that was read of its partition before it is: a deadline is judged after the input that was there.

Rejected: batches of calls with a barrier at their end. Ten workers take seven rounds for a batch of 64, and only four of them work in the
last; where keys repeat it is worse, and one slow call keeps all others idle.

Neighbours: `runtime` owns one per processor of activities, reads for it and commits what it hands out; `turn` does the transaction.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from millrace.breaker import Circuit
from millrace.classification import Kind
from millrace.clock import Clock, to_micros
from millrace.delivery import Delivery
from millrace.errors import NotYet, Rejected
from millrace.intake import Intake, Opened
from millrace.ports import Record, Store
from millrace.read_position import Replay
from millrace.replay import part
from millrace.retry import DEAD
from millrace.turn import Chunk, Place, is_cancelling

AHEAD_PER_WORKER = 4
AHEAD_MIN = 64
AHEAD_BYTES = 8 << 20
TIMERS_TOGETHER = 64
UNCALLED = object()
"""The result of a timer's activity that was not called, because one before it of the same key has failed."""

KeyPlace = tuple[str, int, str]
Results = dict[tuple[str, int, int | str], Any]


class _Entry:
    """A record in its lane; without a delivery that can be called, it is called from the start."""

    __slots__ = ("again", "called", "calling", "delivery", "dropped", "first", "key", "next", "opened", "repeats", "size", "void")

    def __init__(self, place: Place, first: int, record: Record, opened: Opened) -> None:
        self.first, self.next = first, record[0] + 1
        self.opened = opened
        self.size = len(record[2])
        self.delivery: Delivery | None = opened.deliveries[0] if opened.deliveries else None
        self.called = self.delivery is None or self.delivery.pattern is None
        self.calling = self.dropped = self.void = self.again = False
        self.repeats = 0
        self.key: KeyPlace = (*place, self.delivery.key if self.delivery is not None else "")


class _Asked(msgspec.Struct):
    """Held messages or timers of one key, to be called one after the other."""

    key: KeyPlace
    deliveries: list[Delivery]
    begun: bool = False
    done: bool = False
    dropped: bool = False


class _Timers(msgspec.Struct):
    """The timers of a partition that are being called: by (key, due, name), and up to where its input has to be taken before."""

    drained: bool
    found: dict[tuple[str, int, int | str], Delivery]
    asked: list[_Asked]
    behind: dict[Place, int]


class Workers:
    """Calls the activities of one processor.

    Args:
        intake: the processor's records.
        store: of its service, for what is held and for timers.
        clock: business time.
        count: how many calls run at once.
        changed: called when there is something to take.
        circuit: of what the activities call.
    """

    def __init__(  # what calling takes, all by keyword
        self, *, intake: Intake, store: Store, clock: Clock, count: int, changed: Callable[[], None], circuit: Circuit | None = None
    ) -> None:
        self._circuit = circuit
        self._intake = intake
        self._store = store
        self._clock = clock
        self._count = count
        self._changed = changed
        self._lanes: dict[Place, deque[_Entry]] = {}
        self._read_to: dict[Place, int] = {}
        self._chains: dict[KeyPlace, deque[_Entry]] = {}
        self._ready: deque[KeyPlace] = deque()
        self._busy: set[KeyPlace] = set()
        self._failed: set[KeyPlace] = set()
        self._learning: set[KeyPlace] = set()
        self._blocked: Mapping[KeyPlace, Any] = {}
        self._retries: dict[KeyPlace, _Asked] = {}
        self._timers: dict[int, _Timers] = {}
        self._asked: deque[_Asked] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def count(self) -> int:
        """Return how many calls may run at once."""
        return self._count

    @count.setter
    def count(self, count: int) -> None:
        """Change it: more begin at once; with fewer, calls that run end as they are."""
        self._count = count
        self.start()

    @property
    def calling(self) -> int:
        """Return how many calls run."""
        return len(self._calls)

    @property
    def pending(self) -> bool:
        """Return whether something was read or asked for and not taken."""
        return bool(self._asked or self._retries or self._timers or any(self._lanes.values()))

    @property
    def ahead(self) -> int:
        """Return how many records of a partition may lie in its lane."""
        return max(AHEAD_MIN, AHEAD_PER_WORKER * self._count)

    def room(self, place: Place) -> int:
        """Return how many more records of a partition may be read."""
        lane = self._lanes.get(place, ())
        return 0 if sum(entry.size for entry in lane) >= AHEAD_BYTES else self.ahead - len(lane)

    def read_to(self, place: Place) -> int | None:
        """Return the next offset to read of a partition; None where nothing was read since the last position."""
        return self._read_to.get(place)

    def put(self, place: Place, first: int, records: Sequence[Record], *, replay: Replay | None = None) -> None:
        """Take records that were read from offset `first` on; `replay` says which of them lie on known ground."""
        lane = self._lanes.setdefault(place, deque())
        for record in records:
            opened = self._intake.open(*place, (record,))
            again, repeats = False, 0
            if replay is not None and record[0] < replay.known:
                parted = part(opened.deliveries, replay)
                opened.deliveries, again, repeats = [*parted.again, *parted.fresh], bool(parted.again), parted.repeats
            if lane and not opened.deliveries and not lane[-1].opened.deliveries:
                _merge(lane[-1], record, opened, repeats)
            else:
                lane.append(entry := _Entry(place, first, record, opened))
                entry.again, entry.repeats = again, repeats
                if not entry.called:
                    self._enchain(entry)
            first = record[0] + 1
        self._read_to[place] = first

    def _enchain(self, entry: _Entry) -> None:
        chain = self._chains.get(entry.key)
        if chain is None:
            self._chains[entry.key] = deque((entry,))
            self._ready.append(entry.key)
        else:
            chain.append(entry)

    def asks(self, key: KeyPlace) -> bool:
        """Return whether the first held message of a key is being called or waits for a worker."""
        return key in self._retries

    def asks_timers(self, partition: int) -> bool:
        """Return whether the timers of a partition are."""
        return partition in self._timers

    async def ask_retries(self, due: Sequence[KeyPlace]) -> bool:
        """Have the first held message of each key called; return whether all of them were found."""
        rows = await self._store.reader.held.load(self._intake.name, keys=sorted({key for _, _, key in due}))
        first = {(row.topic, row.partition, row.key): row for row in reversed(rows) if row.key or row.state != DEAD}
        for key in due:
            if key in first:
                delivery = self._intake.reopen(first[key])
                asked = self._retries[key] = _Asked(key, [delivery], done=delivery.pattern is None)
                if not asked.done:
                    self._asked.append(asked)
        return all(key in first for key in due)

    async def ask_timers(self, due: Mapping[int, bool], *, until: int, ends: Mapping[Place, int]) -> None:
        """Have the due timers of partitions called.

        Args:
            due: partition -> whether its input is drained.
            until: the time now, in microseconds.
            ends: of the log.
        """
        for partition, drained in due.items():
            rows = await self._store.reader.timers.due(self._intake.name, partition=partition, until=until, limit=TIMERS_TOGETHER)
            timers = _Timers(drained, {}, [], {})
            groups: dict[KeyPlace, list[Delivery]] = {}
            for row in rows:
                if row.event_time and not drained:
                    continue
                timers.found[row.key, row.due, row.name] = delivery = self._intake.timer(row)
                key = (delivery.topic, partition, row.key)
                if delivery.pattern is not None and key not in self._blocked:
                    delivery.result = UNCALLED
                    groups.setdefault(key, []).append(delivery)
            timers.asked = [_Asked(key, deliveries) for key, deliveries in groups.items()]
            timers.behind = {place: offset for place, offset in self._read_to.items() if place[1] == partition}
            if not timers.found and not drained:  # deadlines in event time: judged when what is in the log was read
                timers.behind |= {place: ends.get(place, 0) for place in timers.behind}
            self._timers[partition] = timers
            self._asked.extend(timers.asked)

    def block(self, blocked: Mapping[KeyPlace, Any]) -> None:
        """Say which keys are held now."""
        if blocked is self._blocked:
            return
        before, self._blocked = self._blocked, blocked
        self._ready.extend(key for key in self._chains if key in before and key not in blocked)
        fresh = blocked.keys() - before.keys()
        if not fresh:
            return
        for lane in self._lanes.values():
            for entry in lane:
                if entry.key in fresh and entry.delivery is not None and entry.delivery.pattern is not None:
                    self._forget_answer(entry)

    def _forget_answer(self, entry: _Entry) -> None:
        """Make a record of a key that is held wait again; its chain has every record of it then, in order."""
        entry.void = entry.calling
        if entry.called:
            assert entry.delivery is not None  # noqa: S101  # asked before
            entry.called, entry.delivery.result = False, None
        chain = self._chains.setdefault(entry.key, deque())
        if entry in chain:
            return
        lane = self._lanes[entry.key[0], entry.key[1]]
        self._chains[entry.key] = deque(each for each in lane if each.key == entry.key and not each.called)

    def start(self) -> None:
        """Let workers that are free begin."""
        while len(self._calls) < self._count and not self._closed and self._may_begin():
            if (asked := self._next_asked()) is not None:
                asked.begun = True
                self._begin(asked.key, asked.deliveries, asked)
            elif (key := self._next_key()) is not None:
                entry = self._chains[key][0]
                entry.calling = True
                assert entry.delivery is not None  # noqa: S101  # what has none is in no chain
                self._begin(key, [entry.delivery], entry)
            else:
                return

    def _may_begin(self) -> bool:
        circuit = self._circuit
        return circuit is None or not circuit.open or circuit.grants(self._intake.name)

    def _next_asked(self) -> _Asked | None:
        for _ in range(len(self._asked)):
            asked = self._asked.popleft()
            if asked.key not in self._busy:
                return asked
            self._asked.append(asked)
        return None

    def _next_key(self) -> KeyPlace | None:
        """Return a key whose first record may be called; who is kept from that now is made ready again when that is over."""
        while self._ready:
            key = self._ready.popleft()
            if key in self._chains and not (key in self._busy or key in self._failed or key in self._blocked):
                return key
        return None

    def _begin(self, key: KeyPlace, deliveries: list[Delivery], who: _Entry | _Asked) -> None:
        self._busy.add(key)
        probe = self._circuit is not None and self._circuit.begin_probe(self._intake.name)
        task = asyncio.create_task(self._work(key, deliveries, who, probe=probe), name=f"activity {self._intake.name} {key[2]}")
        self._calls.add(task)

    async def _work(self, key: KeyPlace, deliveries: list[Delivery], who: _Entry | _Asked, *, probe: bool) -> None:
        try:
            failed = await self._call(deliveries, probe=probe)
        finally:  # where this is cancelled, nothing has ended: it is never taken
            task = asyncio.current_task()
            if task is not None:
                self._calls.discard(task)
            self._busy.discard(key)
            if probe:
                self._end_probe()
        self._end(who, failed=failed)
        if key in self._chains:
            self._ready.append(key)
        self.start()

    def _end_probe(self) -> None:
        """The loop looks again, whatever the probe has said: it may call everything now, or plan the next probe."""
        if self._circuit is not None:
            self._circuit.release(self._intake.name)
        self._changed()

    def _note(self, delivery: Delivery, error: BaseException | None, *, probe: bool) -> None:
        """Tell the breaker how a call ended."""
        if (circuit := self._circuit) is None:
            return
        kind = self._intake.policy_of(delivery).kind_of(error) if isinstance(error, Exception) else None
        if error is None or kind is Kind.REFUSED:
            circuit.answered(probe=probe)
        elif kind is Kind.TRANSIENT:
            circuit.failed(error, now=to_micros(self._clock.now()), probe=probe)

    async def _call(self, deliveries: list[Delivery], *, probe: bool) -> bool:
        """Call one after the other until one fails; return whether one did."""
        for delivery in deliveries:
            delivery.now = self._clock.now()
            try:
                delivery.result = await delivery.pattern.call(delivery, None)
                self._note(delivery, None, probe=probe)
            except Rejected as refusal:
                delivery.result = refusal
                self._note(delivery, refusal, probe=probe)
            except (NotYet, asyncio.CancelledError, Exception) as error:  # the message's failure, dealt with in the turn
                if isinstance(error, asyncio.CancelledError) and is_cancelling():
                    raise
                delivery.result = error
                self._note(delivery, error, probe=probe)
                return True  # it will be held, and the key's later messages behind it
        return False

    def _end(self, who: _Entry | _Asked, *, failed: bool) -> None:
        if who.dropped:
            return
        if isinstance(who, _Asked):
            who.done = True
            self._changed()
            return
        who.calling = False
        lane = self._lanes[who.key[0], who.key[1]]
        if who.void:
            assert who.delivery is not None  # noqa: S101  # it was called
            who.void, who.delivery.result = False, None
        else:
            who.called = True
            self._unchain(who)
            if failed:
                self._failed.add(who.key)
        if lane[0] is who:
            self._changed()

    def _unchain(self, entry: _Entry) -> None:
        """Take the first record of a key out of its chain."""
        chain = self._chains[entry.key]
        chain.popleft()
        if not chain:
            del self._chains[entry.key]

    def take(self) -> list[Chunk]:
        """Return what may be committed: per partition, what is before the first record that waits or is being called."""
        chunks: list[Chunk] = []
        for place, lane in self._lanes.items():
            taken: list[_Entry] = []
            while lane and (lane[0].called or (not lane[0].calling and lane[0].key in self._blocked)):
                entry = lane.popleft()
                taken.append(entry)
                if not entry.called:
                    self._unchain(entry)
                elif entry.key in self._failed:
                    self._learning.add(entry.key)
            if taken:
                chunks.append(_chunk(place, taken))
        return chunks

    def take_retries(self) -> tuple[list[KeyPlace], Results]:
        """Return the keys whose held message was called, with the results by (topic, partition, offset)."""
        done = [key for key, asked in self._retries.items() if asked.done]
        deliveries = [self._retries.pop(key).deliveries[0] for key in done]
        return done, {(d.topic, d.partition, d.offset): d.result for d in deliveries if d.pattern is not None}

    def take_timers(self) -> tuple[dict[int, bool], Results]:
        """Return partitions whose timers were called and whose input before them was taken, with the results by (key, due, name)."""
        done: dict[int, bool] = {}
        results: Results = {}
        for partition, timers in list(self._timers.items()):
            if any(not asked.done for asked in timers.asked) or any(self._taken_to(p) < offset for p, offset in timers.behind.items()):
                continue
            del self._timers[partition]
            if timers.found or timers.drained:
                done[partition] = timers.drained
                results |= {name: delivery.result for name, delivery in timers.found.items() if delivery.result is not UNCALLED}
        return done, results

    def _taken_to(self, place: Place) -> int:
        lane = self._lanes.get(place)
        return lane[0].first if lane else self._read_to.get(place, 1 << 63)

    def learn(self, blocked: Mapping[KeyPlace, Any]) -> None:
        """A turn is over, and these keys are held now: what waited for the outcome of a failure may go on."""
        self.block(blocked)
        over, self._learning = self._learning, set()
        self._failed -= over
        self._ready.extend(key for key in over if key in self._chains)
        self.start()

    def drop(self, places: Iterable[Place]) -> int:
        """Forget what was read of partitions, and what was asked of them; calls that run keep their keys until they end.

        Returns how many calls run whose answers nobody waits for any more.
        """
        gone, running = set(places), 0
        if not gone:
            return 0
        for place in gone:
            for entry in self._lanes.pop(place, ()):
                entry.dropped = True
                running += entry.calling
                self._chains.pop(entry.key, None)
            self._read_to.pop(place, None)
        partitions = {partition for _, partition in gone}
        timers = [self._timers.pop(partition) for partition in partitions & self._timers.keys()]
        retries = [self._retries.pop(key) for key in list(self._retries) if (key[0], key[1]) in gone or key[1] in partitions]
        for asked in (*retries, *(each for timer in timers for each in timer.asked)):
            asked.dropped = True
            running += asked.begun and not asked.done
        self._asked = deque(asked for asked in self._asked if not asked.dropped)
        self._failed = {key for key in self._failed if (key[0], key[1]) not in gone}
        return running

    def forget(self) -> None:
        """Drop everything."""
        self.drop({*self._lanes, *self._read_to, *((key[0], key[1]) for key in self._retries), *(("", p) for p in self._timers)})
        self._failed, self._learning = set(), set()

    @property
    def closed(self) -> bool:
        """Return whether no call begins any more."""
        return self._closed

    def close(self) -> None:
        """Begin no call any more."""
        self._closed = True

    def reopen(self) -> None:
        """Begin anew; what was read and not called is read again."""
        self.forget()
        self._closed = False

    async def idle(self) -> None:
        """Wait until no call runs."""
        while self._calls:
            await asyncio.wait(set(self._calls))


def _merge(entry: _Entry, record: Record, opened: Opened, repeats: int) -> None:
    """Add a record that is not to be called to such a record before it."""
    entry.next = record[0] + 1
    entry.repeats += repeats
    entry.opened.ignored += opened.ignored
    entry.opened.sources |= opened.sources
    entry.opened.latest = max(entry.opened.latest, opened.latest)


def _chunk(place: Place, entries: list[_Entry]) -> Chunk:
    sources: dict[str, int] = {}
    for entry in entries:
        sources |= entry.opened.sources
    return Chunk(
        *place,
        entries[0].first,
        entries[-1].next,
        [entry.delivery for entry in entries if entry.delivery is not None and not entry.again],
        sum(entry.opened.ignored for entry in entries),
        sources,
        max(entry.opened.latest for entry in entries),
        any(entry.opened.urgent for entry in entries),
        again=[entry.delivery for entry in entries if entry.delivery is not None and entry.again],
        repeats=sum(entry.repeats for entry in entries),
    )


__all__ = ["Workers"]
