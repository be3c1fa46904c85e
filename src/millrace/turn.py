"""One turn of a processor: what it read, handled in one transaction with its read positions.

The heart of the guarantees. Inside the transaction, for each partition of the turn:

1. The position row is compared. Another token: this process no longer owns the partition, nothing of it is handled and the loop gives it
   up. The same token but another offset: somebody moved the position (an operator), the loop reads again from there.
2. A record whose sequence is not above the last one seen of its source in this partition was published again: dropped, counted. Records
   of foreign producers are recognised by (source, id) in the inbox table. Where an operator has moved the position back, `replay` says
   what is delivered again.
3. A record whose key is held waits behind it. Everything else is handled by its pattern; what fails is held (see `retry`, `outcomes`).
   Where the consumer is to stop, the chunk is cut behind what was handled: the rest stays unread.
4. The position row is advanced with its counters, in the same transaction as everything staged.

Then held messages that are due, then timers that are due: a deadline is judged after the input that was there.

A kill -9 before the commit returns leaves the position where it was, and the turn is taken again from the same records.

Neighbours: `runtime` collects a turn and submits it to the `writer`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

import msgspec

from millrace import retry
from millrace.breaker import Tally
from millrace.clock import from_micros, to_text
from millrace.delivery import Delivery
from millrace.errors import NotYet
from millrace.held import HeldRow
from millrace.intake import TIMERS, Intake
from millrace.notes import Notes
from millrace.outcomes import Memory, Outcomes, reason_of
from millrace.ports import PositionRow
from millrace.processor import Mode, Pattern
from millrace.read_position import Replay
from millrace.tracing import TurnSpans
from millrace.unit_of_work import UnitOfWork
from millrace.writer import Waiting

Place = tuple[str, int]
TIMERS_TOGETHER = 500
CHAIN_MAX = 1000


class Chunk(msgspec.Struct):
    """Consecutive records of one partition, opened and decoded."""

    topic: str
    partition: int
    first: int
    next: int
    deliveries: list[Delivery]
    ignored: int
    sources: dict[str, int]
    latest: str = ""
    urgent: bool = True
    again: list[Delivery] = []
    """What lies on known ground and is delivered all the same; see `replay`."""
    repeats: int = 0
    """How many were dropped there."""

    def extend(self, after: Chunk) -> None:
        """Add the records that follow."""
        self.next, self.ignored, self.urgent = after.next, self.ignored + after.ignored, after.urgent
        self.deliveries = self.deliveries + after.deliveries
        self.again, self.repeats = self.again + after.again, self.repeats + after.repeats
        self.sources = self.sources | after.sources
        self.latest = max(self.latest, after.latest)


class Turn(Waiting):
    """A processor's work item.

    Args:
        intake: the processor with what it needs to open records.
        tokens: fencing token per place that this process owns.
        chunks: what was read.
        due_keys: (topic, partition, key) of held messages to try.
        timers: partition -> whether its input is drained, for partitions with timers due.
        blocked: the first held state per (topic, partition, key), as the loop knows it.
        results: of activities that were called, for held messages by (topic, partition, offset), for timers by (key, due, name).

    Attributes:
        memory: of failures, from turn to turn.
        probing: of what is held, or of timers, only the first is to be tried.
        called: a function that runs in the transaction was called.
        deadlines: may be judged; not while the log is away, nor while sources that have come back stand at different places.
    """

    def __init__(  # one value per thing that makes a turn
        self,
        intake: Intake,
        *,
        tokens: dict[Place, int],
        chunks: list[Chunk],
        due_keys: Iterable[tuple[str, int, str]] = (),
        timers: dict[int, bool] | None = None,
        blocked: dict[tuple[str, int, str], tuple[str, int]] | None = None,
        results: dict[tuple[str, int, int | str], Any] | None = None,
    ) -> None:
        super().__init__()
        self._intake = intake
        self.memory = Memory(Tally())
        self.probing = False
        self.called = False
        self.deadlines = True
        self._tokens = tokens
        self.chunks = chunks
        self._current: list[Chunk] = []
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._due_keys = list(due_keys)
        self._timers = timers or {}
        self._known_blocked = blocked or {}
        self._results = results
        self._blocked: dict[tuple[str, int, str], tuple[str, int]] = {}
        self._rows: dict[Place, PositionRow] = {}
        self._held: list[tuple[HeldRow, Delivery]] = []
        self._fired: list[Delivery] = []
        self._waiting_keys: set[tuple[int, str]] = set()
        self.fenced: set[Place] = set()
        self.moved: dict[Place, int] = {}
        self.advanced: dict[Place, int] = {}
        self.wake: set[tuple[int, str]] = set()
        self.held_changed = False
        self.handled = 0
        self.fired = bool(self._timers)
        self.outcomes = Outcomes(intake, self.memory, probing=self.probing)
        self.notes = Notes(intake.group)
        self._spans: TurnSpans | None = None
        self.begun = time.monotonic()

    def _reset(self) -> None:
        """Forget a try whose transaction was undone; the writer may prepare an item twice."""
        self._held, self._fired, self._rows = [], [], {}
        self._blocked = dict(self._known_blocked)
        self._waiting_keys = {(p, k) for (_, p, k), (state, _) in self._blocked.items() if state == retry.NOT_YET}
        self.fenced, self.moved, self.advanced, self.wake = set(), {}, {}, set()
        self.held_changed, self.handled = False, 0
        self.outcomes = Outcomes(self._intake, self.memory, probing=self.probing)
        self.notes = Notes(self._intake.group)
        self._forget_spans()

    async def prepare(self, unit: UnitOfWork) -> None:
        """Compare positions, load held messages and timers, name the rows of everything."""
        name = self._intake.name
        self._reset()
        concerned = self._concerned()
        for row in await unit.transaction.positions.load(name, places=concerned):
            self._rows[row.topic, row.partition] = row
        for place in concerned:
            row = self._rows.get(place)
            if place in self._tokens and (row is None or row.token != self._tokens[place]):
                self.fenced.add(place)
        self._current = [chunk for chunk in self.chunks if self._is_current(chunk)]
        for chunk in self._current:
            for delivery in chunk.again:
                self._want(delivery, unit)
            for delivery in chunk.deliveries:
                self._want(delivery, unit)
        await self._drop_foreign_repeats(unit)
        await self._drop_held(unit)
        await self._prepare_held(unit)
        await self._prepare_timers(unit)
        if (tracing := self._intake.tracing) is not None:
            self._spans = tracing.turn(self._intake.group, self._all_deliveries())

    def _all_deliveries(self) -> list[Delivery]:
        """Return what this turn will handle, as far as it is known before; not what was published again."""
        found = [delivery for chunk in self._current for delivery in chunk.again if not (delivery.replayed and delivery.repeated)]
        for chunk in self._current:
            sources = self._rows[chunk.topic, chunk.partition].sources
            found += [d for d in chunk.deliveries if not d.repeated and not (d.origin and d.sequence <= sources.get(d.origin, 0))]
        return [*found, *(delivery for _, delivery in self._held), *self._fired]

    def _concerned(self) -> list[Place]:
        """Return the places whose positions this turn compares or changes."""
        concerned = {(chunk.topic, chunk.partition): None for chunk in self.chunks}
        if waiting := {partition for _, partition, _ in self._due_keys} | self._timers.keys():
            concerned |= {place: None for place in self._tokens if place[1] in waiting}
            concerned |= {(TIMERS, partition): None for partition in waiting}
            concerned |= {(topic, partition): None for topic, partition, _ in self._due_keys}
        return list(concerned)

    def _is_current(self, chunk: Chunk) -> bool:
        place = (chunk.topic, chunk.partition)
        if place in self.fenced:
            return False
        row = self._rows[place]
        if row.offset != chunk.first:
            self.moved[place] = row.offset
            return False
        return True

    def _want(self, delivery: Delivery, unit: UnitOfWork) -> None:
        if delivery.pattern is None:
            return
        delivery.now = unit.now
        try:
            delivery.pattern.wants(delivery, unit)
        except (NotYet, Exception) as error:  # noqa: BLE001  # a selector is the user's code; its failure is the message's
            delivery.result = error
            delivery.pattern = FAILING

    async def _drop_foreign_repeats(self, unit: UnitOfWork) -> None:
        foreign = [d for chunk in self._current for d in chunk.deliveries if not d.origin and d.pattern is not None]
        foreign += [d for chunk in self._current for d in chunk.again if not (d.origin or d.replayed) and d.pattern is not None]
        if not foreign:
            return
        ids = [(d.source, d.id) for d in foreign]
        known = await unit.transaction.answers.seen(self._intake.name, ids)
        fresh: list[tuple[str, str]] = []
        for delivery, name in zip(foreign, ids, strict=True):
            delivery.repeated = name in known
            if not delivery.repeated:
                known.add(name)
                fresh.append(name)
        await unit.transaction.answers.remember(self._intake.name, fresh, now_micros=unit.unmoved_micros)

    async def _drop_held(self, unit: UnitOfWork) -> None:
        """Do not deliver again what waits or is dead: that is still on its way."""
        again = [delivery for chunk in self._current for delivery in chunk.again if delivery.replayed]
        if again:
            rows = await unit.transaction.held.load(self._intake.name, keys=sorted({delivery.key for delivery in again}))
            held = {(row.topic, row.partition, row.offset) for row in rows}
            for delivery in again:
                delivery.repeated = (delivery.topic, delivery.partition, delivery.offset) in held

    async def _prepare_held(self, unit: UnitOfWork) -> None:
        keys = sorted({key for _, _, key in self._due_keys})
        if not keys:
            return
        lost = {partition for _, partition in self.fenced}
        wanted = {place for place in self._due_keys if place[1] not in lost}
        rows = [r for r in await unit.transaction.held.load(self._intake.name, keys=keys) if (r.topic, r.partition, r.key) in wanted]
        for row in rows:
            if len(self._held) == (1 if self.probing else CHAIN_MAX):
                break
            if row.state == retry.DEAD and not row.key:
                continue  # nothing waits behind it
            delivery = self._intake.reopen(row)
            if self._results is not None and delivery.pattern is not None:
                if (row.topic, row.partition, row.offset) not in self._results:
                    continue
                delivery.result = self._results[row.topic, row.partition, row.offset]
            self._want(delivery, unit)
            self._held.append((row, delivery))

    async def _prepare_timers(self, unit: UnitOfWork) -> None:
        for partition, drained in self._timers.items():
            if any(place[1] == partition for place in self.fenced):
                continue
            limit = 1 if self.probing else TIMERS_TOGETHER
            rows = await unit.transaction.timers.due(self._intake.name, partition=partition, until=unit.now_micros, limit=limit)
            for row in rows:
                if row.event_time and not self._is_over(row.due, partition, drained=drained):
                    continue
                delivery = self._intake.timer(row)
                if self._results is not None:
                    if (row.key, row.due, row.name) not in self._results:
                        continue
                    delivery.result = self._results[row.key, row.due, row.name]
                self._want(delivery, unit)
                self._fired.append(delivery)
        if len(self._timers) > 1:
            self._fired.sort(key=lambda delivery: delivery.envelope.time)  # when each was due

    async def settle(self, unit: UnitOfWork) -> None:
        """Everything is written and the commit begins: a good moment to read ahead."""
        self._settle()

    def done(self) -> None:
        """Remember what this turn has counted, say what there is to say about messages, and wake the loop."""
        self.outcomes.accept()
        self.notes.say()
        if self._spans is not None:
            self._spans.end()
            self._spans = None
        super().done()

    def failed(self, error: BaseException) -> None:
        """Hand the error to the loop."""
        self._settle()
        self._forget_spans()
        super().failed(error)

    def _forget_spans(self) -> None:
        if self._spans is not None:
            self._spans.forget()
            self._spans = None

    def _settle(self) -> None:
        if not self.settled.done():
            self.settled.set_result(None)

    def _is_over(self, due: int, partition: int, *, drained: bool) -> bool:
        """Return whether a deadline has passed by the input of its partition."""
        return self.deadlines and (drained or self._passed(partition) >= to_text(from_micros(due)))

    def _passed(self, partition: int) -> str:
        """Return the business time that the input of a partition has reached in this turn."""
        return max((chunk.latest for chunk in self._current if chunk.partition == partition), default="")

    async def run(self, unit: UnitOfWork) -> None:
        """Handle records, then held messages, then timers."""
        for chunk in self._current:
            if self.outcomes.cut:
                self.moved[chunk.topic, chunk.partition] = chunk.first
            else:
                await self._run_chunk(chunk, unit)
        await self._run_held(unit)
        for delivery in self._fired:
            if not self.outcomes.cut:
                await self._fire(delivery, unit)
        if not self.outcomes.cut:
            await self._run_due_at_once(unit)
        await self.outcomes.write(unit, handled=self.handled)

    async def _run_due_at_once(self, unit: UnitOfWork) -> None:
        """Handle the timers that this very turn has set and that are due already: waiting for the next one would help nobody.

        What they set in turn waits for the next turn, so a timer that sets itself for now cannot keep the transaction open. Not for
        activities, which are called before the transaction begins.
        """
        if self._results is not None:
            return
        owned = {partition for _, partition in self._tokens.keys() - self.fenced}
        due = [row for row in unit.due_now(self._intake.name) if row.partition in owned]
        places = {(TIMERS, row.partition) for row in due} - self._rows.keys()
        for row in await unit.transaction.positions.load(self._intake.name, places=sorted(places)) if places else ():
            self._rows[row.topic, row.partition] = row
        fired = [self._intake.timer(row) for row in due]
        for delivery in fired:
            self._want(delivery, unit)
        if fired:
            await unit.load()
        for delivery in fired:
            unit.unset_timer(self._intake.name, delivery.key, delivery.timer)
            await self._fire(delivery, unit)

    async def _fire(self, delivery: Delivery, unit: UnitOfWork) -> None:
        """Handle a due timer, unless something before it in this transaction has set it anew or cancelled it."""
        name = self._intake.name
        if unit.has_timer(name, delivery.key, delivery.timer):
            return
        unit.cancel_timer(name, delivery.key, delivery.timer)
        if (TIMERS, delivery.partition, delivery.key) in self._blocked:
            held: HeldRow | None = retry.held_row(delivery, retry.BEHIND, processor=name, now_micros=unit.now_micros)
        else:
            held = await self._try(delivery, unit, None)
        if held is not None:
            self._account_timer(held, unit)
            self._hold(held, unit)

    def _account_timer(self, held: HeldRow, unit: UnitOfWork) -> None:
        """Give a timer that failed the next place in its partition, and count it, so that the ledger misses it when it is lost."""
        row = self._rows.get((TIMERS, held.partition))
        if row is None:
            row = PositionRow(self._intake.name, TIMERS, held.partition, identity=TIMERS, sources={})
            self._rows[TIMERS, held.partition] = row
        held.offset = row.offset
        row.offset += 1
        row.received += 1
        self._count(row, held, +1)
        if row not in unit.positions:
            unit.positions.append(row)

    async def _run_chunk(self, chunk: Chunk, unit: UnitOfWork) -> None:
        row = self._rows[chunk.topic, chunk.partition]
        sources = row.sources
        if row.replay is not None:
            await self._run_again(chunk, row, row.replay, unit)
        done = 0 if self.outcomes.cut else await self._run_deliveries(chunk.deliveries, row, sources, unit)
        if done < len(chunk.deliveries):
            self._cut(chunk, done, row)
            unit.positions.append(row)
            return
        row.received += chunk.next - chunk.first
        row.ignored += chunk.ignored
        _raise(sources, chunk.sources)
        row.offset = chunk.next
        unit.positions.append(row)
        self.advanced[chunk.topic, chunk.partition] = chunk.next

    def _cut(self, chunk: Chunk, done: int, row: PositionRow) -> None:
        """Leave what was not handled unread; no sequence of the chunk's ignored records is noted, so nothing of it looks like a repeat."""
        end = chunk.deliveries[done].offset
        row.received += end - chunk.first
        row.ignored += end - chunk.first - done - len(chunk.again) - chunk.repeats
        row.offset = end
        self.moved[chunk.topic, chunk.partition] = end

    async def _run_again(self, chunk: Chunk, row: PositionRow, replay: Replay, unit: UnitOfWork) -> None:
        """Handle what lies on known ground, by the sequences that were met since the position was moved back."""
        again = [delivery for delivery in chunk.again if not (delivery.replayed and delivery.repeated)]
        row.duplicate += chunk.repeats + len(chunk.again) - len(again)
        for gap, deliveries in groupby(again, lambda delivery: replay.gap_at(delivery.offset)):
            _raise(replay.sources, gap.sources if gap is not None else {})
            await self._run_deliveries(deliveries, row, replay.sources, unit, whole=True)
        _raise(row.sources, replay.sources)
        row.cross(chunk.first, chunk.next)

    async def _run_deliveries(
        self, deliveries: Iterable[Delivery], row: PositionRow, sources: dict[str, int], unit: UnitOfWork, *, whole: bool = False
    ) -> int:
        """Handle messages of one partition in order, but for those that `sources` or the inbox know.

        Returns how many were passed; where the consumer is to stop, that is not all of them unless they are to be taken as a whole.
        """
        blocked, waits, done = self._blocked, self._intake.waits, 0
        for done, delivery in enumerate(deliveries, 1):  # noqa: B007  # it is what is returned
            if origin := delivery.origin:
                if delivery.sequence <= sources.get(origin, 0):
                    row.duplicate += 1
                    continue
                sources[origin] = delivery.sequence
            elif delivery.repeated or _is_copy(delivery, sources):
                row.duplicate += 1
                continue
            if blocked and (row.topic, row.partition, delivery.key) in blocked:
                held: HeldRow | None = retry.held_row(delivery, retry.BEHIND, processor=self._intake.name, now_micros=unit.now_micros)
            elif waits:
                held = await self._try(delivery, unit, None)
            else:
                held = self._attempt(delivery, unit, None)
            if held is None:
                row.handled += 1
            else:
                self._count(row, held, +1)
                self._hold(held, unit)
                if self.outcomes.cut and not whole:
                    break
        return done

    def _attempt(self, delivery: Delivery, unit: UnitOfWork, before: HeldRow | None) -> HeldRow | None:
        """Handle one message; return None when that is done with, or the row that holds it."""
        if delivery.pattern is None:
            row = self.outcomes.unreadable(delivery, unit.now_micros, handled=self.handled)
            self.notes.held(delivery, row)
            return row
        try:
            delivery.pattern.react(delivery, unit)  # raises what an activity raised
        except (NotYet, asyncio.CancelledError, Exception) as error:  # noqa: BLE001  # whatever a handler raises is its message's failure
            return self._failed(delivery, error, unit, before)
        self._succeeded(delivery)
        return None

    async def _try(self, delivery: Delivery, unit: UnitOfWork, before: HeldRow | None) -> HeldRow | None:
        """Like `_attempt`; an async function that runs inside the transaction gets a savepoint of its own, rows named by rows are there."""
        pattern = delivery.pattern
        if pattern is not None and pattern.missing is not None:
            try:
                missing = pattern.missing(delivery, unit)
            except (NotYet, Exception) as error:  # noqa: BLE001  # a selector is the user's code; its failure is the message's
                return self._failed(delivery, error, unit, before)
            if missing:
                await unit.load()
        if pattern is None or pattern.mode is not Mode.TRANSACTION:
            return self._attempt(delivery, unit, before)

        circuit = self.memory.circuit

        async def work() -> None:
            self.called = True
            delivery.result = await pattern.call(delivery, unit)
            if circuit is not None:
                circuit.answered(probe=self.probing)
            pattern.react(delivery, unit)

        try:
            await unit.transaction.savepoint(work)
        except (NotYet, asyncio.CancelledError, Exception) as error:  # whatever a handler raises is its message's failure
            if isinstance(error, asyncio.CancelledError) and is_cancelling():
                raise
            return self._failed(delivery, error, unit, before)
        self._succeeded(delivery)
        return None

    def _succeeded(self, delivery: Delivery) -> None:
        self.handled += 1
        if self._waiting_keys and (delivery.partition, delivery.key) in self._waiting_keys:
            self.wake.add((delivery.partition, delivery.key))

    def _failed(self, delivery: Delivery, error: BaseException, unit: UnitOfWork, before: HeldRow | None) -> HeldRow | None:
        held = self.outcomes.failed(delivery, error, unit, before=before, handled=self.handled)
        if held is not None:
            self.notes.held(delivery, held)
            if self._spans is not None and not isinstance(error, NotYet):
                self._spans.failed(delivery, error)
            return held
        self.notes.refused(delivery, reason_of(error))
        self._succeeded(delivery)
        return None

    def _hold(self, held: HeldRow, unit: UnitOfWork) -> None:
        unit.held.append(held)
        if held.state == retry.BEHIND:
            return  # who is first of its key is as before
        self.held_changed = True
        if held.key or held.state != retry.DEAD:
            self._blocked[held.topic, held.partition, held.key] = (held.state, held.due)
            if held.state == retry.NOT_YET:
                self._waiting_keys.add((held.partition, held.key))

    @staticmethod
    def _count(row: PositionRow, held: HeldRow, step: int) -> None:
        if held.state == retry.DEAD:
            row.dead += step
        else:
            row.waiting += step

    async def _run_held(self, unit: UnitOfWork) -> None:
        """Try the first held message of each key, and on success those behind it."""
        stuck: set[tuple[str, int, str]] = set()
        for before, delivery in self._held:
            place = (before.topic, before.partition, before.key)
            if self.outcomes.cut:
                return
            if place in stuck or before.state == retry.DEAD:
                if before.key or before.state != retry.DEAD:
                    stuck.add(place)
                continue
            held = await self._try(delivery, unit, before)
            self._move(before, held, unit)
            if held is not None and (held.key or held.state != retry.DEAD):
                stuck.add(place)

    def _move(self, before: HeldRow, held: HeldRow | None, unit: UnitOfWork) -> None:
        row = self._rows.get((before.topic, before.partition))
        self.held_changed = True
        if row is not None:
            self._count(row, before, -1)
            if held is None:
                row.handled += 1
            else:
                self._count(row, held, +1)
            if row not in unit.positions:
                unit.positions.append(row)
        if held is None:
            unit.released.append(before)
        else:
            held.first_at, held.history, held.replaces = before.first_at, before.history, before.replaces
            held.key = before.key  # of what cannot be read now, and what never blocked a key, too
            unit.held.append(held)


