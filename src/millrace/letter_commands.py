"""The commands `millrace dead-letters`: what could not be handled, and what operators do about it.

A long redrive says how far it is: on a terminal in one line of stderr, with --json as one line of JSON a step on stdout. Ctrl-C ends it
behind the step in hand; the name that it says takes it up again.

Neighbours: `cli` adds the family; `dead_letters` does the work.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from millrace import letters
from millrace.application import Application
from millrace.command_line import add_family, add_reading, complain, json_text, number, plain, positive, print_json, print_table, user
from millrace.dead_letters import DeadLetters, LetterOutcome, operating_letters
from millrace.errors import ConfigurationError
from millrace.inspection import Inspection
from millrace.letter import HeldId
from millrace.letters import HeldMessage, LetterDetail, LetterQuery
from millrace.redrive import RedriveProgress
from millrace.reset import parse_moment
from millrace.retry import DEAD
from millrace.terminal import moment, printable

FILTERS = {
    "service": "the service that holds it",
    "processor": "the processor; relay: what the log could not take",
    "topic": "where it was read",
    "key": "its key",
    "reason": "the reason as the list shows it",
    "fingerprint": "what it failed of, as --group shows it",
    "since": "failed last at this moment or later, RFC 3339",
}


def add_dead_letters(commands: Any) -> None:
    """Add the family to the grammar."""
    family = add_family(commands, "dead-letters", "messages that could not be handled: look, redrive, edit, discard")
    listing = add_reading(family, "list", list_letters, text="dead letters of all services, oldest first")
    _filters(listing)
    which = listing.add_mutually_exclusive_group()
    which.add_argument("--state", choices=("dead", "all"), default="dead", help="all: what waits, too (default: dead)")
    which.add_argument("--closed", action="store_true", help="those that were discarded, edited or said again, in that order")
    which.add_argument("--group", action="store_true", help="what they failed of, with how often, when, and one of them")
    listing.add_argument("--limit", type=positive, default=100, metavar="N", help="at most so many (default: 100)")
    showing = add_reading(family, "show", show_letter, text="one letter: reason, attempts, causes, content with personal fields masked")
    showing.add_argument("id", help="as `dead-letters list` shows it")
    showing.add_argument("--raw", action="store_true", help="the original bytes, unmasked (with --json: as base64)")
    _add_redrive(family)
    editing = add_reading(family, "edit", edit, text="put a changed message into the place of a letter; the original is kept as closed")
    editing.add_argument("id", help="as `dead-letters list` shows it")
    editing.add_argument("--set", action="append", metavar="FIELD=VALUE", help="change a field; the value is JSON, or else a text")
    editing.add_argument("--data", metavar="JSON", help="all data as a JSON object; @FILE reads a file, - reads stdin")
    editing.add_argument("--type", metavar="NAME", help="which message it is to be, where the letter cannot be read")
    editing.add_argument("--note", default="", help="kept with the original")
    discarding = add_reading(
        family, "discard", discard, text="give letters up; they are kept as closed, and what waits behind them goes on"
    )
    _one_or_filter(discarding)
    discarding.add_argument("--note", required=True, help="why; kept with the letter")
    exporting = family.add_parser("export", help="dead letters with their original bytes, unmasked", description="One JSON object a line.")
    exporting.set_defaults(command=export)
    _filters(exporting)
    exporting.add_argument("--to", type=Path, metavar="FILE", help="a file that is not there yet (default: stdout)")


def _add_redrive(family: Any) -> None:
    text = "make letters due again, each with all its attempts; handled by running processes, or at the next start"
    redriving = add_reading(family, "redrive", redrive, text=text)
    _one_or_filter(redriving)
    redriving.add_argument("--resume", metavar="RUN", help="go on with a redrive that was interrupted")
    redriving.add_argument("--rate", type=_rate, metavar="N", help="at most so many a second")
    redriving.add_argument("--wait", type=_rate, metavar="S", help="then wait, at most so many seconds, and say what became of them")
    add_reading(family, "runs", list_runs, text="redrives that were interrupted")


def _one_or_filter(command: argparse.ArgumentParser) -> None:
    command.add_argument("id", nargs="?", help="one letter, as `dead-letters list` shows it; else all that the options mean")
    command.add_argument("--all", action="store_true", help="all there are")
    _filters(command)


def _filters(command: argparse.ArgumentParser) -> None:
    for name, text in FILTERS.items():
        command.add_argument(f"--{name}", metavar="TIME" if name == "since" else name.upper(), help=text)


def _rate(text: str) -> float:
    rate = number(text)
    if not 0 < rate <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1000000")
    return rate


def _query(options: argparse.Namespace) -> LetterQuery:
    given = {name: getattr(options, name) for name in FILTERS}
    if given["since"] is not None:
        given["since"] = parse_moment(given["since"], now=datetime.now(UTC))
    return LetterQuery(**given)


def _wanted(options: argparse.Namespace) -> LetterQuery | str:
    """Return the id, or what the options mean.

    Raises:
        ConfigurationError: neither, or both.
    """
    query = _query(options)
    ways = [options.id is not None, options.all, query != LetterQuery()]
    if sum(ways) != 1 and not (options.all and ways == [False, True, True]):
        raise ConfigurationError("name one letter by its id, or say which by options, or --all")
    return options.id if options.id is not None else query


async def list_letters(app: Application, options: argparse.Namespace) -> int:
    """Print dead letters, groups of them, or closed ones."""
    query = _query(options)
    async with Inspection(app) as inspection:
        if options.group:
            return _print_groups(await letters.group_letters(inspection, query), options)
        if options.closed:
            return _print_closed(await letters.list_closed(inspection, query, limit=options.limit), options)
        if options.state == DEAD:
            rows = list((await letters.list_letters(inspection, query, limit=options.limit)).items)
            there = await letters.count_letters(inspection, query)
        else:
            rows = list(await letters.list_held(inspection, query, limit=options.limit))
            there = await letters.count_held(inspection, state=None) if query == LetterQuery() else len(rows)
    if options.json:
        return print_json([letters.document_of(row) for row in rows])
    cells = [(row.id, row.state, row.reason, row.fingerprint, row.attempts, moment(row.first_at), row.behind, row.key) for row in rows]
    columns = ("id", "state", "reason", "fingerprint", ">attempts", "first", ">behind", "key")
    none = "there are no dead letters" if options.state == DEAD else "nothing waits and nothing is dead"
    status = print_table(columns, cells, none=none)
    if there > len(rows):
        print(f"{len(rows):,} of {there:,}; --limit {there} shows all")
    return status


def _print_groups(groups: list[letters.LetterCause], options: argparse.Namespace) -> int:
    if options.json:
        return print_json([letters.document_of(row) for row in groups])
    cells = [
        (row.fingerprint, row.service, row.processor, row.reason, row.count, moment(row.first_at), moment(row.last_at), row.example)
        for row in groups
    ]
    columns = ("fingerprint", "service", "processor", "reason", ">count", "first", "last", "example")
    return print_table(columns, cells, none="there are no dead letters")


def _print_closed(page: letters.ClosedPage, options: argparse.Namespace) -> int:
    if options.json:
        return print_json([letters.document_of(row) for row in page.items])
    cells = [(row.id, row.how, moment(row.at), row.who, row.reason, row.successor or None, row.note) for row in page.items]
    status = print_table(("id", "closed", "at", "by", "reason", "successor", "note"), cells, none="no dead letter was closed")
    if page.next is not None:
        print(f"the first {len(page.items):,}; --limit shows more")
    return status


async def show_letter(app: Application, options: argparse.Namespace) -> int:
    """Print one letter."""
    async with Inspection(app) as inspection:
        detail = await letters.show_letter(inspection, options.id)
    if options.json:
        return print_json(letters.document_of_detail(detail, raw=options.raw))
    if options.raw:
        sys.stdout.flush()
        sys.stdout.buffer.write(detail.value)
        sys.stdout.buffer.flush()
        return 0
    lines = [*_lines_of(app, detail), *((f"  {name}", value) for name, value in detail.content.attributes.items())]
    width = max(len(name) for name, _ in lines)
    print("\n".join(f"{name.ljust(width)}  {printable('-' if value in (None, '') else str(value))}" for name, value in lines))
    for title, text in _texts_of(detail):
        if text:
            print(f"\n{title}\n{_indented(text)}")
    return 0


def _lines_of(app: Application, detail: LetterDetail) -> list[tuple[str, object]]:
    letter = detail.letter
    if isinstance(letter, HeldMessage):
        state = [("state", letter.state), ("behind", f"{letter.behind:,} wait behind it")]
    else:
        closed = f"{letter.how} at {moment(letter.at)} by {letter.who or '-'}"
        state = [("closed", closed), ("note", letter.note), ("successor", letter.successor)]
    return [
        ("id", letter.id),
        *state,
        ("reason", letter.reason),
        ("fingerprint", letter.fingerprint),
        ("attempts", letter.attempts),
        ("first", moment(letter.first_at)),
        ("last", moment(letter.last_at)),
        ("processor", app.group_of(letter.service, letter.processor)),
        ("handler", detail.handler),
        ("key", letter.key),
        ("bytes", f"{len(detail.value):,} (--raw writes them as they are)"),
    ]


def _texts_of(detail: LetterDetail) -> list[tuple[str, str]]:
    content = detail.content
    deaths = [f"{moment(each.at)}  {each.reason} {each.fingerprint}  after {each.attempts} attempts" for each in detail.history]
    causes = [
        f"{cause.id}  {cause.type} at {cause.time} by {cause.source}  ({cause.found_in})" if cause.type else f"{cause.id}  (not known here)"
        for cause in detail.causes
    ]
    before = [f"{each.how} at {moment(each.at)} by {each.who or '-'}: {each.note or '-'}" for each in detail.closed]
    return [
        ("data", json_text(content.data) if content.data is not None else ""),
        ("note", content.note or ""),
        ("it died before", "\n".join(deaths)),
        ("in its place before", "\n".join(before)),
        ("because of", "\n".join(causes)),
        ("what happened", detail.detail.rstrip()),
    ]


async def redrive(app: Application, options: argparse.Namespace) -> int:
    """Redrive letters and say how far that is."""
    run: str | None = options.resume
    wanted = _wanted(options) if run is None else LetterQuery()
    last: list[RedriveProgress] = []
    report = _reporter(options)

    def told(progress: RedriveProgress) -> None:
        last[:] = [progress]
        report(progress)

    async with operating_letters(app, _services(wanted)) as operator:
        try:
            if run is not None:
                done = await operator.resume(run, rate=options.rate, report=told)
            else:
                done = await operator.redrive(wanted, rate=options.rate, who=user(), report=told)
        except asyncio.CancelledError:
            for far in last:
                left = f"{far.redriven:,} of {far.of:,} letters are redriven; `dead-letters redrive --resume {far.run}` goes on"
                complain(f"interrupted: {left}", 130)
            raise
        outcome = await operator.outcome(timeout=options.wait) if options.wait is not None else None
    return _tell(done, outcome, options)


def _reporter(options: argparse.Namespace) -> Callable[[RedriveProgress], None]:
    def report(progress: RedriveProgress) -> None:
        if options.json:
            print(json.dumps(plain(progress)), flush=True)
            return
        live = sys.stderr.isatty()
        line = f"redrive {progress.run}: {progress.redriven:,} of {progress.of:,} letters"
        print(f"\r{line}" if live else line, end="\n" if progress.finished or not live else "", file=sys.stderr, flush=True)

    return report


def _services(wanted: LetterQuery | str) -> list[str] | None:
    if isinstance(wanted, str):
        return [HeldId.parse(wanted).service]
    return [wanted.service] if wanted.service is not None else None


def _tell(done: RedriveProgress, outcome: LetterOutcome | None, options: argparse.Namespace) -> int:
    bad = bool(done.refused or (outcome is not None and (outcome.dead or outcome.waiting)))
    if options.json:
        print(json.dumps({**plain(done), "outcome": plain(outcome) if outcome is not None else None}), flush=True)
        return int(bad)
    print(f"{done.redriven:,} of {done.of:,} letters are due again; running processes handle them, or the next start")
    if done.refused:
        print(f"{done.refused:,} are left: nothing here handles them, or the log cannot take them")
    if outcome is not None:
        print(f"{outcome.handled:,} were handled, {outcome.dead:,} are dead again, {outcome.waiting:,} still wait")
    return int(bad)


async def list_runs(app: Application, options: argparse.Namespace) -> int:
    """Print redrives that are not finished."""
    runs = await DeadLetters(app).runs()
    if options.json:
        return print_json([plain(run) for run in runs])
    return print_table(("run", ">redriven", ">of"), [(run.run, run.redriven, run.of) for run in runs], none="no redrive was interrupted")


async def edit(app: Application, options: argparse.Namespace) -> int:
    """Put another message into the place of a letter."""
    changes = dict(_field(text) for text in options.set) if options.set else None
    data = _read_data(options.data) if options.data is not None else None
    async with operating_letters(app, _services(options.id)) as operator:
        done = await operator.edit(options.id, data=data, changes=changes, kind=options.type, who=user(), note=options.note)
    if options.json:
        return print_json(plain(done))
    return print_table(("id", "done", "successor"), [(done.id, done.done, done.successor)], none="")


def _field(text: str) -> tuple[str, Any]:
    name, is_given, value = text.partition("=")
    if not name or not is_given:
        raise ConfigurationError(f"--set {text!r}: write FIELD=VALUE")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


def _read_data(given: str) -> Any:
    try:
        text = sys.stdin.read() if given == "-" else Path(given[1:]).read_text(encoding="utf-8") if given.startswith("@") else given
        return json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"--data: {error}") from error


async def discard(app: Application, options: argparse.Namespace) -> int:
    """Give letters up."""
    wanted = _wanted(options)
    async with operating_letters(app, _services(wanted)) as operator:
        count = await operator.discard(wanted, note=options.note, who=user())
    if options.json:
        return print_json({"discarded": count})
    print(f"{count:,} letters are discarded; `dead-letters list --closed` shows them")
    return 0


async def export(app: Application, options: argparse.Namespace) -> int:
    """Write letters out."""
    query, count = _query(options), 0
    try:
        target = options.to.open("xb") if options.to is not None else sys.stdout.buffer
    except OSError as error:
        raise ConfigurationError(f"--to {options.to}: {error.strerror}") from error
    try:
        async for line in DeadLetters(app).export(query):
            target.write(line)
            count += 1
        target.flush()
    finally:
        if options.to is not None:
            target.close()
    return complain(f"{count:,} letters exported", 0)


def _indented(text: str) -> str:
    return "\n".join(f"  {printable(line)}" for line in text.splitlines())


__all__ = ["add_dead_letters"]
