"""What a server has to be set to, for `doctor`.

Neighbours: `store.check` asks; the names of what was looked at are words that `doctor` prints.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from millrace.engines.postgres.arrays import scalar
from millrace.engines.postgres.queries import Statements, migrations
from millrace.engines.postgres.session import Rows, Step
from millrace.engines.postgres.sessions import POOLED

Finding = tuple[str, bool, str]

VERSION_MIN = 130_000
CLOCK_S = 1.0
CONNECTIONS_FREE_MIN = 10


async def examine(ask: Callable[..., Awaitable[Rows]], schema: str, *, pooled: bool = False) -> list[Finding]:
    """Return (what, well, finding with what to change).

    Args:
        ask: runs statements outside of a transaction, or in a snapshot.
        schema: unquoted.
        pooled: whether there is a pooler on the way.
    """
    sql = Statements("server.sql", schema)
    before = time.time()
    (found,) = await ask(Step(sql["examine"], (scalar(schema),)))
    ((_, version),) = await ask(Step(sql["schema_kind"]))
    told = [("pooler", True, POOLED)] if pooled else []
    return told + judge(found, before=before, after=time.time(), version=int(version))


def judge(found: tuple[Any, ...], *, before: float, after: float, version: int) -> list[Finding]:
    """Return findings about what the server said of itself between two readings of this machine's clock."""
    number, text, fsync, pages, commit, wal, now, most, used, recovering, create = found
    return [
        ("server_version", number >= VERSION_MIN, text if number >= VERSION_MIN else f"{text}; use PostgreSQL 13 or newer"),
        ("primary", not recovering, "yes" if not recovering else "it is a standby; name the primary in the address"),
        _switched_on("fsync", fsync, "a crash of the machine may lose or damage everything"),
        _switched_on("full_page_writes", pages, "a crash of the machine may damage pages"),
        _commit(commit),
        (
            "wal_level",
            wal != "minimal",
            wal if wal != "minimal" else "minimal; set wal_level = replica, so that it can be backed up while it runs",
        ),
        _clock(now / 1_000_000, before, after),
        _connections(most, used),
        ("schema", version == len(migrations()), f"version {version}; this release writes {len(migrations())}"),
        (
            "migrate",
            create,
            "this role may create tables" if create else "this role may not create tables here; grant it create on the schema",
        ),
    ]


def _switched_on(name: str, value: str, danger: str) -> Finding:
    return name, value == "on", value if value == "on" else f"{value}; set {name} = on: {danger}"


def _commit(value: str) -> Finding:
    well = value != "off"
    return "synchronous_commit", well, value if well else "off; set it to on, or a crash loses commits that were answered"


def _clock(now: float, before: float, after: float) -> Finding:
    skew = now - before if now < before else max(0.0, now - after)
    well = abs(skew) <= CLOCK_S
    text = f"{skew:+.3f} s from this machine's"
    return "clock", well, text if well else f"{text}; let both follow one time server"


def _connections(most: int, used: int) -> Finding:
    free = most - used
    well = free >= CONNECTIONS_FREE_MIN
    text = f"{used} of {most} connections used"
    return "connections", well, text if well else f"{text}; raise max_connections, or put a pooler in front"
