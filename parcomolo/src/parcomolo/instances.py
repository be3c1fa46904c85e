"""A name for a process that serves: no other process has it, and the next one on this folder gets it again.

Processes that serve one folder take the lowest number that is free, by a lock on a file that ends with them, however they end. A broker
that knows the name gives a process that was killed and started again its partitions back, without waiting until the dead one is missed.

Neighbours: `bootstrap` hands the name to the engine.
"""

from __future__ import annotations

import fcntl
import hashlib
import socket
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

INSTANCES = "instances"


@contextmanager
def instance_name(folder: Path) -> Generator[str]:
    """Keep a name for as long as the block runs."""
    (folder / INSTANCES).mkdir(parents=True, exist_ok=True)
    place = hashlib.sha256(f"{socket.gethostname()}:{folder.resolve()}".encode()).hexdigest()[:12]
    for number in count(1):
        with (folder / INSTANCES / str(number)).open("wb") as mark:
            try:
                fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield f"parcomolo-{place}-{number}"
            return
