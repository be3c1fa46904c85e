"""An application for tests of what waits for its time: reminders, a schedule per policy, a clock that can be moved.

Its data folder is `AGENDA_DATA`.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from millrace import Application, Command, Service, State, Timer, VirtualClock
from millrace.engines.sqlite import SqliteEngine


class Remind(Command, key="name"):
    """Ring later."""

    name: str
    after_s: float


class Ring(Command, key="name"):
    """It is time."""

    name: str


class CloseDay(Command, key="day"):
    """The day is over."""

    day: str


class Rung(State, key="name"):
    """How often it has rung."""

    name: str
    times: int = 0


def close(moment: datetime) -> CloseDay:
    """Close the day that ends."""
    return CloseDay(day=f"{moment - timedelta(minutes=1):%Y-%m-%d}")


def bells(*, scheduled: bool = True) -> Service:
    """Return the service; without its schedule it is that of another release."""
    service = Service("bells")
    if scheduled:
        service.schedule("close-day", cron="0 0 * * *", command=close, catch_up="all")

    @service.handler
    def remind(command: Remind) -> Timer:
        """Set the timer."""
        return Timer("bell", Ring(name=command.name), after=timedelta(seconds=command.after_s))

    @service.handler(known=Rung.by("name"))
    def ring(command: Ring, known: Rung | None) -> Rung:
        """Count."""
        return Rung(name=command.name, times=(known.times if known else 0) + 1)

    @service.handler(known=Rung.by("day"))
    def close_day(command: CloseDay, known: Rung | None) -> Rung:
        """Count."""
        return Rung(name=command.day, times=(known.times if known else 0) + 1)

    return service


def application() -> Application:
    """Return the application; `AGENDA_CLOCK=system` gives it the machine's clock, `AGENDA_RELEASE=old` takes its schedule away."""
    clock = None if os.environ.get("AGENDA_CLOCK") == "system" else VirtualClock()
    service = bells(scheduled=os.environ.get("AGENDA_RELEASE") != "old")
    return Application("agenda", [service], engine=SqliteEngine(os.environ["AGENDA_DATA"]), clock=clock)
