"""Guarantee 1: a fact and its announcement commit together; nothing but the relay publishes.

Failures are injected at the commit itself and at each write before it; what is left afterwards must be nothing, or everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from millrace.application import Application
from millrace.errors import StoreUnavailable
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, balanced, journal_rows, published, records_of, totals
from millrace.testing.conformance.sample import SQL, Add, Added, Behaviour, Counted, Remind, Service, Tally, clerk, counter, teller
from millrace.timers import Timer


async def failed_command_leaves_nothing(kit: EngineKit) -> None:
    """A command whose commit fails has not happened, and the next one is the first."""
    async with Lab(kit) as lab:
        app = await lab.start()
        lab.faults.fail_next("teller")
        with pytest.raises(StoreUnavailable):
            await app.execute(Add(name="a"))

        assert await app.load(Tally, "a") is None
        assert await journal_rows(app, "teller") == 0

        outcome = await app.execute(Add(name="a", n=2))
        await lab.settled()
        assert outcome.version == 1
        assert await totals(app) == {"a": (2,)}


def _counter_with_timer(behaviour: Behaviour) -> Service:
    service = counter(behaviour)

    @service.handler
    def remind(command: Remind) -> None:
        """Take what the timer fires."""

    behaviour.count = lambda event, _: [Timer("later", Remind(name=event.name), after=timedelta(hours=1))]
    return service


async def _what_a_turn_wrote(app: Application) -> tuple[Any, ...]:
    reader = app.hosts["counter"].store.reader
    rows = await reader.positions.load("handlers")
    return await totals(app), await journal_rows(app, "counter"), await reader.timers.count(), sum(row.handled for row in rows)


async def failed_turn_leaves_nothing(kit: EngineKit) -> None:
    """State, facts, timers and the read position of a turn are all there, or none of them."""
    async with Lab(kit) as lab:
        app = await lab.start([teller(), _counter_with_timer(lab.behaviour)])
        await lab.settled()
        async with lab.faults.held("counter") as reached:
            await app.execute(Add(name="a"))
            await reached.wait()
            assert await _what_a_turn_wrote(app) == ({}, 0, 0, 0)
            lab.faults.fail_next("counter", times=3)

        await lab.settled()
        assert lab.faults.outstanding == 0
        assert await _what_a_turn_wrote(app) == ({"a": (1,)}, 1, 1, 1)
        await balanced(app)


async def any_commit_of_a_turn_may_fail(kit: EngineKit) -> None:
    """Whichever commit fails while messages are handled, each has its effect once and the ledger balances."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await lab.settled()
        for n in range(1, 5):
            lab.faults.fail_next("counter", after=n - 1)
            await app.execute(Add(name="a", n=n))
            await lab.settled()
        lab.faults.forget()
        assert await totals(app) == {"a": (1, 2, 3, 4)}
        assert len(await published(app, "counts")) == 4
        await balanced(app)


async def killed_before_the_commit_leaves_nothing(kit: EngineKit) -> None:
    """A process killed at the commit of a turn has done nothing; the next one takes the turn again."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await lab.settled()
        async with lab.faults.held("counter") as reached:
            await app.execute(Add(name="a"))
            await reached.wait()
            await lab.kill(app)

        app = await lab.start()
        await lab.settled()
        assert await totals(app) == {"a": (1,)}
        assert len(await published(app, "counts")) == 1
        await balanced(app)


async def only_the_relay_publishes(kit: EngineKit) -> None:
    """What is committed is not in the log until the relay has committed it there, and is there after a kill in between."""
    async with Lab(kit) as lab:
        app = await lab.start([teller()])
        async with lab.faults.held("log") as reached:
            await app.execute(Add(name="a"))
            await reached.wait()
            assert [len(records) for records in await records_of(app, "tally")] == [0, 0, 0]
            await lab.kill(app)

        app = await lab.start([teller()])
        await lab.settled()
        assert [envelope.sequence for envelope in await published(app, "tally")] == ["1".zfill(19)]


async def refused_append_is_sent_again(kit: EngineKit) -> None:
    """A failed delivery stops the relay, which sends again from the last acknowledgement, in order."""
    async with Lab(kit) as lab:
        app = await lab.start()
        lab.faults.fail_next("log", times=2, reason="locked")
        await asyncio.gather(*(app.execute(Add(name="a", n=n)) for n in range(1, 6)))
        await lab.settled()

        assert lab.faults.outstanding == 0
        assert await totals(app) == {"a": (1, 2, 3, 4, 5)}
        assert len(await published(app, "tally")) == 5


async def plain_handler_shares_the_transaction(kit: EngineKit) -> None:
    """SQL of a handler, what it returns and the position commit together; what it raises undoes its own SQL alone."""
    async with Lab(kit) as lab:

        async def say(event: Added, context: Any) -> Sequence[Any]:
            if event.n == 2:
                raise ValueError("after the insert")
            return [Counted(name=event.name, n=event.n)]

        lab.behaviour.file = say
        app = await lab.start([teller(), clerk(lab.behaviour)])
        await asyncio.gather(*(app.execute(Add(name=name, n=n)) for name, n in [("a", 1), ("b", 2), ("c", 3)]))
        await lab.settled()

        transaction = await app.hosts["clerk"].store.begin()
        rows = await transaction.execute(SQL["filed"])
        await transaction.rollback()
        assert rows == [("a", 1), ("c", 3)]
        assert sorted(envelope.subject for envelope in await published(app, "counts")) == ["a", "c"]


PROMISES = (
    failed_command_leaves_nothing,
    failed_turn_leaves_nothing,
    any_commit_of_a_turn_may_fail,
    killed_before_the_commit_leaves_nothing,
    only_the_relay_publishes,
    refused_append_is_sent_again,
    plain_handler_shares_the_transaction,
)
