"""The commands `millrace sagas`: which there are, where they stand, and the ways out of one that is stuck.

Neighbours: `cli` adds the family; `sagas` does the work.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from millrace.application import Application
from millrace.command_line import add_family, add_reading, plain, positive, print_json, print_table, user
from millrace.inspection import Inspection
from millrace.saga_instance import STATUSES
from millrace.saga_report import SagaReport, SagaSummary
from millrace.sagas import Sagas, choose_sagas, list_sagas, looking_after, show_saga

TOGETHER = 500
"""How many are read at once where all are listed."""


def add_sagas(commands: Any) -> None:
    """Add the family to the grammar."""
    sagas = add_family(commands, "sagas", "long processes: where they stand, and the ways out of one that is stuck")
    listing = add_reading(sagas, "list", list_all, text="which there are, by status")
    listing.add_argument("--status", choices=STATUSES, help="only these")
    listing.add_argument("--saga", metavar="NAME", help="of one saga only")
    listing.add_argument("--limit", type=positive, default=0, metavar="N", help="at most so many (default: all)")
    _naming(add_reading(sagas, "show", show, text="steps done, under way and to come, attempts, deadlines, timeline"))
    _naming(add_reading(sagas, "retry", retry, text="send what is stuck again, attempts beginning anew"))
    skipping = _naming(add_reading(sagas, "skip", skip, text="let the stuck step count as done, or as undone, and go on"))
    skipping.add_argument("--step", metavar="NAME", help="which, where several are stuck")
    taking = _naming(add_reading(sagas, "take-over", take_over, text="end it for the machine; it says so, then nothing is sent any more"))
    for deciding in (skipping, taking):
        deciding.add_argument("--reason", required=True, metavar="TEXT", help="why; kept in the timeline with your name")


def _naming(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument("id", metavar="ID", help="of the instance, as `sagas list` shows it")
    command.add_argument("--saga", metavar="NAME", help="its saga, where several have that id")
    return command


async def list_all(app: Application, options: argparse.Namespace) -> int:
    """Print sagas."""
    rows: list[SagaSummary] = []
    async with Inspection(app) as inspection:
        found = choose_sagas([(service, store.reader) for service, store in inspection.services()], options.saga)
        cursor, more = None, True
        while more and (not options.limit or len(rows) < options.limit):
            limit = min(TOGETHER, options.limit - len(rows)) if options.limit else TOGETHER
            page = await list_sagas(found, status=options.status, limit=limit, cursor=cursor)
            rows += page.items
            cursor, more = page.next, page.next is not None
    if options.json:
        return print_json([plain(row) for row in rows])
    cells = [
        (row.saga, row.id, row.status, ", ".join(row.stuck or row.current), _iso(row.deadline), _iso(row.started_at), _iso(row.changed_at))
        for row in rows
    ]
    return print_table(("saga", "id", "status", "step", "deadline", "started", "changed"), cells, none="there are no such sagas")


async def show(app: Application, options: argparse.Namespace) -> int:
    """Print everything about an instance."""
    async with Inspection(app) as inspection:
        found = choose_sagas([(service, store.reader) for service, store in inspection.services()], options.saga)
        report = await show_saga(found, options.id)
    return _tell(report, options)


async def retry(app: Application, options: argparse.Namespace) -> int:
    """Send what is stuck again."""
    return await _decide(app, options, lambda sagas: sagas.retry(options.id, saga=options.saga, by=user()))


async def skip(app: Application, options: argparse.Namespace) -> int:
    """Let a stuck step count as done or undone."""
    return await _decide(
        app, options, lambda sagas: sagas.skip(options.id, reason=options.reason, step=options.step, saga=options.saga, by=user())
    )


async def take_over(app: Application, options: argparse.Namespace) -> int:
    """End an instance for the machine."""
    return await _decide(app, options, lambda sagas: sagas.take_over(options.id, reason=options.reason, saga=options.saga, by=user()))


async def _decide(app: Application, options: argparse.Namespace, decide: Callable[[Sagas], Awaitable[SagaReport]]) -> int:
    async with looking_after(app, options.id, saga=options.saga) as sagas:
        report = await decide(sagas)
    return _tell(report, options)


def _tell(report: SagaReport, options: argparse.Namespace) -> int:
    if options.json:
        return print_json(plain(report))
    summary = report.summary
    print(f"{summary.saga} {summary.id}: {summary.status}, version {summary.version} of the saga, in {summary.service}")
    if report.back is not None:
        back = report.back
        print("undone because: " + ", ".join(filter(None, (back.reason, back.step, back.message, back.detail))))
    cells = [
        (step.name, step.place, step.state + (", stuck" if step.stuck else ""), step.attempts or None, _iso(step.deadline))
        for step in report.steps
    ]
    print()
    print_table(("step", "is", "state", ">attempts", "deadline"), cells, none="it has no steps")
    print()
    lines = [(_iso(entry.at), entry.what, entry.step, entry.name, entry.id) for entry in report.timeline]
    return print_table(("at", "what", "step", "by", "id"), lines, none="nothing has happened yet")


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment is not None else None


__all__ = ["add_sagas"]
