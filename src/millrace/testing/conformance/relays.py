"""Relays of their own: services that leave publishing, or the whole log, to other processes."""

from __future__ import annotations

import asyncio
from itertools import chain

import pytest

from millrace.application import Application
from millrace.errors import ConfigurationError, StoreUnavailable
from millrace.partitioning import partition_of
from millrace.role import Role
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, balanced, published, records_of, totals
from millrace.testing.conformance.sample import Add, Board

CONSUMING = Role(relaying=False)
NEITHER = Role(relaying=False, consuming=False)
NAMES = [f"n{i}" for i in range(8)]


async def _no_patience(error: StoreUnavailable) -> None:
    raise error


async def _relay(lab: Lab, *services: str) -> Application:
    """Start a relay process."""
    app = lab.new()
    await lab.run(app, lambda: app.start_relays(services or None, patience=_no_patience))
    return app


async def _positions(app: Application) -> list[list[int]]:
    """Return the journal positions in the log of the teller, per partition in order."""
    return [[record.position for record in records] for records in await records_of(app, "tally")]


async def published_by_another_process(kit: EngineKit) -> None:
    """What a process says that does not relay stays in its journal until a relay process takes it, and from then on goes out at once."""
    async with Lab(kit) as lab:
        app = await lab.start(hosted=CONSUMING)
        await add(app, *NAMES, times=3)
        assert await published(app, "tally") == []
        assert [entry.name for entry in app.health().entries if entry.name.endswith(" relay")] == []

        relay = await _relay(lab)
        await lab.settled(relay, app, relay)
        assert await totals(app) == dict.fromkeys(NAMES, (1, 2, 3))
        await add(app, *NAMES)
        await lab.eventually(app, lambda: _has(app, "tally", 32))
        await lab.stop(relay)
        await balanced(app)


async def _has(app: Application, topic: str, records: int) -> bool:
    return len(await published(app, topic)) == records


async def only_the_chosen_services_are_relayed(kit: EngineKit) -> None:
    """A relay process leaves alone what it was not asked for, and refuses a service that does not exist."""
    async with Lab(kit) as lab:
        app = await lab.start(hosted=CONSUMING)
        relay = await _relay(lab, "teller")
        await add(app, *NAMES)
        await lab.eventually(app, lambda: _all_counted(app))
        assert await published(app, "counts") == []
        assert set(relay.hosts) == {"teller"}
        with pytest.raises(ConfigurationError, match="nobody"):
            await _relay(lab, "teller", "nobody")

        other = await _relay(lab, "counter")
        await lab.settled(relay, app, other)
        assert len(await published(app, "counts")) == len(NAMES)
        await balanced(app)


async def _all_counted(app: Application) -> bool:
    return len(await totals(app)) == len(NAMES)


async def killed_relays_lose_and_repeat_nothing(kit: EngineKit) -> None:
    """However often a relay process is killed in the midst of its work, the log has each position once and in order."""
    async with Lab(kit) as lab:
        app = await lab.start(hosted=CONSUMING)
        for kill_while_held in (True, False, True, False):
            relay = await _relay(lab)
            if kill_while_held:
                async with lab.faults.held("log") as reached:
                    await add(app, *NAMES, times=2)
                    await reached.wait()
                    await lab.kill(relay)
            else:
                await asyncio.gather(add(app, *NAMES, times=2), lab.kill(relay))
        relay = await _relay(lab)
        await lab.settled(relay, app, relay)
        positions = await _positions(app)
        assert all(each == sorted(each) for each in positions)
        assert sorted(chain(*positions)) == list(range(1, 2 * 4 * len(NAMES) + 1))
        await balanced(app)


async def relays_beside_each_other_repeat_nothing(kit: EngineKit) -> None:
    """Two relay processes and one that relays for itself publish each position once and in order, whoever of them stops or dies."""
    async with Lab(kit) as lab:
        app, one, two = await lab.start(), await _relay(lab), await _relay(lab)
        for end in (None, lab.stop, lab.kill):
            ended = (None, one, two)[(None, lab.stop, lab.kill).index(end)]
            ending = end(ended) if end is not None and ended is not None else asyncio.sleep(0)
            await asyncio.gather(add(app, *NAMES, times=6), ending)
            await lab.settled()
        positions = await _positions(app)
        assert all(each == sorted(each) for each in positions)
        assert sorted(chain(*positions)) == list(range(1, 3 * 6 * len(NAMES) + 1))
        await balanced(app)


async def commands_need_no_log(kit: EngineKit) -> None:
    """A process that neither relays nor consumes executes commands without the log, once a relay has noted how it is divided.

    What it says is in the log's own partitions, is consumed by others, and can be waited for here; what only the log knows is refused.
    """
    async with Lab(kit) as lab:
        consuming = await lab.start(hosted=CONSUMING)
        with pytest.raises(ConfigurationError, match="millrace relay --services teller"):
            await lab.start(hosted=NEITHER)
        relay = await _relay(lab)

        app = await lab.start(hosted=NEITHER)
        assert app.ready()
        outcome = await app.execute(Add(name="a"))
        await app.wait_for(Board, outcome.position, timeout=kit.patience)
        board = await app.views(Board).get("a")
        assert board is not None
        assert board.total == 1
        with pytest.raises(StoreUnavailable, match="without the log"):
            app.tail()

        await add(app, *NAMES, times=2)
        await lab.settled(relay, consuming, relay)
        for partition, records in enumerate(await records_of(consuming, "tally")):
            assert all(partition_of(record.key or "", consuming.partitions_of("tally")) == partition for record in records)
        assert await totals(consuming) == {"a": (1,), **dict.fromkeys(NAMES, (1, 2))}
        await balanced(consuming)


async def commands_and_relays_without_consumers(kit: EngineKit) -> None:
    """A process that does not consume publishes what it says, and leaves views and handlers to one that does."""
    async with Lab(kit) as lab:
        app = await lab.start(hosted=Role(consuming=False))
        await add(app, *NAMES)
        await lab.eventually(app, lambda: _has(app, "tally", len(NAMES)))
        assert all(not host.loops for host in app.hosts.values())
        assert await totals(app) == {}

        consuming = await lab.start(hosted=CONSUMING)
        await lab.settled(app, consuming, app)
        assert await totals(app) == dict.fromkeys(NAMES, (1,))
        await balanced(app)


async def relays_wait_for_a_log_that_is_away(kit: EngineKit) -> None:
    """While the log takes nothing, a relay process says so and goes on by itself afterwards; commands succeed meanwhile."""
    async with Lab(kit) as lab:
        app, relay = await lab.start(hosted=CONSUMING), await _relay(lab)
        lab.faults.fail_next("log", times=2, reason="unreachable")
        await add(app, *NAMES)
        await lab.eventually(app, lambda: relay.health().status == "failing")
        await lab.settled(relay, app, relay)
        await lab.eventually(app, lambda: relay.health().status == "ok")
        assert await totals(app) == dict.fromkeys(NAMES, (1,))
        await balanced(app)


PROMISES = (
    published_by_another_process,
    only_the_chosen_services_are_relayed,
    killed_relays_lose_and_repeat_nothing,
    relays_beside_each_other_repeat_nothing,
    commands_need_no_log,
    commands_and_relays_without_consumers,
    relays_wait_for_a_log_that_is_away,
)
