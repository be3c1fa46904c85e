"""One small engine per guarantee, and per suite beside them, that breaks it, to show that the conformance suite can fail.

A mutant wraps whatever engine it is given, so a new engine gets these for nothing. Each names the check that must notice it.

Neighbours: `tests/conformance/test_mutants.py` runs the checks; `wrapping` is what mutants are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import msgspec
import pytest

from millrace.breaker import KIND as BREAKERS
from millrace.held import ClosedRow, HeldRow
from millrace.ports import Engine, JournalRow, PositionRow, Record, StoredAnswer, StreamRow, TimerRow, TopicInfo
from millrace.schedule import KIND as SCHEDULES
from millrace.testing.conformance import (
    EngineKit,
    Promise,
    commands,
    consumers,
    dead_letters,
    dependent_rows,
    failing,
    foreign_records,
    g01_fact_and_announcement,
    g02_effects_once,
    g03_repeats,
    g04_order,
    g05_visibility,
    g06_nothing_dropped,
    g08_restores,
    g09_back_pressure,
    g10_stopping,
    moved_clock,
    moving,
    recovering,
    relays,
    retaining,
    sagas,
    schedules,
    streams,
    timers,
    tracing,
    views,
    watching,
    workers,
)
from millrace.testing.wrapping import Wrapped, WrappedEngine
from millrace.timekeeping import CLOCK

IMPATIENT_S = 1.0
"""How long a check on a mutant waits for what will not happen."""


class PositionsApart(Wrapped):
    """Commits the read positions in a transaction of their own, after the rest."""

    store: Any

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self._later: list[PositionRow] = []
        self.positions = _LatePositions(inner.positions, self._later)

    async def commit(self) -> None:
        """Commit twice."""
        await self.inner.commit()
        if self._later:
            second = await self.store.begin()
            await second.positions.advance(self._later)
            await second.commit()


class _LatePositions(Wrapped):
    def __init__(self, inner: Any, later: list[PositionRow]) -> None:
        super().__init__(inner)
        self._later = later

    async def advance(self, rows: Sequence[PositionRow]) -> None:
        self._later += rows


class EpochKept(Wrapped):
    """Opens no new epoch."""

    async def open_epoch(self, epoch: int) -> None:
        """Do nothing."""


class EverythingTrimmed(Wrapped):
    """Removes rows up to the head, whatever it is asked for."""

    async def trim(self, *, after: int, until: int, limit: int) -> tuple[int, int]:
        """Look at everything."""
        return await self.inner.trim(after=after, until=await self.inner.head(), limit=limit)


class TokensKept(Wrapped):
    """Gives a new owner the token of the old one."""

    async def claim(self, processor: str, partitions: Any) -> list[PositionRow]:
        """Claim, and put the first token back."""
        rows = await self.inner.claim(processor, partitions)
        for row in rows:
            row.token = 1
        await self.inner.advance(rows)
        return rows


class RowsRemembered(Wrapped):
    """Gives a transaction the rows as this process has seen them last, whatever others have made of them."""

    store: Any

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.states = _RememberedStates(inner.states, self)


class _RememberedStates(Wrapped):
    def __init__(self, inner: Any, transaction: RowsRemembered) -> None:
        super().__init__(inner)
        self._transaction = transaction

    def _known(self) -> dict[tuple[str, str], bytes]:
        return self._transaction.store.__dict__.setdefault("remembered", {})

    async def load(self, kind: str, keys: Sequence[str]) -> dict[str, bytes]:
        known = self._known()
        for key, value in (await self.inner.load(kind, keys)).items():
            known.setdefault((kind, key), value)
        return {key: known[kind, key] for key in keys if (kind, key) in known}

    async def save(self, rows: Sequence[tuple[str, str, bytes]]) -> None:
        self._known().update({(kind, key): value for kind, key, value in rows})
        await self.inner.save(rows)


class PositionsRemembered(Wrapped):
    """Gives a transaction the positions as this process has left them, whoever has moved them since."""

    store: Any

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.positions = _RememberedPositions(inner.positions, self)


class _RememberedPositions(Wrapped):
    def __init__(self, inner: Any, transaction: PositionsRemembered) -> None:
        super().__init__(inner)
        self._transaction = transaction

    def _note(self, rows: Sequence[PositionRow]) -> None:
        known = self._transaction.store.__dict__.setdefault("positions", {})
        known.update({(row.processor, row.topic, row.partition): deepcopy(row) for row in rows})

    async def load(self, processor: str, *, places: Sequence[tuple[str, int]] | None = None) -> list[PositionRow]:
        known = self._transaction.store.__dict__.get("positions", {})
        rows = await self.inner.load(processor, places=places)
        return [deepcopy(known.get((row.processor, row.topic, row.partition), row)) for row in rows]

    async def claim(self, processor: str, partitions: Any) -> list[PositionRow]:
        rows = await self.inner.claim(processor, partitions)
        self._note(rows)
        return rows

    async def advance(self, rows: Sequence[PositionRow]) -> None:
        self._note(rows)
        await self.inner.advance(rows)


class MovesForgotten(Wrapped):
    """Does not keep what moves of a position have left behind."""

    async def advance(self, rows: Sequence[PositionRow]) -> None:
        """Store positions without it."""
        await self.inner.advance([msgspec.structs.replace(row, replay=None) for row in rows])


class BreakersForgotten(Wrapped):
    """Does not know which breakers are open."""

    async def page(self, kind: str, *, after: str, limit: int) -> list[tuple[str, bytes]]:
        """Read, and leave out those."""
        return [] if kind == BREAKERS else await self.inner.page(kind, after=after, limit=limit)


class AttemptsForgotten(Wrapped):
    """Keeps what waits as if it had never been tried."""

    async def save(self, rows: Sequence[HeldRow]) -> None:
        """Save with no attempts."""
        for row in rows:
            row.attempts = 0
        await self.inner.save(rows)


class WishesForgotten(Wrapped):
    """Does not find what operators want of processors."""

    async def page(self, kind: str, *, after: str, limit: int) -> list[tuple[str, bytes]]:
        """Leave their rows out."""
        return [] if kind.startswith("@") else await self.inner.page(kind, after=after, limit=limit)


class MembersForgotten(Wrapped):
    """Knows of no running instance."""

    async def members(self) -> frozenset[str]:
        """Return none."""
        return frozenset()


class RelayPositionApart(Wrapped):
    """Appends without writing the relay's position down."""

    async def append(self, source: str, epoch: int, rows: Sequence[JournalRow], *, after: int) -> int:
        """Put the records there like anybody's."""
        for row in rows:
            await self.inner.put(row.topic, [(row.key, row.value)], partition=row.partition)
        return rows[-1].position if rows else after


