"""Schedules: a command that recurs, once per due moment, whatever runs or restarts.

Theory. A schedule is a row in its service's store (`ScheduleRow`: the next moment) and one timer, its tick, that is due then. The tick is
fired like every timer, by the owner of its partition, in one transaction that

    reads the row          nothing fires twice: a tick that finds a later moment there than now only waits for it
    decides                which of the moments up to now are to be, by the schedule's policy
    sets a timer for each  for the processor that takes the command, named after the moment; from there on it is like any other timer
    moves the row, and sets the next tick

So the moment and what it causes commit together: a kill before that has done nothing, a kill afterwards repeats nothing, and two instances
cannot both have the tick. A command that fails is held and tried again like a timer; the schedule goes on.

What was missed while nothing ran, or while the clock was moved, is caught up by policy: `once` the last missed moment, `all` of them in
order, `none` only what is less than a minute late. While an operator has paused a schedule its moments pass unused.

An instance of another release may have the tick without knowing the schedule. It leaves the row as it is and looks again in a minute, so a
schedule is lost neither in a rolling update nor by going back a release; one that nobody declares any more is removed by an operator.

Neighbours: `Service.schedule` declares; `scheduling` arms schedules at each start and does what operators want.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from millrace.clock import from_micros, to_micros
from millrace.cron import Cron, Every
from millrace.delivery import Delivery
from millrace.errors import ConfigurationError
from millrace.message import Command, Message
from millrace.ports import StoreReader, TimerRow
from millrace.processor import Mode
from millrace.unit_of_work import UnitOfWork

PROCESSOR = "schedules"
"""The processor of the ticks."""
KIND = "@schedule"
"""The kind of the rows, which no class of an application has."""
TICK = "tick"
TOGETHER = 100
"""So many missed moments are caught up in one step."""
LATE = timedelta(minutes=1)
AGAIN = timedelta(minutes=1)
MANY = 10_000

CatchUp = Literal["once", "all", "none"]
log = logging.getLogger("millrace")


class ScheduleDue(Command, key="name", internal=True):
    """The tick of a schedule."""

    name: str


class ScheduleRow(msgspec.Struct):
    """What is stored of a schedule; moments in microseconds, 0 for none yet."""

    when: str
    catch_up: str
    next: int
    last: int = 0
    """The last moment that was fired."""
    fired: int = 0
    paused: bool = False


class Schedule(msgspec.Struct, frozen=True):
    """A schedule as declared: `make` returns the command of a moment, which is of class `command`."""

    name: str
    when: Cron | Every
    make: Callable[[datetime], Command]
    command: type[Command]
    catch_up: CatchUp

    def moments(self, first: datetime, now: datetime) -> list[datetime]:
        """Return which moments are to be fired now, of those from the first one on that was not yet: some of them, where there are many."""
        if first > now:
            return []
        if self.catch_up == "all":
            found = [first]
            while len(found) < TOGETHER and (moment := self.when.after(found[-1])) <= now:
                found.append(moment)
            return found
        latest = max(first, self.when.latest(now))
        return [latest] if self.catch_up == "once" or now - latest < LATE else []


class Target(msgspec.Struct, frozen=True):
    """The processor that takes a schedule's command, and the topics it reads."""

    processor: str
    topics: tuple[str, ...]


class SchedulePattern:
    """Fires the ticks of a service's schedules.

    Args:
        schedules: by name.
        targets: by command.
    """

    name = PROCESSOR
    mode = Mode.TRANSACTION
    messages: tuple[type[Message], ...] = (ScheduleDue,)
    quiet: Collection[type[Message]] = ()
    replayable = False
    missing = None

    def __init__(self, schedules: dict[str, Schedule], targets: dict[type[Command], Target]) -> None:
        self._schedules = schedules
        self._targets = targets

    def wants(self, delivery: Delivery, work: UnitOfWork) -> None:
        """Name nothing: `call` reads the row itself."""

    async def call(self, delivery: Delivery, work: UnitOfWork | None) -> Any:
        """Move the row on, and return the timers to set, by processor, key and name."""
        assert work is not None  # noqa: S101  # runs in the transaction
        assert isinstance(delivery.message, ScheduleDue)  # noqa: S101  # the only message it takes
        name = delivery.message.name
        row = (await load_rows(work.transaction, [name])).get(name)
        if row is None:
            return []
        schedule = self._schedules.get(name)
        if schedule is None:
            log.warning("schedule %s is not declared here; it is left to another instance, or to `schedules remove`", name)
            return [tick(name, work, due=to_micros(work.now + AGAIN))]
        moments = schedule.moments(from_micros(row.next), work.now)
        timers = [] if row.paused else [self._timer(schedule, moment, work) for moment in moments]
        if row.next <= work.now_micros:
            after = moments[-1] if schedule.catch_up == "all" and moments else max(work.now, from_micros(row.next))
            row.next = to_micros(schedule.when.after(after))
        if timers:
            row.last, row.fired = to_micros(moments[-1]), row.fired + len(timers)
        await save_rows(work, {name: row})
        return [*timers, tick(name, work, due=row.next)]

    def react(self, delivery: Delivery, work: UnitOfWork) -> None:
        """Set the timers."""
        for row in delivery.result:
            work.put_timer(row.key, row.name, row, processor=row.processor)

    def _timer(self, schedule: Schedule, moment: datetime, work: UnitOfWork) -> TimerRow:
        """Return the timer of the command of a moment; it is due already."""
        target, command = self._targets[schedule.command], schedule.make(moment)
        if type(command) is not schedule.command:
            raise ConfigurationError(f"schedule {schedule.name!r} made {type(command).__name__}, and declares {schedule.command.__name__}")
        name = f"@{schedule.name}/{moment.isoformat()}"
        return work.timer_of(command, processor=target.processor, name=name, due=to_micros(moment), topics=target.topics)


def tick(name: str, work: UnitOfWork, *, due: int) -> TimerRow:
    """Return the tick of a schedule as a timer."""
    return work.timer_of(ScheduleDue(name=name), processor=PROCESSOR, name=TICK, due=due, topics=())


async def load_rows(tables: StoreReader, names: Collection[str] | None = None) -> dict[str, ScheduleRow]:
    """Return what is stored of schedules: some, or all, by name."""
    if names is None:
        rows = dict(await tables.states.page(KIND, after="", limit=MANY))
    else:
        rows = await tables.states.load(KIND, sorted(names))
    return {name: msgspec.json.decode(row, type=ScheduleRow) for name, row in rows.items()}


async def save_rows(work: UnitOfWork, rows: dict[str, ScheduleRow]) -> None:
    """Store them."""
    await work.transaction.states.save([(KIND, name, msgspec.json.encode(row)) for name, row in sorted(rows.items())])


__all__ = [
    "PROCESSOR",
    "TICK",
    "CatchUp",
    "Schedule",
    "ScheduleDue",
    "SchedulePattern",
    "ScheduleRow",
    "Target",
    "load_rows",
    "save_rows",
    "tick",
]
