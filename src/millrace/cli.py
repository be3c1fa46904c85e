"""The command line `millrace`: finds an application, asks `administration`, `doctor` and `rebuild_watch`, prints.

Exit status: 0 done and well · 1 looked and found something wrong, or gave up on the way · 2 asked for what does not
exist or cannot be opened. Errors are one line on stderr. Every command works beside running processes and without
any.

Neighbours: an application is found by entry point or module; the engine is the application's own choice, so none is
imported here. `command_line` has what commands share, `consumer_commands` the family `consumers`, `letter_commands`
`dead-letters`, `agenda_commands` `timers`, `schedules` and `clock`.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Any

from millrace import access, administration, doctor
from millrace.agenda_commands import add_agenda
from millrace.application import Application
from millrace.command_line import (
    ENDS,
    Usage,
    add_family,
    add_reading,
    complain,
    iso,
    paint,
    plain,
    print_json,
    print_table,
    sentence,
)
from millrace.consumer_commands import add_consumers
from millrace.errors import ConfigurationError, MillraceError, StoreUnavailable
from millrace.forwarder import RelayStanding, forward
from millrace.inspection import Inspection
from millrace.ledger import LedgerLine
from millrace.letter_commands import add_dead_letters
from millrace.rebuild_watch import RebuildProgress, rebuild_view
from millrace.recovery import RecoveryPlan, in_words, recover
from millrace.terminal import printable, retention, span

GROUP = "millrace.applications"


def parser() -> argparse.ArgumentParser:
    """Return the grammar of the command line."""
    top = Usage(
        prog="millrace",
        description="Look after an application built with Millrace: its log, its stores, its views.",
        epilog=f"The application finds its data by its own settings (environment). {ENDS}",
    )
    top.add_argument("--version", action="version", version=f"millrace {_version()}")
    top.add_argument(
        "--app",
        required=True,
        metavar="NAME",
        help=f"the application: an installed one (entry point group {GROUP}), or module:attribute",
    )
    top.add_argument("--traceback", action="store_true", help="show where an unexpected error comes from")
    commands = top.add_subparsers(metavar="COMMAND", required=True, title="commands")
    _topics(commands)
    add_consumers(commands)
    add_dead_letters(commands)
    _views(commands)
    add_agenda(commands)
    _relay(commands)
    stores = add_family(commands, "stores", "the services' databases")
    roles = add_reading(stores, "roles", print_roles, text="the SQL that makes a database role for each service, for an administrator")
    roles.add_argument("--role", default=access.ROLE, metavar="NAME", help=f"name of a role (default: {access.ROLE})")
    add_reading(commands, "ledger", ledger, text="check that nothing is lost: exit status 1 names each difference")
    add_reading(commands, "doctor", examine, text="check files, settings and figures: exit status 1 when something has to change")
    _recovering(commands)
    return top


def _version() -> str:
    try:
        return version("millrace")
    except PackageNotFoundError:
        return "(not installed as a package)"


def _topics(commands: Any) -> None:
    listing = add_reading(commands, "topics", topics, text="topics of the log: partitions, records, retention")
    more = listing.add_subparsers(metavar="COMMAND", title="commands")
    rights = add_reading(more, "acls", print_rights, text="the access rights that each service needs on the log, for an administrator")
    rights.add_argument("--principal", default=access.PRINCIPAL, metavar="NAME", help=f"name of a user (default: {access.PRINCIPAL})")


def _views(commands: Any) -> None:
    views = add_family(commands, "views", "read models and their builds")
    add_reading(views, "list", list_views, text="every build of every view")
    rebuilding = views.add_parser(
        "rebuild",
        help="build a view anew from the log while the old one serves",
        description="Build a view anew from the log while the old one serves; returns when the new one serves. "
        "Beside running processes the work is shared, without one it is done here. Progress goes to stderr.",
        epilog=ENDS,
    )
    rebuilding.add_argument("name", metavar="NAME", help="the view's name, or service/name where several services have one")
    rebuilding.set_defaults(command=rebuild)


def _recovering(commands: Any) -> None:
    text = "go on after store or log was restored from an older copy"
    recovering = commands.add_parser(
        "recover",
        help=text,
        description=f"{sentence(text)} Says what is lost and what repeats, and asks before it changes anything; no process may run.",
        epilog=f"With --dry-run the exit status is 1 where something has to change. {ENDS}",
    )
    recovering.add_argument("--dry-run", action="store_true", help="only say what would change; beside running processes, too")
    recovering.add_argument("--yes", action="store_true", help="do not ask")
    recovering.add_argument("--json", action="store_true", help="one JSON value; with --dry-run or --yes")
    recovering.set_defaults(command=recover_all)


def _relay(commands: Any) -> None:
    relaying = commands.add_parser(
        "relay",
        help="publish what services say, as a process of its own",
        description="Publish what services say until Ctrl-C or SIGTERM, so that their own processes need not. Safe beside other relays of "
        "the same services. A server that cannot be reached is waited for. Progress goes to stdout, trouble to stderr.",
        epilog=ENDS,
    )
    relaying.add_argument("--services", type=_names, metavar="NAMES", help="a comma list of services (default: all)")
    relaying.set_defaults(command=relay, serving=True)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    options = parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if callable(adapt := getattr(stream, "reconfigure", None)):
            adapt(errors="backslashreplace")
    if getattr(options, "serving", False):
        signal.signal(signal.SIGTERM, _leave)
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    elif not options.traceback:
        logging.getLogger("millrace").addHandler(logging.NullHandler())
    try:
        status = asyncio.run(options.command(find_application(options.app), options))
        sys.stdout.flush()
    except (ConfigurationError, StoreUnavailable) as error:
        return complain(error, 2)
    except MillraceError as error:
        return complain(error, 1)
    except KeyboardInterrupt:
        return complain("stopped", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read has seen enough
        return 0
    except Exception as error:
        if options.traceback:
            raise
        return complain(f"unexpected {type(error).__name__}: {error}; --traceback shows where", 1)
    return status


def _leave(number: int, frame: object) -> None:
    """Stop before the event loop takes signals: nothing is in hand yet."""
    sys.exit(0)


def find_application(name: str) -> Application:
    """Return the application of that name, made by its own factory.

    Args:
        name: an entry point of group `millrace.applications`, or `module:attribute` (attribute: `application` if left
        out). It names an
            Application, or a function without required parameters that returns one.

    Raises:
        ConfigurationError: there is none; or what it needs is not set.
    """
    found = _load(name)
    try:
        app = found() if callable(found) else found
    except MillraceError:
        raise
    except Exception as error:
        raise ConfigurationError(f"application {name!r} could not be made: {type(error).__name__}: {error}") from error
    if not isinstance(app, Application):
        raise ConfigurationError(f"{name!r} is {type(app).__name__}, no Application and no function that returns one")
    return app


def _load(name: str) -> Any:
    installed = {point.name: point for point in entry_points(group=GROUP)}
    if os.getcwd() not in sys.path:  # noqa: PTH109  # as `python -m` does
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        if name in installed:
            return installed[name].load()
        module, _, attribute = name.partition(":")
        return getattr(importlib.import_module(module), attribute or "application")
    except Exception as error:
        there = ", ".join(sorted(installed)) or "none"
        raise ConfigurationError(
            f"no application {name!r}: {type(error).__name__}: {error}; installed are: {there}; others are named module:attribute"
        ) from error


async def topics(app: Application, options: argparse.Namespace) -> int:
    """Print the topics."""
    async with Inspection(app) as inspection:
        rows = await administration.list_topics(inspection)
        now = inspection.now
    if options.json:
        return print_json([{**plain(row), "newest_at": iso(row.newest_at)} for row in rows])
    cells = [
        (
            row.topic,
            len(row.partitions),
            row.records,
            retention(row.retention_s),
            span((now - row.newest_at) / 1_000_000) if row.newest_at else None,
            None if row.declared else "not declared",
        )
        for row in rows
    ]
    return print_table(("topic", ">partitions", ">records", "kept", ">newest", "note"), cells, none="the log has no topics")


async def print_rights(app: Application, options: argparse.Namespace) -> int:
    """Print the rights that services need on the log; nothing is opened."""
    rows = access.rights_on_log(app, principal=options.principal)
    if options.json:
        return print_json([plain(row) for row in rows])
    for service in dict.fromkeys(row.service for row in rows):
        print("\n".join([f"# {service}", *(row.command for row in rows if row.service == service)]))
    return 0


async def print_roles(app: Application, options: argparse.Namespace) -> int:
    """Print the SQL that makes a role per service; nothing is opened."""
    rows = access.roles_for_stores(app, role=options.role)
    if options.json:
        return print_json([plain(row) for row in rows])
    print("\n".join(f"-- {row.service}: role {row.role}, schema {row.schema}\n{row.sql}" for row in rows))
    return 0


async def list_views(app: Application, options: argparse.Namespace) -> int:
    """Print views with their builds."""
    async with Inspection(app) as inspection:
        rows = await administration.list_views(inspection)
    if options.json:
        return print_json([plain(row) for row in rows])
    cells = [
        (
            row.view,
            row.service,
            row.build,
            _version_text(row.version, row.declared_version),
            row.state,
            row.documents,
            row.lag,
        )
        for row in rows
    ]
    columns = ("view", "service", ">build", "version", "state", ">documents", ">lag")
    return print_table(columns, cells, none="no service declares a view")


def _version_text(found: int, declared: int | None) -> str:
    if declared is None:
        return f"{found} (not declared)"
    return str(found) if found == declared else f"{found} (declared: {declared})"


async def rebuild(app: Application, options: argparse.Namespace) -> int:
    """Rebuild a view."""
    last = -1

    def report(progress: RebuildProgress) -> None:
        nonlocal last
        live = sys.stderr.isatty()
        if progress.percent == last and not (live and progress.done):
            return
        last = progress.percent
        line = f"{progress.view}: build {progress.build}, {progress.read:,} of {progress.of:,} records, {last} %"
        print(f"\r{line}" if live else line, end="\n" if progress.done or not live else "", file=sys.stderr, flush=True)

    done = await rebuild_view(app, options.name, report=report)
    print(f"{done.view}: build {done.build} serves, {done.read:,} records read, {done.dead:,} dead letters")
    if done.dead_before is None or done.dead <= done.dead_before:
        return 0
    new = done.dead - done.dead_before
    return complain(f"{done.view}: {new:,} dead letters more than in the old build; see `dead-letters list`", 1)


async def relay(app: Application, options: argparse.Namespace) -> int:
    """Publish until a signal asks to stop."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)

    def met(error: StoreUnavailable) -> None:
        complain(f"{error}; trying again", 0)

    def report(standings: Sequence[RelayStanding]) -> None:
        for standing in standings:
            trouble = f"; {printable(standing.error)}" if standing.error else ""
            print(f"{standing.service}: published up to {standing.published:,}, {standing.waiting:,} wait{trouble}", flush=True)

    names = options.services
    print(f"Relaying {', '.join(names) if names else 'all services'} of {app.name}; Ctrl-C or SIGTERM ends it", flush=True)
    await forward(app, names, stopped=stopped, met=met, report=report)
    print("Stopped.", flush=True)
    return 0


