"""A redrive of many dead letters: where it stands, stored with every step, so that it can be interrupted and taken up again.

A run is a row per service in the service's own store, changed in the transaction of each step. It goes through the letters that were dead
when it began, oldest first, and by each only once: one that dies again keeps its place, which the run has passed. Interrupted, by Ctrl-C or
by a kill, it is taken up behind the last step that was committed; finished, its row is gone.

Neighbours: `dead_letters` drives runs, `letter_work` commits their steps.
"""

from __future__ import annotations

import asyncio
import time

import msgspec

from millrace.held import FIRST, LetterFilter, Mark
from millrace.ports import StoreReader, StoreTransaction

KIND = "@redrive"
"""The kind of the rows, which no class of an application has."""
MANY = 10_000
STEP = 500
"""Letters that one transaction redrives at most."""
STEP_S = 0.2
"""At a rate, a step has what is due in this time."""


class RedriveRun(msgspec.Struct):
    """What a run redrives in one service, and how far it is."""

    id: str
    wanted: LetterFilter
    of: int
    who: str
    at: int
    after: Mark = FIRST
    passed: int = 0
    """Letters that it has met."""
    redriven: int = 0
    refused: int = 0
    """Rows that the log cannot take now either."""
    finished: bool = False


class RedriveProgress(msgspec.Struct, frozen=True):
    """How far a run is, over all services."""

    run: str
    redriven: int
    of: int
    """Letters that were meant when it began."""
    refused: int
    finished: bool


async def load_runs(tables: StoreReader) -> dict[str, RedriveRun]:
    """Return the runs of a store that are not finished."""
    return {name: msgspec.json.decode(row, type=RedriveRun) for name, row in await tables.states.page(KIND, after="", limit=MANY)}


async def save_run(transaction: StoreTransaction, run: RedriveRun) -> None:
    """Store how far a run is."""
    if run.finished:
        await transaction.states.delete([(KIND, run.id)])
    else:
        await transaction.states.save([(KIND, run.id, msgspec.json.encode(run))])


class Rate:
    """Keeps to so many letters a second.

    Args:
        per_s: letters a second; None: as fast as it goes.
    """

    def __init__(self, per_s: float | None) -> None:
        self._per_s = per_s
        self._begun = time.monotonic()
        self._done = 0

    @property
    def step(self) -> int:
        """Return how many letters the next step may have."""
        return STEP if self._per_s is None else max(1, min(STEP, int(self._per_s * STEP_S)))

    async def wait(self, count: int) -> None:
        """Wait until so many more were due."""
        self._done += count
        if self._per_s is not None:
            await asyncio.sleep(max(0.0, self._begun + self._done / self._per_s - time.monotonic()))


__all__ = ["Rate", "RedriveProgress", "RedriveRun", "load_runs", "save_run"]
