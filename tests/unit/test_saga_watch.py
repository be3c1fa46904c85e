"""Sagas under way are counted by status, stuck ones named; what has ended costs nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from millrace.engines.sqlite import SqliteEngine
from millrace.engines.sqlite.store import SqliteStore
from millrace.saga_instance import INDEX_KIND, STATUSES, UNDER_WAY, index_key, index_value
from millrace.saga_pattern import SagaPattern
from millrace.saga_watch import IDS_MAX, PAGE_FIRST, SagaWatch
from millrace.testing.conformance.saga_sample import order_saga
from millrace.testing.wrapping import Wrapped

SECOND = 1_000_000


class Counted(Wrapped):
    """Keyed rows that count how many of them are read."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.read = 0

    async def page(self, kind: str, *, after: str, limit: int) -> list[tuple[str, bytes]]:
        """Count, and return them."""
        found = await self.inner.page(kind, after=after, limit=limit)
        self.read += len(found)
        return found


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """An open store."""
    engine = SqliteEngine(tmp_path)
    found = engine.store("desk")
    await found.open()
    yield found
    await found.close()
    await engine.stop()


async def index(store: SqliteStore, status: str, values: dict[str, bytes], *, saga: str = "order") -> None:
    """Say of instances that they have a status."""
    transaction = await store.begin()
    await transaction.states.save([(INDEX_KIND, index_key(saga, status, id), value) for id, value in values.items()])
    await transaction.commit()


def numbered(count: int) -> dict[str, bytes]:
    """So many instances, each in its status since the second of its number."""
    return {f"o{n:05}": index_value(n * SECOND) for n in range(1, count + 1)}


@pytest.mark.parametrize("count", [0, 1, PAGE_FIRST - 1, PAGE_FIRST, PAGE_FIRST + 1, 3 * PAGE_FIRST, 2500])
async def test_each_under_way_is_counted_once(store: SqliteStore, count: int) -> None:
    """Whatever number of them there is, over the ends of pages; of this saga alone, and none that has ended."""
    for status in STATUSES:
        await index(store, status, numbered(count))
        await index(store, status, numbered(3), saga="order-2")
    watch = SagaWatch([SagaPattern(order_saga())])
    await watch.count(store.reader.states)
    assert watch.counts == {("order", status): count for status in UNDER_WAY}


async def test_what_has_ended_costs_nothing(store: SqliteStore) -> None:
    """Thousands that have ended add no more than one short page to what is read, and no row of an instance is."""
    few: Sequence[int] = ()
    for ended in (0, 5000):
        for status in STATUSES:
            await index(store, status, numbered(ended if status not in UNDER_WAY else 4))
        states = Counted(store.reader.states)
        await SagaWatch([SagaPattern(order_saga())]).count(states)  # type: ignore[arg-type]
        few = (*few, states.read)
    assert few[1] <= few[0] + 100


async def test_the_oldest_stuck_ones_are_named(store: SqliteStore) -> None:
    """How many, since when the oldest is, and the ids of the oldest, whatever the order of their ids."""
    await index(store, "stuck", {f"o{n:05}": index_value((5000 - n) * SECOND) for n in range(1, 1235)})
    watch = SagaWatch([SagaPattern(order_saga())])
    await watch.count(store.reader.states)
    (stuck,) = watch.stuck
    assert (stuck.saga, stuck.count, stuck.since) == ("order", 1234, (5000 - 1234) * SECOND)
    assert stuck.ids == tuple(f"o{n:05}" for n in range(1234, 1234 - IDS_MAX, -1))
    assert stuck.text.startswith("1,234 stuck, the oldest since 1970-01-01T01:02:46Z: o01234, o01233,")
    assert stuck.text.endswith("o01225, ...")


async def test_rows_of_an_earlier_release_are_dated_by_their_instances(store: SqliteStore) -> None:
    """An index row that does not say since when takes the moment at which the instance has changed last."""
    pattern = SagaPattern(order_saga())
    old = pattern.row(id="old", version=1, changed_at=7 * SECOND)
    transaction = await store.begin()
    await transaction.states.save([(pattern.row.__kind__.name, "old", msgspec.json.encode(old))])
    await transaction.commit()
    await index(store, "stuck", {"old": b"1", "new": index_value(9 * SECOND)})
    watch = SagaWatch([pattern])
    await watch.count(store.reader.states)
    assert [(each.since, each.ids) for each in watch.stuck] == [(7 * SECOND, ("old", "new"))]


async def test_counting_is_done_for_changes_only(store: SqliteStore) -> None:
    """And seldom; where a service has no sagas, never."""
    states = Counted(store.reader.states)
    await index(store, "stuck", numbered(1))
    await SagaWatch([]).look(states, changes=1)  # type: ignore[arg-type]
    assert states.read == 0
    watch = SagaWatch([SagaPattern(order_saga())])
    await watch.look(states, changes=1)  # type: ignore[arg-type]
    read = states.read
    for changes in (1, 2):
        await watch.look(states, changes=changes)  # type: ignore[arg-type]
    assert (states.read, [each.count for each in watch.stuck]) == (read, [1])
    assert read > 0
