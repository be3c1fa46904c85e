"""Deleting the data of an installation: only what Parcomolo has written, and only when nobody uses it.

On servers only what is the installation's own goes, by name: topics, groups and schemas of its namespace. The folder goes last, so that a
reset that was cut short can be repeated.

Neighbours: `cli` calls it; a running process holds a lock on a file of its folder (`occupied`).
"""

from __future__ import annotations

import fcntl
import shutil
import sys
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

from millrace import StoreUnavailable
from parcomolo.configuration import DATA, EMBEDDED, INSTALLATION, Configuration

PATTERNS = ("*.db", "*.db-wal", "*.db-shm", "*.db-journal", "*.down")
FOLDERS = ("leases", "instances")


class Erase(Protocol):
    """Deletes what lies on servers, or only looks; returns what was found."""

    def __call__(self, *, dry_run: bool) -> Sequence[str]:
        """Return what was found, each in words."""
        ...


def reset(config: Configuration, *, ask: bool, erase: Erase) -> int:
    """Delete the data and return the exit status; `ask` first if wanted.

    Raises:
        ConfigurationError: the folder is none of Parcomolo's.
        StoreUnavailable: a server cannot be used.
    """
    folder = config.data
    with_servers = (config.log, config.store) != (EMBEDDED, EMBEDDED)
    if folder.exists() and any(folder.iterdir()) and not (folder / INSTALLATION).is_file() and not with_servers:
        raise DATA.wrong(str(folder), f"a folder in which Parcomolo has run (it holds {INSTALLATION})")
    try:
        return _reset(folder, ask=ask, erase=erase)
    except StoreUnavailable as error:
        if error.reason != "locked":
            raise
        return _refused(f"a process runs on this installation: {error}")
    except OSError as error:
        return _refused(f"{error.filename or folder}: {error.strerror or error}; it cannot be deleted")


def _reset(folder: Path, *, ask: bool, erase: Erase) -> int:
    there = (folder / INSTALLATION).is_file()
    with alone(folder) if there else nullcontext(enter_result=True) as free:
        if not free:
            return _refused(f"a process runs on {folder}; stop it first")
        found = erase(dry_run=True)
        if not there and not found:
            print(f"There is no data in {folder}.")  # noqa: T201  # the answer to a command
            return 0
        what = ", ".join([*([str(folder.resolve())] if there else []), *_counted(found)])
        if ask and not _agreed(what):
            print("Nothing was deleted.")  # noqa: T201  # as above
            return 1
        erase(dry_run=False)
        if there:
            _delete(folder)
    print(f"Deleted the data in {what}.")  # noqa: T201  # as above
    return 0


def _counted(found: Sequence[str]) -> list[str]:
    """Return how many of each kind; the last word of each is its name."""
    kinds = Counter(each.rpartition(" ")[0] for each in found)
    return [f"{number} {kind}{'s' if number > 1 else ''}" for kind, number in kinds.items()]


def _refused(why: str) -> int:
    print(f"parcomolo: {why}", file=sys.stderr)  # noqa: T201  # as above
    return 1


def _agreed(what: str) -> bool:
    try:
        return input(f"Delete all orders and everything else in {what}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


@contextmanager
def alone(folder: Path) -> Generator[bool]:
    """Keep processes from using an installation's folder while the block runs; tells whether none does."""
    with (folder / INSTALLATION).open("rb") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def _delete(folder: Path) -> None:
    for name in FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    for pattern in PATTERNS:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    (folder / INSTALLATION).unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


@contextmanager
def occupied(folder: Path) -> Generator[None]:
    """Keep the data from being reset for as long as the block runs; several processes may."""
    with (folder / INSTALLATION).open("rb") as mark:
        fcntl.flock(mark, fcntl.LOCK_SH)
        yield
