"""Deleting the data of an installation: only what Parcomolo has written, and only when nobody uses it.

Neighbours: `cli` calls it; a running process holds a lock on a file of its folder (`occupied`).
"""

from __future__ import annotations

import fcntl
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from parcomolo.configuration import DATA, INSTALLATION, Configuration

PATTERNS = ("*.db", "*.db-wal", "*.db-shm", "*.db-journal")
FOLDERS = ("leases",)


def reset(config: Configuration, *, ask: bool) -> int:
    """Delete the data and return the exit status; `ask` first if wanted.

    Raises:
        ConfigurationError: the folder is none of Parcomolo's.
    """
    folder = config.data
    if not folder.exists():
        print(f"There is no data in {folder}.")  # noqa: T201  # the answer to a command
        return 0
    if not (folder / INSTALLATION).is_file():
        raise DATA.wrong(str(folder), f"a folder in which Parcomolo has run (it holds {INSTALLATION})")
    if ask and not _agreed(folder):
        print("Nothing was deleted.")  # noqa: T201  # as above
        return 1
    try:
        deleted = _delete(folder)
    except OSError as error:
        place, reason = error.filename or folder, error.strerror or error
        print(f"parcomolo: {place}: {reason}; it cannot be deleted", file=sys.stderr)  # noqa: T201  # as above
        return 1
    if not deleted:
        print(f"parcomolo: a process runs on {folder}; stop it first", file=sys.stderr)  # noqa: T201  # as above
        return 1
    print(f"Deleted the data in {folder}.")  # noqa: T201  # as above
    return 0


def _agreed(folder: Path) -> bool:
    try:
        return input(f"Delete all orders and everything else in {folder.resolve()}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _delete(folder: Path) -> bool:
    with (folder / INSTALLATION).open("rb") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        for name in FOLDERS:
            shutil.rmtree(folder / name, ignore_errors=True)
        for pattern in PATTERNS:
            for path in folder.glob(pattern):
                path.unlink(missing_ok=True)
        (folder / INSTALLATION).unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
    return True


@contextmanager
def occupied(folder: Path) -> Generator[None]:
    """Keep the data from being reset for as long as the block runs; several processes may."""
    with (folder / INSTALLATION).open("rb") as mark:
        fcntl.flock(mark, fcntl.LOCK_SH)
        yield
