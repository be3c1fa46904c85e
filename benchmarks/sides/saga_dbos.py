"""A saga of three steps with DBOS: runs the peer on SQLite or PostgreSQL and takes its figures.

The peer (`benchmarks.peers.dbos_saga`) starts so many workflows from some callers at once, after a warm-up of a tenth; a workflow is
three steps that do nothing but return, each recorded durably. Verified by the peer: all have ended well and each has three recorded
steps. The number of callers is the one that was fastest for it. Prints one JSON object.

    python -m benchmarks.sides.saga_dbos --dir DIR [--on postgres] [--n 1000] [--callers 8]
"""

import argparse
import json
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg

from benchmarks.measure import check
from benchmarks.servers import servers

LIMIT_S = 300.0
LINE = re.compile(r"(\d+) workflows/s, p50 ([\d.]+) ms, p99 ([\d.]+) ms, right=True")


@contextmanager
def database(on: str, directory: str) -> Iterator[str]:
    """The address of an empty database, which is gone afterwards."""
    if on == "folder":
        yield f"sqlite:///{directory}/dbos.sqlite"
        return
    with servers() as found, psycopg.connect(found.postgres, autocommit=True) as connection:
        name = f"bench_{uuid.uuid4().hex[:10]}"
        connection.execute(f"create database {name}")
        try:
            yield urlsplit(found.postgres)._replace(path=f"/{name}").geturl()
        finally:
            connection.execute(f"drop database {name} with (force)")


def main() -> None:
    """Run once and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--on", choices=("folder", "postgres"), default="folder")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--callers", type=int, default=8)
    args = parser.parse_args()
    with database(args.on, args.dir) as url:
        command = [sys.executable, "-m", "benchmarks.peers.dbos_saga", url, str(args.n), str(args.callers), "sync"]
        peer = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    found = LINE.search(peer.stdout)
    check(found is not None, f"the peer ended with {peer.returncode} and said {peer.stdout[-500:]!r} {peer.stderr[-2000:]}")
    assert found is not None
    print(json.dumps({"rate": float(found[1]), "verified": True}))


if __name__ == "__main__":
    main()
