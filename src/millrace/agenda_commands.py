"""The commands `millrace timers`, `schedules` and `clock`: what waits for its time, and what operators do about it.

Neighbours: `cli` adds the families; `agenda` does the work.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from millrace.agenda import LIMIT_MAX, Agenda, TimerId, Wanted, list_timers, opened, schedules_of
from millrace.application import Application
from millrace.clock import VirtualClock, to_micros, to_text
from millrace.command_line import add_family, add_reading, complain, number, plain, print_json, print_table, whole_number
from millrace.errors import ClockRefused, UnknownMessage
from millrace.inspection import Inspection
from millrace.terminal import moment, span

STEP_MAX_S = 3_200_000_000
CHANGES = {
    "pause": (Agenda.pause, "let its moments pass until it is resumed; holds over restarts"),
    "resume": (Agenda.resume, "fire it again, from its next moment on"),
    "remove": (Agenda.remove, "remove what is left of one that is not declared any more"),
}


def add_agenda(commands: Any) -> None:
    """Add the families to the grammar."""
    timers = add_family(commands, "timers", "messages that wait for their time")
    listing = add_reading(timers, "list", show_timers, text="the next timers to be due")
    listing.add_argument("--service", metavar="NAME", help="of this service only")
    listing.add_argument("--processor", metavar="NAME", help="of this processor only, as in the last part of its group")
    listing.add_argument("--key", help="of this key only")
    listing.add_argument("--after", metavar="ID", type=_timer, help="those behind this one: the last of the page before")
    listing.add_argument("--limit", metavar="N", type=_limit, default=100, help="at most so many (default: 100)")
    cancelling = add_reading(timers, "cancel", cancel_timer, text="forget a timer")
    cancelling.add_argument("id", metavar="ID", help="as `timers list` shows it")
    schedules = add_family(commands, "schedules", "commands that recur")
    add_reading(schedules, "list", show_schedules, text="when each is due next, was fired last, and how often")
    for verb, (change, text) in CHANGES.items():
        changing = add_reading(schedules, verb, _changing(change, verb), text=text)
        changing.add_argument("name", metavar="NAME", help="service/schedule, as `schedules list` shows them")
    clock = add_family(commands, "clock", "what time it is in the application")
    add_reading(clock, "show", show_clock, text="the time, and whether it can be moved")
    advancing = add_reading(clock, "advance", advance_clock, text="move a virtual clock forward, in every process and over restarts")
    advancing.add_argument("seconds", metavar="SECONDS", type=_seconds, help="by how much")
    moving = add_reading(clock, "to", move_clock, text="move a virtual clock forward to a moment")
    moving.add_argument("moment", metavar="TIME", type=_moment, help="RFC 3339: 2026-01-31T12:00:00Z")


def _timer(text: str) -> TimerId:
    try:
        return TimerId.parse(text)
    except UnknownMessage as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _limit(text: str) -> int:
    limit = whole_number(text)
    if not 1 <= limit <= LIMIT_MAX:
        raise argparse.ArgumentTypeError(f"{limit} is not from 1 to {LIMIT_MAX}")
    return limit


def _seconds(text: str) -> timedelta:
    seconds = number(text)
    if not abs(seconds) <= STEP_MAX_S:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to {STEP_MAX_S:,}")
    return timedelta(seconds=seconds)


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no moment; write it like 2026-01-31T12:00:00Z") from error
    if found.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text} has no offset from UTC")
    return found.astimezone(UTC)


async def show_timers(app: Application, options: argparse.Namespace) -> int:
    """Print what waits."""
    wanted = Wanted(options.service, options.processor, options.key, options.after)
    async with Inspection(app) as inspection:
        rows = await list_timers(app, list(inspection.services()), wanted, limit=options.limit)
        counts = [await store.reader.timers.count() for _, store in inspection.services()]
    if options.json:
        return print_json([plain(row) for row in rows])
    now = app.clock.now()
    cells = [
        (
            _shown(row.due),
            _until(row.due - now),
            f"{row.service}.{row.processor}",
            row.key,
            row.kind if row.kind == "forget" else row.name,
            row.type,
            row.id,
        )
        for row in rows
    ]
    print_table(("due", ">in", "group", "key", "timer", "fires", "id"), cells, none="no timer waits")
    if len(rows) < sum(counts):
        print(f"{len(rows):,} of {sum(counts):,} that wait")
    if forgets := sum(row.kind == "forget" for row in rows):
        print(f"{forgets:,} of these only forget{'s' if forgets == 1 else ''} a saga that has ended")
    return 0


def _until(left: timedelta) -> str:
    return span(left.total_seconds()) if left >= timedelta() else f"{span(-left.total_seconds())} late"


def _shown(at: datetime | None) -> str:
    return moment(None if at is None else to_micros(at))


async def cancel_timer(app: Application, options: argparse.Namespace) -> int:
    """Cancel one."""
    timer = TimerId.parse(options.id)
    async with opened(app, timer.service) as agenda:
        await agenda.cancel(options.id)
    if options.json:
        return print_json({"id": options.id, "cancelled": True})
    print(f"cancelled: {timer.name} of {timer.key}, which was due {moment(timer.due)}")
    return 0


async def show_schedules(app: Application, options: argparse.Namespace) -> int:
    """Print what recurs."""
    async with Inspection(app) as inspection:
        rows = await schedules_of(list(inspection.services()))
    if options.json:
        return print_json([plain(row) for row in rows])
    cells = [
        (f"{row.service}/{row.schedule}", row.when, row.catch_up, row.command, row.state, _shown(row.next), _shown(row.last), row.fired)
        for row in rows
    ]
    columns = ("schedule", "when", "catch up", "command", "state", "next", "last", ">fired")
    return print_table(columns, cells, none="no service declares a schedule")


def _changing(change: Callable[[Agenda, str, str], Awaitable[None]], verb: str) -> Any:
    async def command(app: Application, options: argparse.Namespace) -> int:
        service, _, schedule = options.name.partition("/")
        async with opened(app, service) as agenda:
            await change(agenda, service, schedule)
        done = {"pause": "paused", "resume": "resumed", "remove": "removed"}[verb]
        if options.json:
            return print_json({"schedule": schedule, "service": service, "done": done})
        print(f"{options.name}: {done}")
        return 0

    return command


async def show_clock(app: Application, options: argparse.Namespace) -> int:
    """Print the time."""
    async with Inspection(app):
        return _tell(app, options)


async def advance_clock(app: Application, options: argparse.Namespace) -> int:
    """Move the clock by a step."""
    return await _move(app, options, by=options.seconds)


async def move_clock(app: Application, options: argparse.Namespace) -> int:
    """Move the clock to a moment."""
    return await _move(app, options, to=options.moment)


async def _move(app: Application, options: argparse.Namespace, **wanted: Any) -> int:
    async with Inspection(app):
        pass  # who only looks makes no installation where there is none
    await app.operate()
    try:
        await app.move_clock(**wanted)
        return _tell(app, options)
    except ClockRefused as error:
        return complain(error, 2)
    finally:
        await app.stop()


def _tell(app: Application, options: argparse.Namespace) -> int:
    clock = app.clock
    virtual, ahead = isinstance(clock, VirtualClock), clock.offset.total_seconds() if isinstance(clock, VirtualClock) else 0.0
    kind = "virtual" if virtual else "system"
    if options.json:
        return print_json({"clock": kind, "now": to_text(clock.now()), "ahead_seconds": ahead})
    return print_table(("clock", "now", "ahead"), [(kind, to_text(clock.now()), span(ahead) if ahead else None)], none="")


__all__ = ["add_agenda"]
