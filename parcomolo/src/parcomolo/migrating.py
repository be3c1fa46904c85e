"""Moving an installation from files to Kafka and PostgreSQL: everything stored goes there, and the files stay as they are.

The toolkit moves topics and stores. Two files are the shop's own, what was settled at the first start and the ledger of the payment
provider; they stay where they are unless a namespace gives the installation another folder, which then gets copies.

Neighbours: `cli` calls it; `bootstrap` names the engines; `resetting` knows how a folder is held.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from millrace import ConfigurationError
from millrace.moving import Moved, MoveProgress
from parcomolo.configuration import DATA, EMBEDDED, INSTALLATION, LOG, STORE, Configuration
from parcomolo.resetting import alone


class Move(Protocol):
    """Moves topics and stores; goes on where an earlier try has stopped."""

    def __call__(self, *, report: Callable[[MoveProgress], None]) -> Moved:
        """Return what was moved."""
        ...


def migrate(source: Configuration, target: Configuration, *, files: Sequence[str], move: Move, as_json: bool) -> int:
    """Move an installation and return the exit status.

    Args:
        source: where it is, in files.
        target: where it goes.
        files: of the folder that the shop itself keeps, as patterns.
        move: moves the rest.
        as_json: print one JSON value at the end.

    Raises:
        ConfigurationError: the source is no installation, or the target no servers.
        StoreUnavailable: one of them cannot be used, or the target holds something else.
    """
    for setting, value in ((LOG, target.log), (STORE, target.store)):
        if value == EMBEDDED:
            raise ConfigurationError(f"--to-{setting.name} ({setting.variable}) is not set: name the server to which the installation goes")
    if not (source.data / INSTALLATION).is_file():
        raise DATA.wrong(str(source.data), f"a folder in which Parcomolo has run (it holds {INSTALLATION})")
    with alone(source.data) as free:
        if not free:
            print(f"parcomolo: a process runs on {source.data}; stop it first", file=sys.stderr)  # noqa: T201  # the answer to a command
            return 1
        _bring(files, source.data, target.data)
        moved = move(report=_Reporter())
        _bring([INSTALLATION], source.data, target.data)
    print(_json(moved) if as_json else _words(moved))  # noqa: T201  # as above
    return 0


def _bring(patterns: Sequence[str], source: Path, target: Path) -> None:
    """Copy files that the target does not have yet, each as a whole or not at all."""
    if source == target:
        return
    target.mkdir(parents=True, exist_ok=True)
    for path in (found for pattern in patterns for found in source.glob(pattern)):
        if not (target / path.name).exists():
            draft = target / f".{path.name}.{os.getpid()}"
            shutil.copyfile(path, draft)
            draft.rename(target / path.name)


class _Reporter:
    """Tells on stderr what is under way: a line for each thing, which a terminal sees grow."""

    def __init__(self) -> None:
        self._last = ("", "")
        self._live = sys.stderr.isatty()

    def __call__(self, progress: MoveProgress) -> None:
        now = (progress.stage, progress.what)
        if self._live:
            end = "" if now == self._last else "\n"
            of = f" of {progress.of:,}" if progress.of is not None else ""
            print(f"{end}\r{progress.stage}: {progress.what}, {progress.done:,}{of}", end="", file=sys.stderr, flush=True)  # noqa: T201  # as above
        elif now != self._last:
            print(f"{progress.stage}: {progress.what}", file=sys.stderr, flush=True)  # noqa: T201  # as above
        self._last = now


def _json(moved: Moved) -> str:
    plain: dict[str, Any] = msgspec.to_builtins(moved)
    return msgspec.json.format(msgspec.json.encode(plain), indent=2).decode()


def _words(moved: Moved) -> str:
    if moved.already:
        return "Everything was moved before; start the shop with the new settings."
    records = sum(moved.records.values())
    rows = sum(count for tables in moved.rows.values() for count in tables.values())
    return (
        f"Moved {records:,} records of {len(moved.records)} topics and {rows:,} rows of {len(moved.rows)} services, and compared both.\n"
        "Start the shop with the new settings. The files are as they were; nothing may be served from them any more."
    )
