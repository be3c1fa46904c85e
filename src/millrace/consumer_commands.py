"""The commands `millrace consumers`: who reads what, and what operators do about it.

One more verb is one more line in `add_consumers` and a function that asks `Consumers`.

Exit status 1 where an instance did not answer in time or could not obey; what was wanted holds all the same.

Neighbours: `cli` adds the family; `consumers` does the work.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import Any

from millrace import administration
from millrace.administration import ConsumerRow
from millrace.application import Application
from millrace.breaker import BREAKER_OPEN
from millrace.command_line import add_family, add_reading, complain, number, plain, print_json, print_table, whole_number
from millrace.consumers import ANSWER_S, BreakerClosed, ConsumerChange, ConsumerMove, Consumers, ConsumerWorkers, operating
from millrace.control import InstanceAnswers
from millrace.inspection import Inspection
from millrace.reset import EARLIEST, LATEST
from millrace.terminal import span

WISHES = {
    "pause": (Consumers.pause, "take nothing new, keep the partitions; holds over restarts"),
    "resume": (Consumers.resume, "go on after pause"),
    "stop": (Consumers.stop, "take nothing new and give the partitions up; holds over restarts"),
    "start": (Consumers.start, "go on after stop"),
    "restart": (Consumers.restart, "stop and start; one that halted begins again"),
}


def add_consumers(commands: Any) -> None:
    """Add the family to the grammar."""
    consumers = add_family(commands, "consumers", "who reads what, how far, how far behind; pause, stop and move them")
    add_reading(consumers, "list", list_consumers, text="position, lag and counts per partition; passed: duplicate, ignored, skipped")
    for verb, (wish, text) in WISHES.items():
        _changing(consumers, verb, _wishing(wish), text=text)
    _changing(consumers, "close-breaker", close_breaker, text="try everything again at once, though what it calls was down")
    working = _changing(consumers, "workers", workers, text="call so many activities at once in each instance; 0: as declared")
    working.add_argument("count", type=whole_number, metavar="N", help="how many; holds over restarts")
    resetting = _changing(consumers, "reset", reset, text="go on at the first record, or behind the last")
    resetting.add_argument("--to", required=True, choices=(EARLIEST, LATEST), help="where to go on")
    rewinding = _changing(consumers, "rewind", rewind, text="go back to a moment")
    rewinding.add_argument("--to", required=True, metavar="TIME", help="RFC 3339: 2026-01-31T12:00:00Z; by the time of appending")
    for moving in (resetting, rewinding):
        moving.add_argument("--dry-run", action="store_true", help="print where it would go on; change nothing")


def _changing(commands: Any, name: str, command: Any, *, text: str) -> argparse.ArgumentParser:
    changing = add_reading(commands, name, command, text=text)
    changing.add_argument("name", metavar="NAME", help="the group as `consumers list` shows it; a view without its build")
    changing.add_argument(
        "--timeout", type=_seconds, default=ANSWER_S, metavar="S", help=f"wait so long for running instances (default: {ANSWER_S:g})"
    )
    return changing


def _seconds(text: str) -> float:
    seconds = number(text)
    if not 0 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 86400")
    return seconds


def _wishing(wish: Callable[..., Awaitable[ConsumerChange]]) -> Any:
    async def command(app: Application, options: argparse.Namespace) -> int:
        async with operating(app, options.name) as consumers:
            told = await wish(consumers, options.name, timeout=options.timeout)
        return _tell(told, options, {"state": told.state})

    return command


async def list_consumers(app: Application, options: argparse.Namespace) -> int:
    """Print states, positions and lags."""
    async with Inspection(app) as inspection:
        rows = await administration.list_consumers(inspection)
    if options.json:
        return print_json([plain(row) for row in rows])
    cells = [
        (
            row.group,
            row.state,
            row.topic,
            row.partition,
            row.position,
            row.end,
            row.lag,
            span(row.lag_s) if row.lag else None,
            row.handled,
            row.duplicate + row.ignored + row.skipped,
            row.held,
            row.held_keys,
            row.owner,
        )
        for row in rows
    ]
    columns = ("group", "state", "topic", ">partition", ">position", ">end", ">lag", ">behind", ">handled", ">passed", ">held", ">keys")
    status = print_table((*columns, "owner"), cells, none="nobody reads anything")
    for group, line in {row.group: _why(row) for row in rows if row.reason}.items():
        print(f"{group}: {line}")
    return status


def _why(row: ConsumerRow) -> str:
    """Say why a consumer does nothing, and until when."""
    since = f"{row.since:%Y-%m-%d %H:%M:%S} UTC" if row.since is not None else "a time that is not known"
    if row.state != BREAKER_OPEN:
        return f"has stopped itself at {since}: {row.reason}; `consumers start` when that is mended"
    probe = f"{row.probe_at:%H:%M:%S}" if row.probe_at is not None else "any moment"
    return f"breaker {row.breaker} open since {since}: {row.reason}; next probe at {probe}"


async def workers(app: Application, options: argparse.Namespace) -> int:
    """Change how many activities are called at once."""
    async with operating(app, options.name) as consumers:
        told = await consumers.workers(options.name, options.count, timeout=options.timeout)
    before, now = (str(count) if count else "as declared" for count in (told.before, told.workers))
    return _tell(told, options, {"before": before, "workers": now})


async def close_breaker(app: Application, options: argparse.Namespace) -> int:
    """Close a breaker."""
    async with operating(app, options.name) as consumers:
        told = await consumers.close_breaker(options.name, timeout=options.timeout)
    return _tell(told, options, {"breaker": told.breaker, "was": "closed" if told.reason is None else f"open: {told.reason}"})


def _tell(told: ConsumerChange | ConsumerWorkers | BreakerClosed, options: argparse.Namespace, figures: dict[str, str]) -> int:
    """Print what was changed, and return the status."""
    if options.json:
        print_json(plain(told))
    else:
        print_table(("consumer", *figures, "instances"), [(told.consumer, *figures.values(), _answered(told.instances))], none="")
    return _judge(told.consumer, told.instances)


async def reset(app: Application, options: argparse.Namespace) -> int:
    """Move positions to an end of the log."""
    async with operating(app, options.name) as consumers:
        moved = await consumers.reset(options.name, to=options.to, dry_run=options.dry_run, timeout=options.timeout)
    return _show(moved, options)


async def rewind(app: Application, options: argparse.Namespace) -> int:
    """Move positions back to a moment."""
    async with operating(app, options.name) as consumers:
        moved = await consumers.rewind(options.name, to=options.to, dry_run=options.dry_run, timeout=options.timeout)
    return _show(moved, options)


def _show(moved: ConsumerMove, options: argparse.Namespace) -> int:
    if options.json:
        print_json(plain(moved))
        return _judge(moved.consumer, moved.instances)
    cells = [
        (shift.topic, shift.partition, shift.before, shift.after, shift.end, _by(shift.before, shift.after)) for shift in moved.partitions
    ]
    print_table(("topic", ">partition", ">before", ">after", ">end", "then"), cells, none="it reads no topic")
    if moved.dry_run:
        print(f"{moved.consumer}: nothing has changed; without --dry-run it goes on there")
    else:
        print(f"{moved.consumer}: {_answered(moved.instances)}")
    return _judge(moved.consumer, moved.instances)


def _by(before: int | None, after: int) -> str:
    if before is None or after == before:
        return "stays" if before is not None else "begins there"
    return f"reads {before - after:,} again" if after < before else f"skips {after - before:,}"


def _answered(heard: InstanceAnswers) -> str:
    there = len(heard.answered) + len(heard.silent) + len(heard.failed)
    return f"{len(heard.answered)} of {there} instances answered" if there else "none runs; it holds from the next start on"


def _judge(consumer: str, heard: InstanceAnswers) -> int:
    """Say who did not answer, and return the status."""
    if heard.complete:
        return 0
    reasons = [*(f"{name} did not answer in time" for name in heard.silent), *(f"{name}: {why}" for name, why in heard.failed.items())]
    return complain(f"{consumer}: {'; '.join(reasons)}; they find it in the store as soon as they look", 1)


__all__ = ["add_consumers"]