class PositionsReused(Wrapped):
    """Numbers journal rows by how many there are."""

    async def reserve(self, count: int) -> int:
        """Return a position that was given before, once the table was emptied."""
        await self.inner.reserve(count)  # where the engine counts what it gave, it still does
        rows, _ = await self.inner.tail(0, limit=1 << 30)
        return len(rows) + 1


class SequencesForgotten(Wrapped):
    """Does not keep which sequence of a source was read last."""

    async def advance(self, rows: Sequence[PositionRow]) -> None:
        """Store positions without their sources."""
        await self.inner.advance([msgspec.structs.replace(row, sources={}) for row in rows])


class RecordsSwapped(Wrapped):
    """Hands the records of a partition out in another order."""

    async def read(self, topic: str, partition: int, *, offset: int, limit: int) -> list[Record]:
        """Give the values of a batch backwards."""
        records = await self.inner.read(topic, partition, offset=offset, limit=limit)
        return [Record(a[0], *b[1:]) for a, b in zip(records, reversed(records), strict=True)]


class HeldKeysForgotten(Wrapped):
    """Does not say which keys wait."""

    async def blocked(self, processor: str) -> list[Any]:
        """Return nothing."""
        return []


class RowsLate(Wrapped):
    """Shows some rows only after later ones, as a database does whose transactions commit in any order."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self._shown: set[int] = set()

    async def tail(self, after: int, *, limit: int) -> tuple[list[JournalRow], int]:
        """Hide every third row at the first look."""
        rows, upto = await self.inner.tail(after, limit=limit)
        hidden = {row[0] for row in rows if row[0] % 3 == 0} - self._shown
        self._shown |= hidden
        return [row for row in rows if row[0] not in hidden], upto


class DeadLettersDropped(Wrapped):
    """Throws away what nobody can handle."""

    async def save(self, rows: Sequence[HeldRow]) -> None:
        """Save the others."""
        await self.inner.save([row for row in rows if row.state != "dead"])


class RecordsSkipped(Wrapped):
    """Reads on as if some records had never been there."""

    async def read(self, topic: str, partition: int, *, offset: int, limit: int) -> list[Record]:
        """Leave out every third record."""
        records = await self.inner.read(topic, partition, offset=offset, limit=limit)
        return [record for record in records if record[0] % 3 != 2]


class TimesForgotten(Wrapped):
    """Does not know when records were appended."""

    async def read(self, topic: str, partition: int, *, offset: int, limit: int) -> list[Record]:
        """Say that it was in 1970."""
        return [record._replace(at=1) for record in await self.inner.read(topic, partition, offset=offset, limit=limit)]


class PublishedUnknown(Wrapped):
    """Does not know how far a source has published."""

    async def published(self, source: str, epoch: int) -> int:
        """Return that nothing was."""
        return 0


class IdentitiesEqual(Wrapped):
    """Gives every topic one identity and no end."""

    async def topics(self) -> list[TopicInfo]:
        """Return topics that cannot be told apart from what they were."""
        found = await self.inner.topics()
        return [
            msgspec.structs.replace(info, identity="same", ranges=tuple((first, 1 << 30) for first, _ in info.ranges)) for info in found
        ]


class LimitIgnored(Wrapped):
    """Reads everything there is into memory."""

    async def read(self, topic: str, partition: int, *, offset: int, limit: int) -> list[Record]:
        """Read without a bound."""
        return await self.inner.read(topic, partition, offset=offset, limit=1 << 30)


class PositionsAhead(Wrapped):
    """Counts a record as read that comes after what was."""

    async def advance(self, rows: Sequence[PositionRow]) -> None:
        """Store positions one further."""
        await self.inner.advance([msgspec.structs.replace(row, offset=row.offset + 1) for row in rows])


class LeasesKept(Wrapped):
    """Never gives a partition back."""

    async def leave(self) -> None:
        """Do nothing."""


class VersionsIgnored(Wrapped):
    """Reads a stream to its end, whatever version was asked for."""

    async def streams(self, after: Mapping[str, int], *, until: int | None = None) -> list[StreamRow]:
        """Return all there is above a version each."""
        return await self.inner.streams(after)


class AnswersForgotten(Wrapped):
    """Does not know what an idempotency key was used for."""

    async def find(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], StoredAnswer]:
        """Return nothing."""
        return {}

    async def add(self, rows: Sequence[tuple[str, str, StoredAnswer]]) -> None:
        """Do nothing."""


class RowsMissed(Wrapped):
    """Finds no more than some rows at once."""

    async def load(self, kind: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Find the first ones."""
        return await self.inner.load(kind, keys[:20])


