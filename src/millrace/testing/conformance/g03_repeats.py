"""Guarantee 3: a repeated publication is recognised at no cost per message, and nothing new is taken for a repeat."""

from __future__ import annotations

import asyncio

from millrace.serialization import pack_sequence
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, balanced, foreign, journal_rows, published, put, records_of, totals
from millrace.testing.conformance.sample import Add, Added, counter, teller


async def second_publication_is_dropped(kit: EngineKit) -> None:
    """The same records again are counted as repeats and change nothing; no row per message is needed for that."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, *"abc", times=3)
        await lab.settled()
        await lab.stop(app)
        await kit.damage.publish_again("tally")

        app = await lab.start()
        await add(app, "d")
        await lab.settled()

        assert await totals(app) == {**dict.fromkeys("abc", (1, 2, 3)), "d": (1,)}
        reader = app.hosts["counter"].store.reader
        assert sum(row.duplicate for row in await reader.positions.load("handlers")) == 9
        ids = [(envelope.source, envelope.id) for envelope in await published(app, "tally")]
        assert await reader.answers.seen("handlers", ids) == set()
        await balanced(app)


async def copied_bytes_are_dropped(kit: EngineKit) -> None:
    """The same bytes put there by somebody else - a mirror, a replay - are repeats as well."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, *"abc", times=3)
        await lab.settled()
        for partition, records in enumerate(await records_of(app, "tally")):
            rows = [(record.key, record.value) for record in records]
            await app.parts.administration.put("tally", rows, partition=partition)
        await lab.settled()
        assert await totals(app) == dict.fromkeys("abc", (1, 2, 3))
        await balanced(app)


async def second_relay_appends_nothing(kit: EngineKit) -> None:
    """A relay that believes in an older position is refused and told the true one."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, "a", times=5)
        await lab.settled()
        host = app.hosts["teller"]
        rows, _ = await host.store.reader.journal.tail(0, limit=100)
        assert await app.parts.log.append(host.source, host.saying.epoch, rows[:2], after=0) == 5
        assert len(await published(app, "tally")) == 5


async def crowds_are_published_once(kit: EngineKit) -> None:
    """Commits of many rows in two processes at once, whose relays both publish them: each row once, in the order of its journal."""
    async with Lab(kit) as lab:
        one, two = await lab.start(), await lab.start()
        names = [f"n{i}" for i in range(400)]
        for _ in range(2):
            await asyncio.gather(*(app.execute(Add(name=name)) for app, half in ((one, names[::2]), (two, names[1::2])) for name in half))
        await lab.settled()
        assert await totals(one) == dict.fromkeys(names, (1, 1))
        partitions = await records_of(one, "tally")
        sequences = [[record.position for record in records] for records in partitions]
        assert sorted(number for each in sequences for number in each) == list(range(1, 801))
        assert all(each == sorted(each) for each in sequences)
        await balanced(one)


async def restarts_publish_nothing_again(kit: EngineKit) -> None:
    """The relay's position is where the records are, so no end of a process makes it publish twice."""
    async with Lab(kit) as lab:
        for number in range(1, 5):
            app = await lab.start([teller()])
            await app.execute(Add(name="a", n=number))
            await lab.settled()
            await (lab.kill(app) if number % 2 else lab.stop(app))
        app = await lab.start([teller()])
        await lab.settled()
        assert [int(envelope.sequence) for envelope in await published(app, "tally")] == [1, 2, 3, 4]
        await balanced(app)


async def foreign_records_are_handled_once(kit: EngineKit) -> None:
    """Foreign CloudEvents are told apart by (source, id): across batches, within one, and after a restart."""
    async with Lab(kit) as lab:
        app = await lab.start()
        again = foreign(app, Added(name="a", n=1), id="1")
        await put(app, "tally", ("a", again), ("a", again), ("a", foreign(app, Added(name="a", n=2), id="2")))
        await lab.settled()
        await put(app, "tally", ("a", again), ("a", foreign(app, Added(name="a", n=3), id="1", source="/another")))
        await lab.settled()
        await lab.kill(app)

        app = await lab.start()
        await put(app, "tally", ("a", again))
        await lab.settled()
        assert await totals(app) == {"a": (1, 2, 3)}
        await balanced(app)


async def positions_are_never_reused(kit: EngineKit) -> None:
    """Retention empties the journal; what is said afterwards is new to every reader."""
    async with Lab(kit) as lab:
        app = await lab.start([teller(snapshot_every=1), counter(lab.behaviour)])
        await add(app, "a", times=4)
        await lab.settled()
        await lab.stop(app)
        assert await kit.damage.empty_journal("teller") == 4

        app = await lab.start([teller(snapshot_every=1), counter(lab.behaviour)])
        assert await journal_rows(app, "teller") == 0
        outcome = await app.execute(Add(name="a", n=5))
        await lab.settled()
        assert list(outcome.position.places.values()) == [5]
        assert await totals(app) == {"a": (1, 2, 3, 4, 5)}
        await balanced(app)


async def forged_sequence_swallows_nothing(kit: EngineKit) -> None:
    """A record that claims a position its source has not reached does not make the real ones look like repeats."""
    async with Lab(kit) as lab:
        app = await lab.start()
        forged = foreign(app, Added(name="a", n=0), source="/sample/teller", id="x", epoch="1", sequence=pack_sequence(10**15))
        await put(app, "tally", ("a", forged))
        await lab.settled()
        await add(app, "a", times=3)
        await lab.settled()
        assert (await totals(app))["a"][-3:] == (1, 2, 3)
        await balanced(app)


async def forged_sequence_swallows_nothing_from_a_late_reader(kit: EngineKit) -> None:
    """The same when the claimed position has been reached by the time the record is read."""
    async with Lab(kit) as lab:
        app = await lab.start([teller(), counter(lab.behaviour)], hosted=["teller"])
        forged = foreign(app, Added(name="a", n=0), source="/sample/teller", id="x", epoch="1", sequence=pack_sequence(2))
        await put(app, "tally", ("a", forged))
        await add(app, "a", times=3)
        await lab.settled()
        await lab.stop(app)

        app = await lab.start()
        await lab.settled()
        assert (await totals(app))["a"][-3:] == (1, 2, 3)
        await balanced(app)


PROMISES = (
    second_publication_is_dropped,
    copied_bytes_are_dropped,
    second_relay_appends_nothing,
    crowds_are_published_once,
    restarts_publish_nothing_again,
    foreign_records_are_handled_once,
    positions_are_never_reused,
    forged_sequence_swallows_nothing,
    forged_sequence_swallows_nothing_from_a_late_reader,
)
