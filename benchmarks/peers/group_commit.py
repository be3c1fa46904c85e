"""The bare group commit: what the file system and SQLite allow when 32 callers' saves of two events share each commit.

A reference for the event store's figures, not a peer: no concurrency control beyond the primary key, no answer to a
caller, events encoded by msgspec, one transaction per 32 saves (apsw, WAL, synchronous=FULL). Prints one JSON object.

    python -m benchmarks.peers.group_commit [--saves 64000] [--callers 32] [--dir DIR]
"""

import argparse
import json
import os
import tempfile
import time

import msgspec

from benchmarks.measure import check
from benchmarks.peers.twin_sqlite import open_file

SCHEMA = """
create table event(pos integer primary key autoincrement, stream text, version int, type text, data blob);
create unique index event_stream on event(stream, version)
"""
INSERT = "insert into event(stream, version, type, data) values(?,?,?,?)"


class Placed(msgspec.Struct):
    """The first of the two events."""

    order_id: str
    customer: str


class LineAdded(msgspec.Struct):
    """The second of the two events."""

    order_id: str
    sku: str
    quantity: int
    unit_price: int


def run(directory: str, *, count: int, callers: int) -> dict[str, object]:
    """Saves per second with ``callers`` saves in each commit, verified by counting the rows."""
    connection = open_file(os.path.join(directory, "group.db"), SCHEMA)
    encode = msgspec.json.Encoder().encode
    begin = time.perf_counter()
    for first in range(0, count, callers):
        rows: list[tuple[str, int, str, bytes]] = []
        for i in range(first, first + callers):
            order_id = f"o-{i:08d}"
            rows.append((order_id, 1, "placed", encode(Placed(order_id, "c-00001"))))
            rows.append((order_id, 2, "line-added", encode(LineAdded(order_id, f"sku-{i % 500}", 1, 1999))))
        with connection:
            connection.executemany(INSERT, rows)
    seconds = time.perf_counter() - begin
    saved = len(range(0, count, callers)) * callers
    rows_stored = next(connection.execute("select count(*) from event"))[0]
    check(rows_stored == 2 * saved, f"{rows_stored} rows for {saved} saves of two events")
    return {"saves_32": saved / seconds, "verified": True}


def main() -> None:
    """Run once and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saves", type=int, default=64_000)
    parser.add_argument("--callers", type=int, default=32)
    parser.add_argument("--dir")
    args = parser.parse_args()
    directory = args.dir or tempfile.mkdtemp(prefix="group-")
    print(json.dumps(run(directory, count=args.saves, callers=args.callers)))


if __name__ == "__main__":
    main()
