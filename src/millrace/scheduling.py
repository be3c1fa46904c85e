"""What becomes of schedules apart from their firing: armed at each start, listed, paused, resumed and removed.

Neighbours: `hosting` arms; `administration` lists; `clockwork` and users' servers pause; `schedule` has the theory.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from millrace.clock import from_micros, to_micros
from millrace.errors import ConsumerRefused, UnknownMessage
from millrace.ports import StoreReader
from millrace.schedule import KIND, PROCESSOR, TICK, Schedule, ScheduleRow, load_rows, save_rows, tick
from millrace.unit_of_work import UnitOfWork
from millrace.writer import Waiting


class ArmSchedules(Waiting):
    """Sees that every declared schedule has its row and its tick: new ones begin at their next moment, as do those that were changed."""

    def __init__(self, schedules: Iterable[Schedule]) -> None:
        super().__init__()
        self._schedules = list(schedules)

    async def run(self, unit: UnitOfWork) -> None:
        """Arm them."""
        rows = await load_rows(unit.transaction, [schedule.name for schedule in self._schedules])
        for schedule in self._schedules:
            row = rows.get(schedule.name)
            if row is None or row.when != schedule.when.text:
                following = to_micros(schedule.when.after(unit.now))
                before = row or ScheduleRow(schedule.when.text, schedule.catch_up, following)
                row = msgspec.structs.replace(before, when=schedule.when.text, next=following)
            row.catch_up = schedule.catch_up
            rows[schedule.name] = row
            timer = tick(schedule.name, unit, due=row.next)
            unit.put_timer(timer.key, TICK, timer, processor=PROCESSOR)
        await save_rows(unit, rows)


class ChangeSchedule(Waiting):
    """Pauses or resumes a schedule, from its next moment on."""

    def __init__(self, name: str, *, paused: bool) -> None:
        super().__init__()
        self._name = name
        self._paused = paused

    async def run(self, unit: UnitOfWork) -> None:
        """Change the row.

        Raises:
            UnknownMessage: there is none.
        """
        rows = await load_rows(unit.transaction, [self._name])
        if self._name not in rows:
            raise UnknownMessage(f"there is no schedule {self._name!r} here")
        rows[self._name].paused = self._paused
        await save_rows(unit, rows)


class RemoveSchedule(Waiting):
    """Removes what is left of a schedule that is not declared any more."""

    def __init__(self, name: str, *, declared: bool) -> None:
        super().__init__()
        self._name = name
        self._declared = declared

    async def run(self, unit: UnitOfWork) -> None:
        """Remove row and tick.

        Raises:
            ConsumerRefused: the schedule is declared.
            UnknownMessage: there is none.
        """
        if self._declared:
            raise ConsumerRefused(f"schedule {self._name!r} is declared, so the next start would arm it again; pause it instead")
        if self._name not in await load_rows(unit.transaction, [self._name]):
            raise UnknownMessage(f"there is no schedule {self._name!r} here")
        await unit.transaction.states.delete([(KIND, self._name)])
        unit.put_timer(self._name, TICK, None, processor=PROCESSOR)


class ScheduleState(msgspec.Struct, frozen=True):
    """A schedule as it is stored and declared; moments are None where there is none."""

    schedule: str
    service: str
    when: str
    catch_up: str
    command: str | None
    """The class of its command; None where it is not declared."""
    state: str
    """waiting, paused, undeclared, or new: declared and not armed yet."""
    next: datetime | None
    last: datetime | None
    fired: int


async def list_schedules(service: str, declared: dict[str, Schedule], tables: StoreReader) -> list[ScheduleState]:
    """Return the schedules of a service by name."""
    rows = await load_rows(tables)
    return [_state(service, name, declared.get(name), rows.get(name)) for name in sorted({*rows, *declared})]


def _state(service: str, name: str, schedule: Schedule | None, row: ScheduleRow | None) -> ScheduleState:
    if row is None:
        assert schedule is not None  # noqa: S101  # the name is from one of both
        return ScheduleState(name, service, schedule.when.text, schedule.catch_up, schedule.command.__name__, "new", None, None, 0)
    state = "undeclared" if schedule is None else "paused" if row.paused else "waiting"
    command = schedule.command.__name__ if schedule is not None else None
    last = from_micros(row.last) if row.last else None
    return ScheduleState(name, service, row.when, row.catch_up, command, state, from_micros(row.next), last, row.fired)


__all__ = ["ArmSchedules", "ChangeSchedule", "RemoveSchedule", "ScheduleState", "list_schedules"]
