"""A real broker that dies while rows are appended: nothing is lost, repeats come in an order that readers see through, work resumes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.servers.kafka import KafkaCluster
from millrace.application import Application
from millrace.clock import ManualClock
from millrace.engines.kafka import outage
from millrace.engines.kafka.leases import KafkaLeases
from millrace.engines.sqlite import SqliteEngine
from millrace.errors import StoreUnavailable
from millrace.sagas import Sagas
from millrace.split import SplitEngine
from millrace.testing.conformance.saga_sample import Kept, Place, Receivers, desk, order_saga, receivers
from millrace.testing.conformance.sample import APPLICATION, teller
from millrace.testing.settling import eventually, look, settled
from tests.engines.kafka_places import PARTITIONS, SOURCE, TOPIC, Places, first_seen, jars, moved, positions, rows_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KafkaCluster]:
    """A broker of this test's own."""
    cluster = KafkaCluster(tmp_path / "kafka", jars=jars())
    cluster.start()
    yield cluster
    cluster.stop()


async def publish(log: Any, last: int, told: list[StoreUnavailable]) -> None:
    """Publish a journal of so many rows as a relay does, which tries again whatever happens."""
    position = -1
    while position < last:
        try:
            if position < 0:
                position = await log.append(SOURCE, 1, [], after=await log.published(SOURCE, 1))
            position = await log.append(SOURCE, 1, rows_of(position + 1, min(last, position + 40)), after=position)
        except StoreUnavailable as error:
            told.append(error)
            await moved(log)


async def reached(log: Any, position: int) -> None:
    """Wait until so much was published."""
    until = time.monotonic() + 60
    while (await log.sources() or [("", 1, 0, 0)])[0][2] < position:
        assert time.monotonic() < until, "nothing is published any more"
        await moved(log)


async def test_a_broker_that_dies_loses_nothing(broker: KafkaCluster) -> None:
    """Killed and started again three times in the middle of appends: whoever drops what is not newer sees every row once, in order."""
    places = Places(broker.address)
    log, told = await places.open(), list[StoreUnavailable]()
    publishing = asyncio.create_task(publish(log, 20_000, told))
    for part in (2_000, 6_000, 10_000):
        await reached(log, part)
        broker.nodes[0].kill()
        await asyncio.to_thread(broker.start)
    async with asyncio.timeout(120):
        await publishing
    found = await positions(log)
    print(f"{sum(map(len, found)) - 20_000} repeats, {len(told)} failures told")
    assert [first_seen(each) for each in found] == [[n for n in range(1, 20_001) if n % PARTITIONS == p] for p in range(PARTITIONS)]
    assert await log.sources() == [(SOURCE, 1, 20_000, 20_000)]
    await log.close()


async def test_a_broker_that_is_away_is_named(broker: KafkaCluster) -> None:
    """An append while nobody is there fails with the reason within seconds; the next one after the return goes on."""
    places = Places(broker.address)
    log = await places.open()
    await log.append(SOURCE, 1, rows_of(1, 10), after=0)
    broker.nodes[0].kill()
    async with asyncio.timeout(20):
        with pytest.raises(StoreUnavailable, match="unreachable"):
            await log.append(SOURCE, 1, rows_of(11, 20), after=10)
    await asyncio.to_thread(broker.start)
    told: list[StoreUnavailable] = []
    async with asyncio.timeout(60):
        await publish(log, 30, told)
    assert sorted(n for each in await positions(log) for n in each) == list(range(1, 31))
    await log.close()


async def test_what_was_found_before_is_no_answer(broker: KafkaCluster) -> None:
    """Two who ask for the ranges of topics while nobody is there are both told so: from old ranges a reader takes its log for restored."""
    places = Places(broker.address)
    log = await places.open()
    await log.topics()
    broker.nodes[0].kill()
    answers = await asyncio.gather(log.topics(), log.topics(), log.topics(), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
    await log.close()


async def test_offsets_are_written_again(broker: KafkaCluster) -> None:
    """What Kafka's tools show goes on once the brokers are back, though the coordinator that was known had gone meanwhile."""
    places = Places(broker.address)
    log = await places.open()
    leases = KafkaLeases(places.client, "one", follow=lambda _: None)
    await leases.reached("g", {(TOPIC, 0): 1})
    broker.nodes[0].kill()
    for offset in (2, 3):
        with pytest.raises(StoreUnavailable, match=r"writing offsets|away"):
            await leases.reached("g", {(TOPIC, 0): offset})
    await asyncio.to_thread(broker.start)
    async with asyncio.timeout(30):
        while True:
            try:
                await leases.reached("g", {(TOPIC, 0): 4})
                if await places.committed("g", [(TOPIC, 0)]) == {(TOPIC, 0): 4}:
                    break
            except StoreUnavailable:
                await moved(log)
    await log.close()


async def test_deadlines_wait_while_nobody_can_answer(broker: KafkaCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A saga's deadline passes while the brokers are away: nothing is asked again before they are back, and the answers may have come."""
    monkeypatch.setattr(outage, "GRACE_S", 3.0)
    behaviour, clock = Receivers(), ManualClock()
    behaviour.mute = {"reserve"}
    engine = SplitEngine(log=Places(broker.address).engine(), stores=SqliteEngine(tmp_path / "stores"))
    async with Application(APPLICATION, [desk(order_saga()), *receivers(behaviour)], engine=engine, clock=clock) as app:
        await app.execute(Place(order_id="a"))
        await settled(app, timeout=20.0)
        assert await attempts(app) == 1
        broker.nodes[0].kill()
        await eventually(app, lambda: not app.parts.feed.current(), timeout=20.0)
        clock.advance(timedelta(seconds=31))
        look(app)
        for _ in range(20):  # looks at what is due, which come twice a second
            await moved(app.parts.feed)
        assert await attempts(app) == 1
        behaviour.mute = set()
        await asyncio.to_thread(broker.start)
        await eventually(app, app.parts.feed.current, timeout=90.0)
        await settled(app, timeout=20.0)
        assert await attempts(app) == 2
        assert (await app.states(Kept, service="pay").get("a")) is not None


async def attempts(app: Application) -> int:
    """Return how often the first step was asked for."""
    timeline = (await Sagas(app).show("a")).timeline
    return sum(entry.step == "reserve" and entry.what.startswith("sent") for entry in timeline)


async def test_health_tells_within_seconds_that_nobody_is_there(broker: KafkaCluster, tmp_path: Path) -> None:
    """An idle application notices it as well: failing a few seconds after the last broker went, and well again by itself."""
    engine = SplitEngine(log=Places(broker.address).engine(), stores=SqliteEngine(tmp_path / "stores"))
    async with Application(APPLICATION, [teller()], engine=engine) as app:
        assert app.health().status == "ok"
        broker.nodes[0].kill()
        for seconds, status in ((8, "failing"), (40, "ok")):  # it takes three to five seconds; the rest is for a busy machine
            async with asyncio.timeout(seconds):
                while app.health().status != status:
                    await moved(app.parts.feed)
            if status == "failing":
                assert any("unreachable" in (entry.last_error or "") for entry in app.health().entries)
                await asyncio.to_thread(broker.start)
