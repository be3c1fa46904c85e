"""What the commands of `millrace` share: how a family of them is declared, and how they print.

Rows go to stdout as an aligned table or as one JSON value, what is wrong goes to stderr in one line.

Neighbours: `cli` and `consumer_commands` are written with it; `terminal` lays tables out.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

import msgspec

from millrace.application import Application
from millrace.clock import from_micros
from millrace.terminal import painted, printable, table

ENDS = "Exit status: 0 done and well, 1 something is wrong, 2 a name or setting is wrong or a file cannot be opened."

Command = Callable[[Application, argparse.Namespace], Awaitable[int]]


class Usage(argparse.ArgumentParser):
    """A parser that answers a mistake with one line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=_Help, **settings)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and leave with status 2."""
        self.exit(2, f"{self.prog}: {message}; try {self.prog} --help\n")


class _Help(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)
        self._action_max_length = 18  # otherwise the names of commands break their lines


def add_family(commands: Any, name: str, text: str) -> Any:
    """Add a command that has commands, and return what takes these."""
    family = commands.add_parser(name, help=text, description=sentence(text))
    return family.add_subparsers(metavar="COMMAND", required=True, title="commands")


def add_reading(commands: Any, name: str, command: Command, *, text: str) -> argparse.ArgumentParser:
    """Add a command that can print its answer as JSON."""
    reading: argparse.ArgumentParser = commands.add_parser(name, help=text, description=sentence(text), epilog=ENDS)
    reading.add_argument("--json", action="store_true", help="one JSON value")
    reading.set_defaults(command=command)
    return reading


def number(text: str) -> float:
    """Return an argument as a number; where it is none, say so in words that an operator knows."""
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from error


def whole_number(text: str) -> int:
    """Return an argument as a whole number; see `number`."""
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from error


def positive(text: str) -> int:
    """Return an argument as a whole number above 0."""
    count = whole_number(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{count} is not above 0")
    return count


def user() -> str:
    """Return who gives a command, as far as the system knows."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def sentence(text: str) -> str:
    """Return a few words as a sentence."""
    return f"{text[0].upper()}{text[1:]}."


def complain(text: object, status: int) -> int:
    """Say in one line on stderr what is wrong, and return the status."""
    print(f"millrace: {printable(' '.join(str(text).split()))}", file=sys.stderr)
    return status


def plain(row: msgspec.Struct) -> dict[str, Any]:
    """Return a row as plain data for JSON."""
    return msgspec.to_builtins(row)


def iso(micros: int | None) -> str | None:
    """Return a moment as JSON has it."""
    return from_micros(micros).isoformat().replace("+00:00", "Z") if micros else None


def json_text(value: object) -> str:
    """Return a value as readable JSON."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def print_json(value: object) -> int:
    """Print one JSON value; return status 0."""
    print(json_text(value))
    return 0


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, none: str) -> int:
    """Print an aligned table, or `none` where it has no rows; return status 0."""
    print(table(columns, rows, colour=is_coloured()) if rows else none)
    return 0


def paint(word: str) -> str:
    """Return a word as a terminal shows it."""
    return painted(word) if is_coloured() else word


def is_coloured() -> bool:
    """Return whether stdout shows colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


__all__ = [
    "ENDS",
    "Command",
    "Usage",
    "add_family",
    "add_reading",
    "complain",
    "is_coloured",
    "iso",
    "json_text",
    "number",
    "paint",
    "plain",
    "positive",
    "print_json",
    "print_table",
    "sentence",
    "user",
    "whole_number",
]
