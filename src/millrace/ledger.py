"""The ledger: nothing is lost between store and log, nothing between log and handler.

Equations, checked over what is durable, with a server running or without one:

    journal of a service    rows ever appended = rows there + rows removed by retention
    publication             rows for the log up to the relay's position, removed ones too = rows published + those the log could not take
    log                     records there = end - start of each partition; where nothing expires the start is 0
    processor               position - start + rewound = received = handled + duplicate + ignored + skipped + waiting + dead
    held                    waiting and dead in the position's counters = held rows that are there

A difference is an alarm: it names the table, the place and both figures.

Neighbours: `millrace ledger` prints it and exits 1 on a difference; tests call it after every crash.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from millrace.held import FIRST, LetterFilter
from millrace.ports import LogParts, PositionRow, Store
from millrace.retry import RELAY


class LedgerLine(msgspec.Struct, frozen=True):
    """One equation: `expected` and `found` are equal when all is well."""

    what: str
    where: str
    expected: int
    found: int

    @property
    def balanced(self) -> bool:
        """Return whether nothing is missing and nothing too much."""
        return self.expected == self.found

    @property
    def difference(self) -> str:
        """Return the difference in words."""
        return f"{self.what} {self.where}: expected {self.expected}, found {self.found} ({self.found - self.expected:+d})"


async def check_ledger(stores: Iterable[tuple[str, Store]], parts: LogParts) -> list[LedgerLine]:
    """Return every equation of an installation.

    Args:
        stores: (source, open store) of each service.
        parts: the open log.
    """
    lines: list[LedgerLine] = []
    published = {(source, epoch): (position, rows) for source, epoch, position, rows in await parts.administration.sources()}
    for source, store in stores:
        lines += await _journal_lines(source, store, published)
        lines += await _processor_lines(store)
    return lines + await _log_lines(parts)


async def _journal_lines(source: str, store: Store, published: dict[tuple[str, int], tuple[int, int]]) -> list[LedgerLine]:
    journal = store.reader.journal
    position, rows = published.get((source, await store.epoch()), (0, 0))
    ever, there, removed, sent = await journal.counts(position)
    dead = await refused_by_log(store, position)
    return [LedgerLine("journal", store.name, ever, there + removed), LedgerLine("published", store.name, sent, rows + dead)]


async def refused_by_log(store: Store, position: int) -> int:
    """Return how many rows of a journal up to a position the log could not take, those that an operator has closed too."""
    held = await store.reader.held.load(RELAY)
    closed = await store.reader.letters.closed(LetterFilter(processor=RELAY), after=FIRST, limit=1 << 30)
    return sum(1 for row in (*held, *closed) if row.offset <= position)


async def _processor_lines(store: Store) -> list[LedgerLine]:
    lines: list[LedgerLine] = []
    held = await store.reader.held.counts()
    for processor in await store.reader.positions.processors():
        for row in await store.reader.positions.load(processor):
            where = f"{store.name}.{processor} on {row.topic}/{row.partition}"
            waiting, dead = held.get((processor, row.topic, row.partition), (0, 0))
            lines += [
                LedgerLine("received", where, row.offset - row.start + row.rewound, row.received),
                LedgerLine("accounted", where, row.received, _accounted(row)),
                LedgerLine("waiting", where, row.waiting, waiting),
                LedgerLine("dead letters", where, row.dead, dead),
            ]
    return lines


def _accounted(row: PositionRow) -> int:
    return row.handled + row.duplicate + row.ignored + row.skipped + row.waiting + row.dead


async def _log_lines(parts: LogParts) -> list[LedgerLine]:
    there = await parts.administration.counts()
    return [
        LedgerLine(
            "log", f"{info.name}/{partition}", end - (first if info.retention_s is not None else 0), there.get((info.name, partition), 0)
        )
        for info in await parts.log.topics()
        for partition, (first, end) in enumerate(info.ranges)
    ]
