"""The only loop: read what is there, handle it in one transaction with the read positions, wait for more.

One `Loop` per processor. Its life:

    own        partitions come and go with the leases; a new one is claimed by writing a new fencing token into its positions
    collect    at most `batch_max` records over all owned partitions, in turn; held messages and timers that are due
    call       activities are called by workers, outside any transaction and beside everything else here; what they have done is collected
    submit     the turn goes to the writer; `turn` says what happens inside
    learn      positions that moved, partitions that were fenced, keys that are held now
    wait       until the log has more, a timer or retry is due, or somebody calls

While a breaker is open (see `breaker`) no turn is taken but those that probe, with one message each.

Between two turns it takes note of what operators want: a paused loop keeps its partitions and takes no turn until it is to run again.

Health is by progress: a loop that has work and has not advanced for `STUCK_S` is unhealthy, whatever its tasks look like.

Back-pressure: one turn at a time, at most `batch_max` records in memory per processor; what is not read stays in the log. Activities have
a bound of their own, see `workers`.

Neighbours: `hosting` starts loops and tells them what they own; `turn` and `writer` do the transaction; `intake` opens records.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from millrace.breaker import Tally
from millrace.broadcast import Broadcast
from millrace.circuits import Gate
from millrace.claim import Claim, places_of
from millrace.clock import Clock, to_micros
from millrace.consumer_state import LoopState, Orders
from millrace.due_times import DueTimes
from millrace.errors import Recovery, StoreUnavailable
from millrace.harvest import Harvest
from millrace.held_keys import HeldKeys, KeyPlace
from millrace.intake import Intake
from millrace.meter import Meter
from millrace.outcomes import Memory, load_tally
from millrace.pace import Pace
from millrace.ports import LogParts
from millrace.position_check import check_positions
from millrace.processor import Mode
from millrace.read_position import Replay
from millrace.turn import Chunk, Place, Turn
from millrace.workers import Workers
from millrace.writer import Writer

log = logging.getLogger("millrace")

BATCH_MAX = 1000
STUCK_S = 30.0
EARLY_S = 0.001
"""A timer of the event loop may wake this much too early; going to sleep again for less would only spin."""
IDLE_S = 0.5
"""How long the position may lag behind records that concern nobody here."""
QUIET_S = 0.1
"""What only changes state (views, above all) is taken at once where little happens, else with what comes in a beat of this length."""
AGAIN_S = 0.5
"""How often timers that are due are looked at while the log is away: those of the clock fire, deadlines that wait for input do not."""


class Loop:
    """Runs one processor.

    Args:
        intake: the processor's records.
        gate: may anything be called?
        writer, parts, clock: where it writes and reads.
        pace: the beat in which a store's loops take what is not urgent.
        batch_max: records per turn.
    """

    def __init__(  # what a loop is made of, all by keyword
        self,
        *,
        intake: Intake,
        gate: Gate,
        writer: Writer,
        parts: LogParts,
        clock: Clock,
        pace: Pace,
        batch_max: int = BATCH_MAX,
    ) -> None:
        self.name = intake.name
        self._who = f"{writer.store.name}.{intake.name}"
        self.topics = intake.topics
        self._intake = intake
        self.gate = gate
        self._memory = Memory(Tally(), gate.circuit)
        self._store = writer.store
        self._writer = writer
        self._log = parts.log
        self._feed = parts.feed
        self._harvest = Harvest(intake, parts)
        self._clock = clock
        self._batch_max = batch_max
        self._pace = pace
        self._hurried = False
        self._wake = Broadcast()
        self._hurry = Broadcast()
        self._wanted: frozenset[int] = frozenset()
        self._told = False
        self._owned: frozenset[int] = frozenset()
        self._tokens: dict[Place, int] = {}
        self._offsets: dict[Place, int] = {}
        self._replays: dict[Place, Replay] = {}
        self._due_times = DueTimes()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._progress = time.monotonic()
        self._ahead: tuple[dict[Place, int], list[Chunk]] = ({}, [])
        self._idle: dict[Place, Chunk] = {}
        self._in_hand: dict[Place, int] = {}
        self._idle_until = 0.0
        self._again = 0.0
        self._wished = 0
        self._workers: Workers | None = None
        if intake.mode is Mode.OUTSIDE:
            self._workers = Workers(
                intake=intake, store=self._store, clock=clock, count=intake.workers, changed=self._wake.call, circuit=gate.circuit
            )
        self._keys = HeldKeys(self._workers.asks if self._workers is not None else lambda _: False)
        self.orders = Orders()
        self.assigned = False
        self.halted = False
        self.refused = False
        self.last_error: str | None = None
        self.handled = 0
        self.fenced = 0
        self.meter = Meter()

    def start(self) -> None:
        """Begin to run."""
        self._task = asyncio.create_task(self._run(), name=f"loop {self._store.name}.{self.name}")

    async def stop(self) -> None:
        """Finish the turn in hand, and the activities that were called, and stop."""
        self._stopping = True
        self._hurry.call()
        self._wake.call()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._workers is not None:
            self._workers.close()
            await self._workers.idle()
        self._writer.troubles.forget(self._who)

    def own(self, partitions: frozenset[int]) -> None:
        """Say which partitions this process holds the lease of."""
        if partitions != self._wanted or not self.assigned:
            self._wanted, self._told = partitions, True
            self._wake.call()

    def order(self, state: str, *, renew: bool = False) -> None:
        """Say whether to run; with `renew`, partitions are claimed anew. A loop that halted begins again when it is told to run."""
        if self.orders.give(state, renew=renew):
            self._hurry.call()
            self._wake.call()
        if self.halted and self.orders.open:
            self._take_orders()
            if self.orders.running and not self._stopping:
                self.halted, self.last_error = False, None
                self.start()

    async def obeyed(self) -> None:
        """Return when no turn is in hand that began before the last order."""
        taken = asyncio.ensure_future(self.orders.taken())
        await asyncio.wait([taken, *([self._task] if self._task is not None else [])], return_when=asyncio.FIRST_COMPLETED)
        taken.cancel()

    def _take_orders(self) -> None:
        """Take note between two turns; what was read ahead is read again when it is wanted."""
        self._idle, self._ahead, self._progress = {}, ({}, []), time.monotonic()
        if self.orders.renewing:
            self._forget()
        self.gate.leave()
        self.orders.take()

    def wake(self) -> None:
        """Look again: something may have changed."""
        self._wake.call()

    def hurry(self) -> None:
        """Somebody waits for this processor: take what is there at once, and record what concerns nobody."""
        if not self._hurried:
            self._hurried = True
            self._hurry.call()
            self._wake.call()

    def log_changed(self) -> None:
        """Look again if the log has more for an owned partition."""
        ends = self._feed.ends()
        for place, offset in self._offsets.items():
            end = ends.get(place, 0)
            if end > offset and end > self._in_hand.get(place, 0) and ((idle := self._idle.get(place)) is None or end > idle.next):
                if self.orders.running:
                    self._wake.call()
                return

    def timer_set(self, partition: int, due: int) -> None:
        """Remember that a timer was set."""
        if partition in self._owned and self._due_times.set(partition, due):
            self._wake.call()

    async def refresh(self) -> None:
        """Read held keys and timers again, because another process may have changed them."""
        if self._owned:
            await self._keys.load(self._store.reader.held, self.name)
            await self._due_times.load(self._store.reader.timers, self.name)
            self._wake.call()

    def state(self) -> LoopState:
        """Return what the outside may see."""
        lag = self.lag()
        busy = self.orders.running and not self.gate.shut and (lag > 0 or self._due_now())
        stuck = time.monotonic() - self._progress if busy else 0.0
        return LoopState(
            processor=self.name,
            partitions=sorted(self._owned),
            lag=lag,
            held=len(self._keys.blocked),
            stuck_s=round(stuck, 1),
            last_error=self.last_error,
            halted=self.halted or self.refused,
            workers=self._workers.count if self._workers is not None else None,
            calling=self._workers.calling if self._workers is not None else 0,
            wanted=self.orders.state,
            circuit=self.gate.circuit,
        )

    def want_workers(self, count: int) -> None:
        """Take note of what operators want; 0 is what is declared. Nothing happens when it is what they wanted before."""
        if self._workers is not None and count != self._wished:
            self._wished, self._workers.count = count, count or self._intake.workers

    def offsets(self) -> dict[Place, int]:
        """Return the next offset to read per owned (topic, partition)."""
        return dict(self._offsets)

    def ends(self) -> Mapping[Place, int]:
        """Return where the partitions of the log end, as far as is known."""
        return self._feed.ends()

    def has_read(self, ends: Mapping[Place, int]) -> bool:
        """Return whether the owned partitions were read up to some ends, or are not to be read now."""
        return self.resting or (self.assigned and all(offset >= ends.get(place, 0) for place, offset in self._offsets.items()))

    @property
    def resting(self) -> bool:
        """Return whether nothing is to be read now, however much there is: operators want that, or a breaker is open."""
        return not self.orders.running or self.gate.shut

    def lag(self) -> int:
        """Return how many records of owned partitions are not read yet."""
        ends = self._feed.ends()
        return sum(max(0, ends.get(place, 0) - offset) for place, offset in self._offsets.items())

    async def _run(self) -> None:
        pause, failed = 0.1, False
        while not self._stopping:
            seen = self._wake.calls
            if self.orders.open:
                if self._workers is not None:
                    await self._finish_calls(self._workers)
                    self._workers.reopen()
                self._take_orders()
            try:
                worked = await self._step()
            except Recovery as error:
                self.last_error, self.halted = str(error), True
                log.critical("%s.%s stops: %s", self._store.name, self.name, error)
                return
            except Exception as error:  # the loop outlives whatever a turn dies of, and says so
                self.last_error, failed = f"{type(error).__name__}: {error}", True
                self.refused = isinstance(error, StoreUnavailable) and error.reason == "unauthorized"
                if isinstance(error, StoreUnavailable):
                    self._writer.troubles.met(self._who, error)
                else:
                    log.exception("%s: the turn failed and is taken again", self._who)
                self._forget()
                await self._wake.wait(self._wake.calls, pause)
                pause = min(pause * 2, 5.0)
                continue
            if failed:
                self._writer.troubles.over(self._who)
                failed = self.refused = False
            if worked:
                pause = 0.1
                if self._workers is not None or self._keys.again or self.lag() or self._wanted != self._owned:
                    continue
            if not self._stopping:
                await self._wake.wait(seen, self._until_due())
        if self._workers is not None:
            await self._finish_calls(self._workers)

    async def _finish_calls(self, workers: Workers) -> None:
        """Commit what is being called when a stop or an order comes; what was not called is left for later, or for somebody else."""
        workers.close()
        await workers.idle()
        try:
            turn = await self._collect_called(workers, begin=False)
            if turn is not None:
                self._writer.submit(turn)
                await turn.finished
                await self._learn(turn)
        except Exception as error:  # noqa: BLE001  # it is called again after the next start
            log.warning("%s: what was called last was not committed: %s", self._who, error)

    def _forget(self) -> None:
        """Give everything up in memory; the next step claims again what the leases say."""
        self._owned, self._tokens, self._offsets, self._idle, self._replays = frozenset(), {}, {}, {}, {}
        self.gate.leave()
        if self._workers is not None:
            self._workers.forget()

    async def _step(self) -> bool:
        if not self._told:
            return False  # the leases have not said yet what is ours
        if self._wanted != self._owned or not self.assigned:
            await self._assign()
        if not self._owned or not self.orders.running:
            return False
        turn = await self._next_turn()
        if turn is None:
            self.last_error = None if not self._keys.blocked else self.last_error
            if self._workers is None or not self._workers.pending:
                self._progress = time.monotonic()
            return False
        self._pace.pass_now()
        self._in_hand = {(chunk.topic, chunk.partition): chunk.next for chunk in turn.chunks}
        try:
            self._writer.submit(turn)
            if turn.chunks and self._intake.mode is Mode.PURE:
                await self._read_ahead(turn)
            await turn.finished
            await self._learn(turn)
        finally:
            self._in_hand = {}
            if turn.probing:
                self.gate.end(called=turn.called)
        return True

    async def _next_turn(self) -> Turn | None:
        called = await self.gate.opens()
        if self._workers is not None:
            return await self._collect_called(self._workers, begin=called)
        if self.gate.shut:
            return await self._collect_probe() if called else None
        if self._intake.patient:
            await self._gather()
        return await self._collect()

    async def _gather(self) -> None:
        """Where nothing is ever urgent, do not even read before the beat: what comes until then is read at once."""
        left = self._pace.left_s()
        if (until := self._until_due()) is not None:
            left = min(left, until)  # a timer that is due does not wait for company
        if left > EARLY_S and not self._hurried and not self._stopping and 0 < self.lag() < self._writer.most(self._batch_max):
            await self._hurry.wait(self._hurry.calls, left)
            self._idle_until = time.monotonic()

    async def _read_ahead(self, turn: Turn) -> None:
        """While the commit waits for the disk, open what comes next; it is used only if the turn ends as expected."""
        await turn.settled
        expected = dict(self._offsets)
        expected.update({(chunk.topic, chunk.partition): chunk.next for chunk in turn.chunks})
        self._ahead = (expected, await self._read(expected))

    async def _assign(self) -> None:
        """Claim what is new, drop what is gone."""
        wanted = self._wanted
        new = wanted - self._owned
        infos = {info.name: info for info in await self._log.topics() if info.name in self.topics}
        if new:
            claim = Claim(self.name, places_of(infos, new))
            self._writer.submit(claim)
            await claim.finished
            await check_positions(claim.rows, self._log, before=infos, reader=f"{self._store.name}.{self.name}")
            for row in claim.rows:
                self._tokens[row.topic, row.partition] = row.token
                self._offsets[row.topic, row.partition] = row.offset
                if row.replay is not None:
                    self._replays[row.topic, row.partition] = row.replay
        if self._drop([place for place in self._tokens if place[1] not in wanted]):
            self._note_loss(self._owned - wanted)
        self._owned = wanted
        await self._keys.load(self._store.reader.held, self.name)
        await self._due_times.load(self._store.reader.timers, self.name)
        if not self.assigned:
            self._memory.tally = await load_tally(self._store.reader, self.name)
        self.assigned = True
        self._progress = time.monotonic()

    def _drop(self, places: Sequence[Place]) -> bool:
        """Forget places that are no longer ours; return whether activities are being called for them, whose answers come too late."""
        for place in places:
            del self._tokens[place], self._offsets[place]
            self._idle.pop(place, None)
            self._replays.pop(place, None)
        return self._workers is not None and self._workers.drop(places) > 0

    async def _collect(self) -> Turn | None:
        now = to_micros(self._clock.now())
        expected, ahead = self._ahead
        self._ahead = ({}, [])
        chunks = self._with_idle(ahead if ahead and expected == self._offsets else await self._read(self._offsets))
        due = self._due_keys(now)
        timers = self._due_timers(now)
        if not (due or timers) and self._may_wait(chunks):
            return None
        self._hurried = False  # who asks from now on asks for what comes after this
        return self._turn(chunks, due_keys=due, timers=timers)

    def _turn(self, chunks: list[Chunk], **rest: Any) -> Turn:
        rest = {"blocked": self._keys.blocked} | rest
        turn = Turn(self._intake, tokens=dict(self._tokens), chunks=chunks, **rest)
        turn.memory, turn.deadlines = self._memory, self._feed.current()
        return turn

    async def _collect_probe(self) -> Turn | None:
        """Return a turn with one message: something held or something new, whatever is there of the two that did not come last."""
        self._ahead, self._idle = ({}, []), {}
        held = self._keys.first(self._owned)
        chunks = [] if held and self.gate.held_first else await self._read(self._offsets, limit=1)
        due = {} if held or chunks else dict(list(self._due_timers(to_micros(self._clock.now())).items())[:1])
        if not (held or chunks or due):
            return None
        turn = self._turn(chunks, due_keys=[] if chunks else held, timers=due)
        turn.probing = True
        self.gate.begin()
        return turn

    def _due_keys(self, now: int) -> list[KeyPlace]:
        return self._keys.due(self._owned, now=now, limit=self._batch_max)

    def _due_timers(self, now: int) -> dict[int, bool]:
        """Return the partitions whose timers are due and not being called, with whether their input is drained.

        While the log cannot be asked nothing is known to be drained, and deadlines stay due: they are looked at seldom then.
        """
        due = self._due_times.due(self._owned, until=now)
        if due and not self._feed.current():
            if time.monotonic() < self._again:
                return {}
            self._again = time.monotonic() + AGAIN_S
        return {p: self._drained(p) for p in due if self._workers is None or not self._workers.asks_timers(p)}

    async def _collect_called(self, workers: Workers, *, begin: bool) -> Turn | None:
        """Read on for the workers if calls may begin, and return what they have done, as far as it may be committed."""
        due = dict[int, bool]()
        if not workers.closed and begin:
            await self._read_for(workers)
            now = to_micros(self._clock.now())
            keys = (self._keys.first(self._owned) if self.gate.held_first else []) if self.gate.shut else self._due_keys(now)
            if keys and not await workers.ask_retries(keys):
                await self._keys.load(self._store.reader.held, self.name)  # somebody else has dealt with some
            if due := self._due_timers(now):
                await workers.ask_timers(due, until=now, ends=self._feed.ends())
        blocked = self._keys.blocked  # what goes behind because of these must be held, even if they are released meanwhile
        workers.block(blocked)
        workers.start()
        if begin and self.gate.probing and (keys := self._keys.first(self._owned)):  # nothing new can be called, so something held is
            await workers.ask_retries(keys)
            workers.start()
        chunks = self._with_idle(workers.take())
        keys, results = workers.take_retries()
        timers, fired = workers.take_timers()
        if not (chunks or keys or timers) or (not (keys or timers or due) and self._may_wait(chunks)):
            return None
        self._hurried = False
        return self._turn(chunks, due_keys=keys, timers=timers, blocked=blocked, results=results | fired)

    async def _read_for(self, workers: Workers) -> None:
        """Fill the lanes of the workers."""
        ends = self._feed.ends()
        for place in sorted(self._offsets):
            offset = workers.read_to(place)
            if offset is None:
                offset = self._offsets[place]
            room = min(workers.room(place), self._batch_max)
            if room > 0 and ends.get(place, 0) > offset:
                records = await self._log.read(*place, offset=offset, limit=room)
                workers.put(place, offset, records, replay=self._replays.get(place))

    async def _read(self, offsets: dict[Place, int], *, limit: int | None = None) -> list[Chunk]:
        if self._idle:
            offsets = offsets | {place: chunk.next for place, chunk in self._idle.items() if place in offsets}
        return await self._harvest.read(offsets, replays=self._replays, limit=limit or self._writer.most(self._batch_max))

    def _with_idle(self, chunks: list[Chunk]) -> list[Chunk]:
        """Put what was read before and could wait in front of what came after it."""
        idle, self._idle = self._idle, {}
        fresh = [chunk for chunk in chunks if (before := idle.get((chunk.topic, chunk.partition))) is None or before.extend(chunk)]
        return [*idle.values(), *fresh]

    def _may_wait(self, chunks: list[Chunk]) -> bool:
        """Say whether what was read may be kept for a while, because nothing of it is urgent.

        Moving a position past records that no pattern takes has no effect that anybody must see at once. What only changes state can
        wait for the next beat if the store has just been written; the message after it, an urgent one, or who asks for that state takes
        it along. A commit for each of them would cost as much as one for all.
        """
        if not chunks:
            return True
        now, taken = time.monotonic(), sum(len(chunk.deliveries) + len(chunk.again) for chunk in chunks)
        until = now + (self._pace.left_s() if taken else IDLE_S)
        self._idle_until = min(self._idle_until or until, until)
        many = taken + sum(chunk.ignored + chunk.repeats for chunk in chunks) >= self._writer.most(self._batch_max)
        if self._hurried or many or now + EARLY_S >= self._idle_until or any(chunk.urgent for chunk in chunks):
            self._idle_until = 0.0
            return False
        self._idle = {(chunk.topic, chunk.partition): chunk for chunk in chunks}
        return True

    def _drained(self, partition: int) -> bool:
        """Return whether everything that is in the log for a partition was read before this turn."""
        ends = self._feed.ends()
        return self._feed.current() and all(
            ends.get(place, 0) <= offset for place, offset in self._offsets.items() if place[1] == partition
        )

    async def _learn(self, turn: Turn) -> None:
        self._progress = time.monotonic()
        self.handled += turn.handled
        self.meter.learn(turn)
        if turn.outcomes.stop:
            self.last_error = turn.outcomes.stop
            log.error("%s stops: %s", self._who, turn.outcomes.stop)
            await self.gate.stopped()
        for place, offset in turn.advanced.items():
            if place in self._offsets:
                self._offsets[place] = offset
        for place, offset in turn.moved.items():
            self._offsets[place] = offset
        if turn.fenced:
            await self._lose(turn.fenced)
        if turn.held_changed:
            await self._keys.load(self._store.reader.held, self.name)
        if self._workers is not None:
            self._workers.drop(turn.moved)
            self._workers.learn(self._keys.blocked)
        self._keys.again |= turn.wake
        if turn.fired:
            await self._due_times.load(self._store.reader.timers, self.name)

    async def _lose(self, places: set[Place]) -> None:
        """Another owner has written its token: give these partitions up until the leases say otherwise."""
        gone = {partition for _, partition in places}
        self._note_loss(gone)
        self._drop([place for place in self._tokens if place[1] in gone])
        self._owned -= gone
        self._wanted -= gone

    def _note_loss(self, partitions: Iterable[int]) -> None:
        lost = sorted(partitions)
        self.last_error = f"fenced: partitions {lost} have another owner"
        self.fenced += len(lost)
        log.warning("%s: fenced: partitions %s have another owner; what was in hand is dropped", self._who, lost)

    def _due_now(self) -> bool:
        return self._feed.current() and bool(self._due_times.due(self._owned, until=to_micros(self._clock.now()) - 1_000_000))

    def _until_due(self) -> float | None:
        """Return seconds until the next timer or retry, None when nothing is due or nothing is to be done."""
        if not self.orders.running:
            return None
        if self.gate.shut:
            return self.gate.until_s()
        partitions = self._owned
        if (workers := self._workers) is not None:  # what is being called wakes us
            partitions = frozenset(partition for partition in partitions if not workers.asks_timers(partition))
        now = to_micros(self._clock.now())
        keys, timers = self._keys.earliest(self._owned), self._due_times.earliest(partitions)
        waits = [max(0.0, (due - now) / 1_000_000) for due in (keys, timers) if due is not None]
        if timers is not None and not self._feed.current():
            waits[-1] = max(waits[-1], self._again - time.monotonic())  # the last is that of the timers
        until = min(waits, default=None)
        if self._idle:
            left = max(0.0, self._idle_until - time.monotonic())
            return left if until is None else min(until, left)
        return until

    def note(self, error: Exception) -> None:
        """Remember a handler's failure, for health."""
        self.last_error = f"{type(error).__name__}: {error}"
