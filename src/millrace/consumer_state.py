"""What operators want of a processor: that it runs, is paused, or is stopped.

    running   the default; nothing is stored for it
    paused    it holds its partitions and takes nothing new: no record, no retry, no timer; what falls due meanwhile comes afterwards
    stopped   as paused, and its partitions are given up; a consumer that cannot go on stops itself like this, with the reason (`outcomes`)

The wish is a row in the service's own store, so it outlives every process and reaches those that start later. Every instance looks at it
when it starts, when another process has committed, once a second, and when the control topic calls. Commands that are executed directly are
not read from the log, so they go on.

Neighbours: `consumers` writes wishes; `hosting` looks at them and hands them to loops as `Orders`.
"""

from __future__ import annotations

import msgspec

from millrace.breaker import Circuit
from millrace.broadcast import Broadcast
from millrace.ports import StoreReader, StoreTransaction

RUNNING, PAUSED, STOPPED = "running", "paused", "stopped"
KIND = "@consumer"
"""The kind of the rows, which no class of an application has."""
MANY = 10_000


class Wish(msgspec.Struct, frozen=True):
    """What is stored of a processor. Further wishes of operators are further fields with defaults."""

    state: str = RUNNING
    workers: int = 0
    """How many activities are called at once in each instance; 0: as many as are declared."""
    reason: str = ""
    """Why the consumer has stopped itself; empty where an operator wants its state."""
    since: int = 0
    """When it did, in microseconds of business time."""


async def load_wishes(tables: StoreReader) -> dict[str, Wish]:
    """Return what is wanted of processors; those that are not named run."""
    return {name: msgspec.json.decode(row, type=Wish) for name, row in await tables.states.page(KIND, after="", limit=MANY)}


async def save_wish(transaction: StoreTransaction, processor: str, wish: Wish) -> None:
    """Store what is wanted of a processor."""
    if wish == Wish():
        await transaction.states.delete([(KIND, processor)])
    else:
        await transaction.states.save([(KIND, processor, msgspec.json.encode(wish))])


class LoopState(msgspec.Struct):
    """What the outside may see of a loop."""

    processor: str
    partitions: list[int]
    lag: int
    held: int
    stuck_s: float
    last_error: str | None
    halted: bool = False
    """It has stopped, or may not read what it has to."""
    workers: int | None = None
    """How many activities are called at once; None where none are."""
    calling: int = 0
    wanted: str = RUNNING
    circuit: Circuit | None = None
    """The breaker of what it calls, if it names something."""


class Orders:
    """What a loop was told to do, and whether it has taken note: it does so between two turns.

    Attributes:
        state: running, paused or stopped.
        renewing: partitions are to be claimed anew, because positions were moved.
    """

    def __init__(self, state: str = RUNNING) -> None:
        self.state = state
        self.renewing = False
        self._given = 0
        self._taken = 0
        self._news = Broadcast()

    @property
    def running(self) -> bool:
        """Return whether turns are to be taken."""
        return self.state == RUNNING

    @property
    def open(self) -> bool:
        """Return whether something was told that the loop has not taken note of."""
        return self._given != self._taken

    def give(self, state: str, *, renew: bool = False) -> bool:
        """Tell; return whether that is news."""
        if state == self.state and not renew:
            return False
        self.state = state
        self.renewing = self.renewing or renew
        self._given += 1
        return True

    def take(self) -> None:
        """Note that no turn is in hand and that the next one follows these orders."""
        self.renewing = False
        self._taken = self._given
        self._news.call()

    async def taken(self) -> None:
        """Wait until what was told so far is followed."""
        given = self._given
        while self._taken < given:
            await self._news.wait(self._news.calls)


__all__ = ["PAUSED", "RUNNING", "STOPPED", "LoopState", "Orders", "Wish", "load_wishes", "save_wish"]
