"""Guarantee 5: journal positions become visible in order, so a reader that has seen one has seen all below it."""

from __future__ import annotations

import asyncio
from itertools import chain

import pytest

from millrace.application import Application
from millrace.errors import Rejected, StoreUnavailable
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, balanced, published, records_of, totals
from millrace.testing.conformance.sample import Add, teller

NAMES = [f"n{i}" for i in range(8)]


async def _follow(app: Application, upto: int) -> list[int]:
    """Read a journal as a relay does while it grows; return the positions in the order in which they were seen."""
    journal, seen, after = app.hosts["teller"].store.reader.journal, list[int](), 0
    while after < upto:
        rows, after = await journal.tail(after, limit=3)
        seen += [row.position for row in rows]
        await asyncio.sleep(0)
    return seen


async def concurrent_writers_leave_no_gap_behind(kit: EngineKit) -> None:
    """Two processes write at once; whoever follows the journal meanwhile misses nothing."""
    async with Lab(kit) as lab:
        one, two = await lab.start([teller()]), await lab.start([teller()])
        async with asyncio.timeout(kit.patience * 4):
            seen, _, _ = await asyncio.gather(_follow(one, 80), add(one, *NAMES, times=5), add(two, *(f"m{i}" for i in range(8)), times=5))
        assert seen == list(range(1, 81))


async def log_has_each_position_once_and_in_order(kit: EngineKit) -> None:
    """What two relays of one source publish is the journal: in order per partition, nothing missing, nothing twice."""
    async with Lab(kit) as lab:
        one, two = await lab.start([teller()]), await lab.start([teller()])
        await asyncio.gather(add(one, *NAMES, times=8), add(two, *(f"m{i}" for i in range(8)), times=8))
        await lab.settled()
        partitions = [[record.position for record in records] for records in await records_of(one, "tally")]
        assert all(positions == sorted(positions) for positions in partitions)
        assert sorted(chain(*partitions)) == list(range(1, 129))
        assert [int(e.sequence) for e in await published(one, "tally")] == list(chain(*partitions))
        await balanced(one)


async def undone_transactions_leave_nothing_to_wait_for(kit: EngineKit) -> None:
    """Refused and failed commands among good ones neither stop the relay nor leave a position that appears later."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, "a")
        await lab.settled()
        for n in range(2, 6):
            with pytest.raises(Rejected):
                await app.execute(Add(name="a", n=-n))
            lab.faults.fail_next("teller")
            with pytest.raises(StoreUnavailable):
                await app.execute(Add(name="b", n=n))
            await app.execute(Add(name="a", n=n))
        await lab.settled()
        assert await totals(app) == {"a": (1, 2, 3, 4, 5)}
        await balanced(app)


PROMISES = (
    concurrent_writers_leave_no_gap_behind,
    log_has_each_position_once_and_in_order,
    undone_transactions_leave_nothing_to_wait_for,
)
