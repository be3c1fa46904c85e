"""A program of known steps, for the tests of the harness: it writes rows to a file of each driver, one transaction per row.

    main(["20", "folder"])      on SIGUSR1 rows 1 to 20, alternately into engine.db and own.db; with "wait" it stays afterwards

Between two rows it undoes a transaction, commits an empty one, fails to commit and reads: none of that is a step.
"""

import contextlib
import signal
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import apsw

FILES = ("engine", "own")


def main(arguments: Sequence[str]) -> int:
    """Write, and return the number of rows as the exit status."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    rows, folder, *wait = arguments
    engine, own = apsw.Connection(str(Path(folder, "engine.db"))), sqlite3.connect(Path(folder, "own.db"), isolation_level=None)
    for connection in (engine, own):
        connection.execute("pragma journal_mode=wal").fetchall()
        connection.execute("create table if not exists fact (number integer)")
    engine.execute("pragma wal_autocheckpoint=1000").fetchall()
    print("ready", flush=True)
    signal.sigwait({signal.SIGUSR1})
    for number in range(1, int(rows) + 1):
        _write(engine if number % 2 else own, number)
        _write_nothing(engine)
    print("done", flush=True)
    if wait:
        signal.pause()
    return int(rows)


def _write(connection: apsw.Connection | sqlite3.Connection, number: int) -> None:
    name = "/* append_fact */" if number % 2 else ""
    connection.execute("begin immediate")
    connection.execute(f"{name} insert into fact values (?)", (number,))
    connection.execute("commit")


def _write_nothing(connection: apsw.Connection) -> None:
    connection.execute("begin immediate")
    connection.execute("/* add_fact */ insert into fact values (0)")
    connection.execute("rollback")
    connection.execute("begin immediate")
    connection.execute("commit")
    with contextlib.suppress(apsw.Error):
        connection.execute("commit")
    connection.execute("/* read */ select * from fact").fetchall()


def rows_in(folder: Path) -> list[int]:
    """Return the rows that are durable."""
    found: list[int] = []
    for file in FILES:
        with contextlib.closing(sqlite3.connect(folder / f"{file}.db")) as connection:
            found += [number for (number,) in connection.execute("select number from fact")]
    return sorted(found)
