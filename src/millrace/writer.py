"""The one writer of a store in this process: commands, log batches and timers are its work items.

Work that arrived together shares a commit: the loop takes what is queued and never waits on a timer. A work item goes through

    prepare   read positions, name the rows it needs        (all items, then one load)
    run       call functions, stage what they decide
    settle    after the flush: positions of the journal are known; store first answers
    done      after the commit      or      failed

Crash points: before COMMIT returns nothing has happened, after it everything has; `done` only tells waiters. A commit whose group
fails for a reason that lies in one item is repeated item by item, so one bad item fails alone.

Conflicts. On a server other processes write the same store. A transaction that lost to another one (`Conflict`) has done nothing and is
repeated from `prepare` on, after a short pause whose jitter keeps two losers from meeting again; where the group keeps losing, its items
go one by one, so that only those with the conflicting keys wait. After `TRIES_MAX` an item fails with the conflict.

Commands that wait for an answer wait for the turns of processors that share their commit; `most` tells these to be short then.

Back-pressure: at most `queue_max` commands wait; one more raises `Overloaded`. Processors wait for their turn before they read on.

Neighbours: `execution` and `turn` write work items; `hosting` starts one writer per service.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Protocol

from millrace.clock import Clock, moved_micros
from millrace.errors import Conflict, MillraceError, NotYet, Overloaded, StoreUnavailable
from millrace.ports import Store
from millrace.trouble import Troubles
from millrace.unit_of_work import Saying, UnitOfWork

QUEUE_MAX = 4096
TOGETHER_MAX = 256
TRIES_MAX = 12
TRIES_TOGETHER = 4
PORTION = 50
"""Records per turn while commands come in."""
ASKED_S = 1.0
"""For how long after a command processors keep their turns short."""
CONFLICT_PAUSE_S = 0.002
CONFLICT_PAUSE_MAX_S = 0.25


class Work(Protocol):
    """A work item; see the module's text for the order of calls."""

    async def prepare(self, unit: UnitOfWork) -> None:
        """Read what decides what is needed, and name it."""
        ...

    async def run(self, unit: UnitOfWork) -> None:
        """Decide and stage; must raise before it stages, or not at all."""
        ...

    async def settle(self, unit: UnitOfWork) -> None:
        """Write what depends on journal positions."""
        ...

    def done(self) -> None:
        """The commit is durable."""
        ...

    def failed(self, error: BaseException) -> None:
        """Nothing of this item has happened."""
        ...


class Writer:
    """Commits the work of one service.

    Args:
        store: the service's store, open.
        saying: who speaks.
        clock: asked once per commit.
        committed: called after every commit with whether something is to be relayed.
        troubles: what the process has said about its stores; whoever writes through this writer tells it there.
    """

    def __init__(
        self,
        store: Store,
        saying: Saying,
        *,
        clock: Clock,
        committed: Callable[[UnitOfWork], None],
        troubles: Troubles | None = None,
        queue_max: int = QUEUE_MAX,
    ) -> None:
        self.store = store
        self.troubles = troubles or Troubles()
        self._saying = saying
        self._clock = clock
        self._committed = committed
        self._queue: list[Work] = []
        self._queue_max = queue_max
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._asked = -ASKED_S
        self.commits = 0
        self.conflicts = 0
        self.last_error: str | None = None

    def start(self) -> None:
        """Begin to work."""
        self._task = asyncio.create_task(self._run(), name=f"writer {self.store.name}")

    def submit(self, work: Work, *, bounded: bool = False) -> None:
        """Queue a work item; it learns its end by `done` or `failed`.

        Raises:
            Overloaded: `bounded` and too many wait already.
        """
        if bounded:
            if len(self._queue) >= self._queue_max:
                raise Overloaded(self.store.name, waiting=len(self._queue))
            self._asked = time.monotonic()
        self._queue.append(work)
        self._wake.set()

    def most(self, batch_max: int) -> int:
        """Return how many records make a full turn: few while commands come in, whose callers wait for the turns that share a commit."""
        return min(batch_max, PORTION) if time.monotonic() - self._asked < ASKED_S else batch_max

    @property
    def waiting(self) -> int:
        """Return how many items wait."""
        return len(self._queue)

    async def drain(self) -> None:
        """Wait until nothing is queued."""
        while self._queue and self._task is not None and not self._task.done():
            self._wake.set()
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """Finish what is queued and stop."""
        if self._task is None:
            return
        await self.drain()
        self._stopping = True
        self._wake.set()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None

    async def _run(self) -> None:
        while self._queue or not self._stopping:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                batch = self._queue[:TOGETHER_MAX]
                await self._commit(batch)
                del self._queue[: len(batch)]

    async def _commit(self, batch: list[Work]) -> None:
        try:
            unit = await self._repeat(batch)
        except BaseException as error:
            if isinstance(error, StoreUnavailable) and error.reason != "failed" and not (isinstance(error, Conflict) and len(batch) > 1):
                self.last_error = str(error)
            elif len(batch) > 1:
                for work in batch:
                    await self._commit([work])
                return
            for work in batch:
                work.failed(error)
            if not isinstance(error, Exception | NotYet | asyncio.CancelledError):
                raise
            return
        self.last_error = None
        self.commits += 1
        self._committed(unit)
        for work in batch:
            work.done()

    async def _repeat(self, batch: list[Work]) -> UnitOfWork:
        """Transact, again as long as others are faster."""
        pause, tries = CONFLICT_PAUSE_S, TRIES_MAX if len(batch) == 1 else TRIES_TOGETHER
        while True:
            try:
                return await self._transact(batch)
            except Conflict:
                self.conflicts += 1
                tries -= 1
                if not tries:
                    raise
            await asyncio.sleep(pause * random.random())  # noqa: S311  # keeps two losers from meeting again
            pause = min(pause * 2, CONFLICT_PAUSE_MAX_S)

    async def _transact(self, batch: list[Work]) -> UnitOfWork:
        transaction = await self.store.begin()
        try:
            unit = UnitOfWork(transaction, self._saying, self._clock.now(), moved=moved_micros(self._clock))
            for work in batch:
                await work.prepare(unit)
            await unit.load()
            for work in batch:
                await work.run(unit)
            await unit.flush()
            for work in batch:
                await work.settle(unit)
        except BaseException:
            await transaction.rollback()
            raise
        await transaction.commit()
        return unit


class Waiting:
    """A work item somebody awaits; the future's result is what the item makes of it.

    Derive and implement `prepare`, `run`; `settle` is optional.
    """

    def __init__(self) -> None:
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def prepare(self, unit: UnitOfWork) -> None:
        """Nothing to name."""

    async def settle(self, unit: UnitOfWork) -> None:
        """Nothing to write."""

    def done(self) -> None:
        """Wake the waiter."""
        if not self.finished.done():
            self.finished.set_result(None)

    def failed(self, error: BaseException) -> None:
        """Hand the error to the waiter."""
        if not self.finished.done():
            self.finished.set_exception(error if isinstance(error, Exception) else MillraceError(repr(error)))
