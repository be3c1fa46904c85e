"""Published rows of a journal go when they are old enough, what is a stream's stays, and nothing that counts on either notices."""

from __future__ import annotations

import asyncio

from millrace.application import Application
from millrace.retention import ROWS_TOGETHER, trim_journal
from millrace.service import JOURNAL_KEPT
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, balanced, foreign, journal_rows, put, totals
from millrace.testing.conformance.sample import Added, Tally

KEPT = int(JOURNAL_KEPT.total_seconds() * 1_000_000)
START = 1_000_000_000_000_000


async def _clean(app: Application, *, now: int) -> None:
    for host in app.hosts.values():
        await host.clean(now=now, answers_before=0)


async def old_rows_go(kit: EngineKit) -> None:
    """Rows of handlers go once they are as old as they are kept, no sooner; streams stay, and so does the ledger's balance."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, "a", "b", times=3)
        await lab.settled()
        await _clean(app, now=START)
        await add(app, "c", times=2)
        await lab.settled()
        await _clean(app, now=START + KEPT - 1)
        assert (await journal_rows(app, "teller"), await journal_rows(app, "counter")) == (8, 8)

        await _clean(app, now=START + KEPT)
        assert (await journal_rows(app, "teller"), await journal_rows(app, "counter")) == (8, 2)
        await balanced(app)
        stream = await app.load(Tally, "a")
        assert stream is not None
        assert stream.version == 3


async def what_is_not_published_stays(kit: EngineKit) -> None:
    """However old rows are, those that the log does not have stay; an emptied journal gives no position twice, and all goes on."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, "a", times=3)
        await lab.settled()
        writer = app.hosts["counter"].writer
        for now, left in ((START, 3), (START + KEPT, 2)):
            await trim_journal(writer, now=now, kept_s=KEPT / 1_000_000, published=1)
            assert await journal_rows(app, "counter") == left
        await _clean(app, now=START + KEPT)
        assert await journal_rows(app, "counter") == 0
        await balanced(app)
        await lab.stop(app)

        app = await lab.start()
        await add(app, "d", times=2)
        await lab.settled()
        await balanced(app)
        assert (await totals(app))["d"] == (1, 2)
        assert await app.hosts["counter"].store.reader.journal.head() == 5


async def long_journals_go_in_batches(kit: EngineKit) -> None:
    """More rows than go in one transaction: every batch goes on where the last one ended, and commands get their turn in between."""
    async with Lab(kit) as lab:
        app = await lab.start()
        rows = 2 * ROWS_TOGETHER + 10
        await put(app, "tally", *((f"n{i % 7}", foreign(app, Added(name=f"n{i % 7}"), id=str(i))) for i in range(rows)))
        await lab.settled()
        await _clean(app, now=START)
        cleaning = asyncio.ensure_future(_clean(app, now=START + KEPT))
        await add(app, "z")
        await cleaning
        await lab.settled()
        assert await journal_rows(app, "counter") == 1
        await balanced(app)


PROMISES = (old_rows_go, what_is_not_published_stays, long_journals_go_in_batches)
