"""PgBouncer in transaction mode in front of a server: every transaction gets whichever of a few connections is free.

Neighbours: `test_pooler` works through it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from deploy.servers.kafka import free_ports, is_open
from millrace.testing.conformance.servers import missing

CONNECTIONS = 6
READY_S = 20.0
SETTINGS = """\
[databases]
* = host={host} port={server} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 500
server_round_robin = 1
log_connections = 0
log_disconnections = 0
"""
"""Round robin, so that no transaction is lucky to get the connection of the one before."""


@contextmanager
def pooling(url: str, folder: Path, *, connections: int = CONNECTIONS) -> Generator[str]:
    """Run a pooler in front of a server; yields its address. Without PgBouncer the test is skipped."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        missing("needs PgBouncer; install the package pgbouncer")
    parts, (port,) = urlsplit(url), free_ports(1)
    settings = folder / "pgbouncer.ini"
    values = {"host": parts.hostname, "server": parts.port, "user": parts.username, "port": port, "connections": connections}
    settings.write_text(SETTINGS.format(**values))
    said = folder / "pgbouncer.log"
    with said.open("ab") as console:
        process = subprocess.Popen([program, *_user(), str(settings)], stdin=subprocess.DEVNULL, stdout=console, stderr=console)
    try:
        until = time.monotonic() + READY_S
        while not is_open(port):
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < until, said.read_text()
        yield urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}"))
    finally:
        process.kill()
        process.wait()


def _user() -> list[str]:
    """Return the option by which it becomes somebody else where we are root, as whom it refuses to run."""
    if os.geteuid() != 0:
        return []
    return ["-u", next(name for name in ("postgres", "nobody") if name in {entry.pw_name for entry in pwd.getpwall()})]