class RowsKept(Wrapped):
    """Removes no rows."""

    async def delete(self, rows: Sequence[tuple[str, str]]) -> None:
        """Do nothing."""


class CursorsIgnored(Wrapped):
    """Begins every page of documents at the first one."""

    async def page(self, view: int, *, field: str, value: str, before: Any, limit: int) -> list[tuple[str, str, bytes]]:
        """Return the first page."""
        return await self.inner.page(view, field=field, value=value, before=None, limit=limit)


class LettersUnclosed(Wrapped):
    """Does not keep the letters that operators close."""

    async def close(self, rows: Sequence[ClosedRow]) -> None:
        """Do nothing."""


class SkipsForgotten(Wrapped):
    """Does not count what operators take away."""

    async def advance(self, rows: Sequence[PositionRow]) -> None:
        """Store positions without that."""
        await self.inner.advance([msgspec.structs.replace(row, skipped=0) for row in rows])


class TimersEarly(Wrapped):
    """Takes timers for due that will be so in a second."""

    async def due(self, processor: str, *, partition: int, until: int, limit: int) -> list[TimerRow]:
        """Return them."""
        return await self.inner.due(processor, partition=partition, until=until + 1_000_000, limit=limit)

    async def next(self, processor: str) -> dict[int, int]:
        """Return when they seem to be due."""
        return {partition: due - 1_000_000 for partition, due in (await self.inner.next(processor)).items()}


class HolesHidden(Wrapped):
    """Says that of a journal everything is there."""

    async def rows_between(self, after: int, *, until: int) -> tuple[int, int]:
        """Return as many rows as positions."""
        head, _ = await self.inner.rows_between(after, until=until)
        return head, min(head, until) - after


class KeysWithoutTimers(Wrapped):
    """Finds no timer by its key."""

    async def of_key(self, processor: str, key: str) -> list[TimerRow]:
        """Return none."""
        return []