async def ledger(app: Application, options: argparse.Namespace) -> int:
    """Print the ledger; status 1 on a difference."""
    async with Inspection(app) as inspection:
        lines = await administration.balance(inspection)
    different = [line for line in lines if not line.balanced]
    if options.json:
        print_json([{**plain(line), "balanced": line.balanced} for line in lines])
    else:
        print_table(("equation", ">places", ">total", "state"), _groups(lines), none="nothing has happened yet")
        for line in different:
            print(f"difference: {printable(line.difference)}")
    return 1 if different else 0


def _groups(lines: Sequence[LedgerLine]) -> list[tuple[str, int, int, str]]:
    names = dict.fromkeys(line.what for line in lines)
    groups = {name: [line for line in lines if line.what == name] for name in names}
    return [
        (
            name,
            len(group),
            sum(line.found for line in group),
            "balanced" if all(line.balanced for line in group) else "difference",
        )
        for name, group in groups.items()
    ]


async def examine(app: Application, options: argparse.Namespace) -> int:
    """Print the doctor's findings; status 1 when one is wrong."""
    async with Inspection(app, tolerant=True) as inspection:
        findings = await doctor.examine(inspection)
    wrong = [finding for finding in findings if finding.state == doctor.WRONG]
    if options.json:
        print_json([plain(finding) for finding in findings])
        return 1 if wrong else 0
    print_table(
        ("where", "what", "state", "found"),
        [(f.where, f.what, f.state, f.found) for f in findings],
        none="nothing found",
    )
    for finding in findings:
        if finding.advice:
            print(f"{paint(finding.state)}: {printable(finding.where)}: {finding.what}: {printable(finding.advice)}")
    return 1 if wrong else 0


async def recover_all(app: Application, options: argparse.Namespace) -> int:
    """Recover, or say what that would change; status 1 when it is needed and was not done."""
    if options.json and not (options.dry_run or options.yes):
        raise ConfigurationError("recover --json cannot ask: add --dry-run to only look, or --yes to do it")
    agreed = False

    def agree(plan: RecoveryPlan) -> bool:
        nonlocal agreed
        if not options.json:
            print("\n".join(printable(line) for line in in_words(plan)))
        agreed = options.yes or (not options.dry_run and _confirmed("Change this? It cannot be taken back. [y/N] "))
        return agreed and not options.dry_run

    plan = await recover(app, agree=agree)
    done = agreed and not options.dry_run
    if options.json:
        print_json({"needed": plan.needed, "done": done, **plain(plan)})
    elif done or not plan.needed:
        print("recovered: start the application again" if done else "nothing to recover: stores and log fit together")
    elif not options.dry_run:
        print("nothing was changed")
    return int(plan.needed and not done)


def _confirmed(question: str) -> bool:
    try:
        return input(question).strip().lower() in {"y", "yes"}
    except EOFError:
        return False


if __name__ == "__main__":
    sys.exit(main())
