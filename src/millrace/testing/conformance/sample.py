"""The application that the checks run: names that are counted up, in each of the ways a processor can be written.

    teller    aggregate `Tally`: Add -> Added, refuses a negative n
    counter   pure handler: Added -> row `Total` and fact `Counted`; view `Board`
    caller    activity: Added -> Called
    clerk     plain handler with the transaction: Added -> Filed; and timers: Remind -> a timer that becomes `Reminded`

What a check wants to go wrong it puts on a `Behaviour`, whose functions the handlers call first; it knows as well how the engine's
SQL marks a value.

Neighbours: `lab` starts it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import msgspec

from millrace.delivery import Context
from millrace.errors import NotYet, Rejected
from millrace.handler import Transaction
from millrace.message import Command, Event
from millrace.service import Service
from millrace.state import State, View
from millrace.testing.conformance.statements import load_statements
from millrace.timers import Cancel, Timer

APPLICATION = "sample"
SQL = load_statements("sample.sql")


class Add(Command, topic="tally.commands", key="name"):
    """Count a name up."""

    name: str
    n: int = 1
    text: str = ""


class Added(Event, topic="tally", key="name"):
    """A name was counted up."""

    name: str
    n: int = 1
    text: str = ""


class Refused(Event, topic="tally", key="name"):
    """A command from the log was refused."""

    name: str
    command: str
    reason: str


class Counted(Event, topic="counts", key="name"):
    """The counter has seen it."""

    name: str
    n: int


class Called(Event, topic="calls", key="name"):
    """The outside world was told."""

    name: str
    n: int
    id: str


class Ready(Event, topic="ready", key="name"):
    """What messages of this name wait for."""

    name: str


class Remind(Command, key="name"):
    """Set a timer, or cancel it."""

    name: str
    after_s: float = 0.0
    cancel: bool = False
    event_time: bool = False


class Ring(Command, key="name"):
    """What the timer fires."""

    name: str


class Reminded(Event, topic="reminders", key="name"):
    """The timer fired."""

    name: str


class Tally(msgspec.Struct, frozen=True):
    """The aggregate: what was added, in order."""

    total: int = 0
    seen: tuple[int, ...] = ()


class Total(State, key="name"):
    """The counter's row."""

    name: str
    total: int = 0
    seen: tuple[int, ...] = ()
    ready: bool = False


class Board(View, key="name", lookups=("even",), sort="total"):
    """The read model."""

    name: str
    total: int = 0
    even: bool = False


def _do_nothing(event: Any, context: Context) -> None:
    """Do nothing."""


async def _nothing(event: Any, context: Context) -> None:
    """Do nothing, asynchronously."""


class Slow:
    """What an activity does that waits until it is let go.

    Attributes:
        called: set when the first one waits.
        go: lets all go.
    """

    def __init__(self) -> None:
        self.called = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, event: Any, context: Context) -> None:
        """Wait."""
        self.called.set()
        await self.go.wait()


class Behaviour:
    """What handlers do beside counting. Each may raise, or return more items."""

    def __init__(self, *, placeholder: str = "?") -> None:
        self.placeholder = placeholder
        self.count: Callable[[Added, Context], Any] = _do_nothing
        self.fold: Callable[[Added, Context], Any] = _do_nothing
        self.call: Callable[[Added, Context], Awaitable[Any]] = _nothing
        self.file: Callable[[Added, Context], Awaitable[Any]] = _nothing
        self.order: list[tuple[str, int]] = []
        """(name, n) of every `Added` for which `count` was called."""
        self.calls: list[tuple[str, int]] = []
        """(name, n) of every `Added` for which `call` was called."""


def teller(*, snapshot_every: int = 100) -> Service:
    """Return the service of the aggregate."""
    service = Service("teller", rejection=Refused)
    service.aggregate(Tally, decide=decide, evolve=evolve, snapshot_every=snapshot_every)
    return service


def decide(command: Add, tally: Tally | None, context: Context) -> Any:
    """Add, or refuse."""
    if command.n < 0:
        raise Rejected("negative", n=command.n)
    return Added(name=command.name, n=command.n, text=command.text)


def evolve(tally: Tally | None, event: Added) -> Tally:
    """Fold."""
    before = tally or Tally()
    return Tally(before.total + event.n, (*before.seen, event.n))


def counter(behaviour: Behaviour) -> Service:
    """Return the service of the pure handlers and the view."""
    service = Service("counter")

    @service.handler(total=Total.by("name"), says=[Counted])
    def count(event: Added, total: Total | None, context: Context) -> Any:
        """Add to the row and say so."""
        behaviour.order.append((event.name, event.n))
        extra = behaviour.count(event, context)
        before = total or Total(name=event.name)
        after = msgspec.structs.replace(before, total=before.total + event.n, seen=(*before.seen, event.n))
        if extra == "wait" and not before.ready:
            raise NotYet("for Ready")
        return [after, Counted(name=event.name, n=event.n), *(extra if isinstance(extra, list) else [])]

    @service.handler(total=Total.by("name"))
    def ready(event: Ready, total: Total | None) -> Any:
        """Note that waiting is over."""
        return msgspec.structs.replace(total or Total(name=event.name), ready=True)

    @service.view(Board)
    def board(document: Board | None, event: Added, context: Context) -> Any:
        """Sum up."""
        behaviour.fold(event, context)
        total = (document.total if document else 0) + event.n
        return Board(name=event.name, total=total, even=total % 2 == 0)

    return service


def caller(behaviour: Behaviour, *, workers: int | None = None) -> Service:
    """Return the service of the activity."""
    service = Service("caller", says=[Called])

    @service.handler(workers=workers)
    async def call(event: Added, context: Context) -> Any:
        """Tell the outside world."""
        behaviour.calls.append((event.name, event.n))
        extra = await behaviour.call(event, context)
        return [Called(name=event.name, n=event.n, id=context.id), *(extra or [])]

    return service


def clerk(behaviour: Behaviour) -> Service:
    """Return the service of the plain handler and of the timers."""
    service = Service("clerk", says=[Reminded])

    @service.handler(says=[Counted])
    async def file(event: Added, tx: Transaction, context: Context) -> Any:
        """Write a row with SQL of its own."""
        await tx.execute(SQL["make_filed"])
        await tx.execute(SQL["file"].replace("?", behaviour.placeholder), event.name, event.n)
        return await behaviour.file(event, context)

    @service.handler
    def remind(command: Remind) -> Any:
        """Set the timer."""
        if command.cancel:
            return Cancel("ring")
        return Timer("ring", Ring(name=command.name), after=timedelta(seconds=command.after_s), event_time=command.event_time)

    @service.handler
    def ring(command: Ring) -> Any:
        """Say that it fired."""
        return Reminded(name=command.name)

    return service