def _raise(sources: dict[str, int], others: Mapping[str, int]) -> None:
    """Note the sequences that are higher."""
    for origin, sequence in others.items():
        sources[origin] = max(sequence, sources.get(origin, 0))


def is_cancelling() -> bool:
    """Return whether the running task itself is being cancelled, as opposed to something that a user's function awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _is_copy(delivery: Delivery, sources: dict[str, int]) -> bool:
    """Return whether a record that no relay of ours appended copies one that was seen: its sequence is not above its source's last."""
    if delivery.claim is None:
        return False
    origin, sequence = delivery.claim
    return len(sequence) == 19 and sequence.isascii() and sequence.isdigit() and int(sequence) <= sources.get(origin, 0)


class _Failing:
    """Stands in for a pattern whose selector raised."""

    name = "selector"
    mode = Mode.PURE
    messages = ()
    quiet = ()
    replayable = False
    missing = None

    def wants(self, delivery: Delivery, work: UnitOfWork) -> None:
        """Nothing."""

    def react(self, delivery: Delivery, work: UnitOfWork) -> None:
        """Raise what the selector raised."""
        raise delivery.result

    async def call(self, delivery: Delivery, work: UnitOfWork | None) -> Any:
        """Raise what the selector raised."""
        raise delivery.result


FAILING: Pattern = _Failing()

__all__ = ["Chunk", "Place", "Turn"]
