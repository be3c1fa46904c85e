"""The command line: `parcomolo serve | simulate | migrate | reset`.

Exit status: 0 done (after SIGTERM and Ctrl-C too), 1 the command could not be done, 2 a setting is wrong; then one
line names the setting, its value and what is allowed.

Neighbours: `configuration` checks settings; `bootstrap`, `simulate`, `migrating` and `resetting` do the work and are only imported
when they are needed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from millrace import ConfigurationError, MillraceError, StoreUnavailable
from millrace.operators import set_up_log
from parcomolo.configuration import (
    ADMIN_TOKEN,
    DATA,
    EMBEDDED,
    HOST,
    LOG_FORMAT,
    PLACES,
    PORT,
    SETTINGS,
    TARGET,
    Setting,
    configuration,
    log_format,
    shop_url,
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = _Usage(prog="parcomolo", description="A shop in which an order flows by events.")
    commands = top.add_subparsers(metavar="COMMAND", required=True, title="commands")
    serving = commands.add_parser(
        "serve",
        help="run the shop",
        description="Run the shop until Ctrl-C or SIGTERM.",
        epilog=f"{ADMIN_TOKEN.variable} (environment only): {ADMIN_TOKEN.help}; needed off the loopback address.",
    )
    for setting in SETTINGS:
        _add(serving, setting)
    serving.set_defaults(command=_serve)
    simulating = commands.add_parser(
        "simulate",
        help="send customers to a running shop",
        description="Customers who browse, buy, cancel and receive; exit status 1 unless every order reached an end.",
    )
    simulating.add_argument("--rate", type=_above_0, default=5.0, metavar="N", help="orders per second (default: 5)")
    simulating.add_argument("--seconds", type=_above_0, default=10.0, metavar="S", help="for how long (default: 10)")
    for setting, text in ((HOST, "address that the shop listens on"), (PORT, "port that the shop listens on")):
        _add(simulating, setting, text=text)
    simulating.add_argument("--url", help="the shop, where host and port do not lead to it (default: what these say)")
    simulating.set_defaults(command=_simulate)
    _migrating(commands)
    resetting = commands.add_parser("reset", help="delete the data", description="Delete the data of this installation.")
    for setting in PLACES:
        _add(resetting, setting)
    resetting.add_argument("--yes", action="store_true", help="do not ask")
    resetting.set_defaults(command=_reset)
    return top


def _migrating(commands: Any) -> None:
    migrating = commands.add_parser(
        "migrate",
        help="move an installation from files to Kafka and PostgreSQL",
        description="Move everything that an installation keeps in files to Kafka and PostgreSQL, compare both sides, and leave the files "
        "as they are. The shop must not run. Cut short, the same command goes on where it stopped; nobody can serve it before.",
    )
    _add(migrating, DATA)
    for setting in TARGET:
        _add(migrating, setting, prefix="to-")
    migrating.add_argument("--json", action="store_true", help="print one JSON value at the end: counts of everything that was moved")
    migrating.set_defaults(command=_migrate)


def _add(command: argparse.ArgumentParser, setting: Setting, *, prefix: str = "", text: str = "") -> None:
    text = f"{text or setting.help} (default: {setting.default or setting.unset}; {setting.variable})".replace("%", "%%")
    command.add_argument(f"--{prefix}{setting.name}", dest=setting.name, metavar=setting.name.upper(), help=text)


class _Usage(argparse.ArgumentParser):
    """Answers a mistake with one line, as wrong settings are."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; try {self.prog} --help\n")


def _above_0(text: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from error
    if not 0 < number <= 100_000:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 100000")
    return number


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    options = parser().parse_args(argv)
    try:
        set_up_log(log_format(getattr(options, LOG_FORMAT.name, None)))
        return options.command(options)
    except (ConfigurationError, StoreUnavailable) as error:
        return _complain(error, 2)
    except MillraceError as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        return 0


def _complain(error: object, status: int) -> int:
    print(f"parcomolo: {' '.join(str(error).split())}", file=sys.stderr)
    return status


def _arguments(options: Any) -> dict[str, str | None]:
    return {setting.name: getattr(options, setting.name, None) for setting in SETTINGS}


def _serve(options: Any) -> int:
    signal.signal(signal.SIGTERM, _leave)
    config = configuration(_arguments(options))
    from parcomolo.bootstrap import run

    run(config)
    return 0


def _leave(number: int, frame: object) -> None:
    """Stop before the loop takes signals: nothing is in hand yet."""
    sys.exit(0)


def _simulate(options: Any) -> int:
    url = options.url or shop_url(_arguments(options))
    from parcomolo.simulate import simulate

    return asyncio.run(simulate(url, rate=options.rate, seconds=options.seconds))


def _migrate(options: Any) -> int:
    target = configuration(_arguments(options))
    source = replace(target, data=Path(options.data or os.environ.get(DATA.variable) or DATA.default), namespace="", kafka_config=None)
    from parcomolo.bootstrap import PROVIDER_LEDGER, move
    from parcomolo.migrating import migrate

    source = replace(source, log=EMBEDDED, store=EMBEDDED)
    files = [f"{PROVIDER_LEDGER}-wal", PROVIDER_LEDGER]  # the second is looked for, and so is written last
    return migrate(source, target, files=files, move=partial(move, source, target), as_json=options.json)


def _reset(options: Any) -> int:
    config = configuration(_arguments(options))
    from parcomolo.bootstrap import erase
    from parcomolo.resetting import reset

    return reset(config, ask=not options.yes, erase=partial(erase, config))


if __name__ == "__main__":
    sys.exit(main())
