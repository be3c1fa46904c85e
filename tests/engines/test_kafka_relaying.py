"""Publishing to Kafka: nothing lost, nothing twice unless a stopped relay goes on, and then in an order that readers see through."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from millrace.engines.kafka.producer import Outgoing
from millrace.errors import Recovery, StoreUnavailable
from tests.engines.kafka_places import PARTITIONS, SOURCE, Places, first_seen, positions, rows_of


async def append(log: Any, first: int, last: int, *, text: str = "") -> int:
    """Append rows as a relay does that believes to stand right before them."""
    return await log.append(SOURCE, 1, rows_of(first, last, text=text), after=first - 1)


async def relay(log: Any, last: int, *, together: int) -> None:
    """Publish a journal of so many rows, as a relay does: from where the log says that it stands."""
    position = await log.append(SOURCE, 1, [], after=await log.published(SOURCE, 1))
    while position < last:
        position = await log.append(SOURCE, 1, rows_of(position + 1, min(last, position + together)), after=position)


def breaks_at(log: Any, monkeypatch: pytest.MonkeyPatch, partition: int) -> None:
    """Let the next append of rows get into one partition only, and then fail."""
    send = log._producer.send

    async def in_part(rows: Sequence[Outgoing]) -> Any:
        if not rows[0].headers:
            return await send(rows)
        await send([row for row in rows if row.partition == partition])
        raise StoreUnavailable("kafka", reason="unreachable", detail="a test broke it")

    monkeypatch.setattr(log._producer, "send", in_part)


async def test_two_relays_put_nothing_twice(places: Places) -> None:
    """Two live processes that publish one journal at once: every row once, in order per partition."""
    one, two = await places.open(), await places.open()
    await asyncio.gather(relay(one, 300, together=7), relay(two, 300, together=11))
    found = await positions(one)
    assert found == [[n for n in range(1, 301) if n % PARTITIONS == p] for p in range(PARTITIONS)]
    assert await two.sources() == [(SOURCE, 1, 300, 300)]


async def test_a_broken_append_is_completed_by_the_same_relay(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an append that got through in part, only what is missing is sent again."""
    log = await places.open()
    await append(log, 1, 10)
    with monkeypatch.context() as broken:
        breaks_at(log, broken, 1)
        with pytest.raises(StoreUnavailable):
            await append(log, 11, 20)
    assert await log.published(SOURCE, 1) == 10
    assert await append(log, 11, 25) == 25
    assert await positions(log) == [[n for n in range(1, 26) if n % PARTITIONS == p] for p in range(PARTITIONS)]
    assert await log.sources() == [(SOURCE, 1, 25, 25)]


async def test_a_broken_append_is_completed_by_the_next_relay(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same when the process died and another one, which batches otherwise, goes on."""
    one = await places.open()
    breaks_at(one, monkeypatch, 2)
    with pytest.raises(StoreUnavailable):
        await append(one, 1, 20)
    one.sever()

    two = await places.open()
    await relay(two, 30, together=4)
    assert await positions(two) == [[n for n in range(1, 31) if n % PARTITIONS == p] for p in range(PARTITIONS)]
    assert await two.sources() == [(SOURCE, 1, 30, 30)]


async def test_a_restored_store_is_noticed(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that a dead relay got through under positions which now belong to other rows stop the next one: nothing is passed over."""
    one = await places.open()
    await append(one, 1, 5)
    breaks_at(one, monkeypatch, 0)
    with pytest.raises(StoreUnavailable):
        await append(one, 6, 15)
    one.sever()

    two = await places.open()
    with pytest.raises(Recovery, match="older copy"):
        await append(two, 6, 15, text="another history")
    assert await two.published(SOURCE, 1) == 5


async def test_a_stopped_relay_that_goes_on_repeats_in_order(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay that hears nothing of its successor sends rows again; whoever drops what is not newer sees each row once, in order."""
    one = await places.open()
    await append(one, 1, 9)
    with monkeypatch.context() as deaf:
        deaf.setattr(one._relays, "_heed", lambda *_: None)
        two = await places.open()
        for first in range(10, 40, 6):
            assert await append(two, first, first + 5) == first + 5
            if first < 30:
                await append(one, first, first + 5)
    found = await positions(two)
    assert sum(map(len, found)) > 39, "nothing came twice, so nothing was proved"
    assert [first_seen(each) for each in found] == [[n for n in range(1, 40) if n % PARTITIONS == p] for p in range(PARTITIONS)]


async def test_who_is_slower_is_told_the_true_position(places: Places) -> None:
    """A relay that believes in an older position appends nothing, in its own process as in another."""
    one, two = await places.open(), await places.open()
    await append(one, 1, 5)
    assert await append(one, 1, 2) == 5
    assert await append(two, 1, 3) == 5
    assert sum(map(len, await positions(two))) == 5


async def test_a_source_is_handed_over_at_a_stop(places: Places) -> None:
    """Who stops lets go: the next one goes on at once, without waiting for silence."""
    one = await places.open()
    await append(one, 1, 5)
    await one.close()
    two = await places.open()
    async with asyncio.timeout(1.0):
        assert await append(two, 6, 8) == 8