class AlarmsForgotten(Wrapped):
    """Keeps no alarm."""

    async def save(self, rows: Sequence[tuple[str, str, bytes]]) -> None:
        """Keep the other rows."""
        await self.inner.save([row for row in rows if row[0] != "@alarm"])


class MomentsForgotten(Wrapped):
    """Does not keep which moment of a schedule is next."""

    async def save(self, rows: Sequence[tuple[str, str, bytes]]) -> None:
        """Keep the first of each schedule."""
        known = await self.inner.load(SCHEDULES, sorted(key for kind, key, _ in rows if kind == SCHEDULES))
        await self.inner.save([row for row in rows if row[0] != SCHEDULES or row[1] not in known])


class ClockForgotten(Wrapped):
    """Forgets at each start what it was told on the topic of the clock."""

    async def topics(self) -> list[TopicInfo]:
        """Say that nothing is there."""
        found = await self.inner.topics()
        return [msgspec.structs.replace(info, ranges=((0, 0),)) if info.name == CLOCK.name else info for info in found]


def _table(name: str, wrap: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return what wraps one table of a store."""

    def wrapped(tables: Any) -> Any:
        changed = Wrapped(tables)
        setattr(changed, name, wrap(getattr(tables, name)))
        return changed

    return wrapped


class Mutant(msgspec.Struct, frozen=True):
    """A broken engine.

    Args:
        guarantee: number of the guarantee that it breaks, or name of the suite that checks what it breaks.
        breaks: what it does wrong.
        parts: keywords of `WrappedEngine`: which parts are replaced.
        caught_by: the check that must fail on it.
    """

    guarantee: int | str
    breaks: str
    parts: dict[str, Callable[[Any], Any]]
    caught_by: Promise

    def on(self, kit: EngineKit) -> EngineKit:
        """Return the kit with this defect."""
        return _MutantKit(kit, self)


class _MutantKit:
    def __init__(self, kit: EngineKit, mutant: Mutant) -> None:
        self.name = f"{kit.name}, {mutant.breaks}"
        self.patience = max(IMPATIENT_S, kit.patience / 5)
        self.session_s = kit.session_s
        self.placeholder = kit.placeholder
        self.faults = kit.faults
        self.damage = kit.damage
        self._kit, self._mutant = kit, mutant

    def new_engine(self) -> Engine:
        broken: Any = WrappedEngine(self._kit.new_engine(), **self._mutant.parts)
        return broken

    async def kill(self, engine: Engine) -> None:
        await self._kit.kill(engine)

    def close(self) -> None:
        self._kit.close()


MUTANTS = (
    Mutant(1, "commits positions apart", {"transaction": PositionsApart}, g01_fact_and_announcement.any_commit_of_a_turn_may_fail),
    Mutant(2, "keeps the fencing token", {"tables": _table("positions", TokensKept)}, g02_effects_once.stale_owner_is_refused),
    Mutant(2, "remembers rows", {"transaction": RowsRemembered}, g02_effects_once.shared_rows_are_changed_one_after_the_other),
    Mutant(3, "keeps the relay's position nowhere", {"log": RelayPositionApart}, g03_repeats.restarts_publish_nothing_again),
    Mutant(3, "reuses journal positions", {"tables": _table("journal", PositionsReused)}, g03_repeats.positions_are_never_reused),
    Mutant(3, "forgets sequences", {"tables": _table("positions", SequencesForgotten)}, g03_repeats.second_publication_is_dropped),
    Mutant(4, "swaps records", {"log": RecordsSwapped}, g04_order.batches_and_partitions_keep_order),
    Mutant(4, "forgets which keys wait", {"tables": _table("held", HeldKeysForgotten)}, g04_order.retries_keep_order),
    Mutant(5, "shows rows late", {"tables": _table("journal", RowsLate)}, g05_visibility.log_has_each_position_once_and_in_order),
    Mutant(6, "drops dead letters", {"tables": _table("held", DeadLettersDropped)}, g06_nothing_dropped.unreadable_records_are_kept),
    Mutant(6, "skips records", {"log": RecordsSkipped}, g06_nothing_dropped.losses_are_named),
    Mutant(8, "does not know what it published", {"log": PublishedUnknown}, g08_restores.older_store_is_noticed),
    Mutant(8, "hides that a topic is another", {"log": IdentitiesEqual}, g08_restores.recreated_topic_is_noticed),
    Mutant("recovering", "keeps the epoch", {"transaction": EpochKept}, recovering.older_store_goes_on),
    Mutant(9, "reads without a bound", {"log": LimitIgnored}, g09_back_pressure.batches_are_bounded),
    Mutant(10, "keeps leases", {"leases": LeasesKept}, g10_stopping.leases_of_the_dead_are_free_at_once),
    Mutant("moving", "swaps records", {"log": RecordsSwapped}, moving.everything_goes_on_elsewhere),
    Mutant(
        "retaining",
        "removes what is not published",
        {"tables": _table("journal", EverythingTrimmed)},
        retaining.what_is_not_published_stays,
    ),
    Mutant("streams", "ignores versions", {"tables": _table("journal", VersionsIgnored)}, streams.states_as_of_a_version),
    Mutant("commands", "forgets answers", {"tables": _table("answers", AnswersForgotten)}, commands.repeats_get_the_first_answer),
    Mutant("dependent_rows", "misses rows", {"tables": _table("states", RowsMissed)}, dependent_rows.many_rows_are_named_at_once),
    Mutant("relays", "publishes like anybody", {"log": RelayPositionApart}, relays.killed_relays_lose_and_repeat_nothing),
    Mutant("foreign_records", "forgets times of append", {"log": TimesForgotten}, foreign_records.retries_open_the_same_message),
    Mutant("views", "ignores cursors", {"tables": _table("documents", CursorsIgnored)}, views.pages_cover_everything_once),
    Mutant("tracing", "finds no timers", {"tables": _table("timers", KeysWithoutTimers)}, tracing.timers_are_told),
    Mutant("watching", "hides holes", {"tables": _table("journal", HolesHidden)}, watching.rows_lost_unpublished_are_an_alarm),
    Mutant("watching", "forgets alarms", {"tables": _table("states", AlarmsForgotten)}, watching.lost_letters_are_an_alarm),
    Mutant("workers", "swaps records", {"log": RecordsSwapped}, workers.order_per_key_is_that_of_one_worker),
    Mutant("workers", "jumps ahead", {"tables": _table("positions", PositionsAhead)}, workers.failures_keep_order_beside_other_workers),
    Mutant(
        "failing", "forgets breakers", {"tables": _table("states", BreakersForgotten)}, failing.dead_dependency_costs_one_probe_at_a_time
    ),
    Mutant("failing", "forgets attempts", {"tables": _table("held", AttemptsForgotten)}, failing.kinds_of_failures_have_their_ways),
    Mutant("failing", "forgets which keys wait", {"tables": _table("held", HeldKeysForgotten)}, failing.order_is_that_without_failures),
    Mutant("failing", "forgets alarms", {"tables": _table("states", AlarmsForgotten)}, failing.stops_are_alarms),
    Mutant("consumers", "forgets wishes", {"tables": _table("states", WishesForgotten)}, consumers.paused_takes_nothing),
    Mutant("consumers", "forgets moves", {"tables": _table("positions", MovesForgotten)}, consumers.what_was_skipped_can_be_read_later),
    Mutant("consumers", "remembers positions", {"transaction": PositionsRemembered}, consumers.turn_in_hand_is_refused),
    Mutant("consumers", "forgets members", {"leases": MembersForgotten}, consumers.every_instance_obeys),
    Mutant("sagas", "removes no rows", {"tables": _table("states", RowsKept)}, sagas.pages_by_status_cover_each_once),
    Mutant(
        "dead_letters",
        "keeps no closed letters",
        {"tables": _table("letters", LettersUnclosed)},
        dead_letters.discarded_letters_are_kept_and_counted,
    ),
    Mutant(
        "dead_letters",
        "forgets what was skipped",
        {"tables": _table("positions", SkipsForgotten)},
        dead_letters.discarded_letters_are_kept_and_counted,
    ),
    Mutant("moved_clock", "forgets moves", {"log": ClockForgotten}, moved_clock.time_does_not_go_back),
    Mutant(
        "schedules", "forgets moments", {"tables": _table("states", MomentsForgotten)}, schedules.missed_moments_are_caught_up_as_declared
    ),
    Mutant("timers", "is early", {"tables": _table("timers", TimersEarly)}, timers.timers_fire_when_due),
)


async def failure_of(promise: Promise, kit: EngineKit) -> BaseException | None:
    """Run a check and return why it failed, or None where it found nothing wrong."""
    try:
        await promise(kit)
    except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001  # any end but a good one is a failure
        return error
    return None


__all__ = ["MUTANTS", "Mutant", "failure_of"]
