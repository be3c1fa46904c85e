"""What an engine brings to be held to the promises: how to open it again, how to let it fail, how to damage what it keeps.

An installation whose log is on one engine and whose stores are on another is named `log/stores`, and its kit is made of both.

Neighbours: `sqlite_kit`, `postgres_kit` and `kafka_kit` implement it, `split_kit` combines; `lab` and the checks use kits through this
module only.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from millrace.errors import StoreUnavailable
from millrace.ports import Engine

KITS = {
    "kafka": "millrace.testing.conformance.kafka_kit:KafkaKit",
    "postgres": "millrace.testing.conformance.postgres_kit:PostgresKit",
    "sqlite": "millrace.testing.conformance.sqlite_kit:SqliteKit",
}
"""Engines that can be named; another one is named `module:Class`."""
_SPLIT = "millrace.testing.conformance.split_kit:SplitKit"


class Faults:
    """Commits that fail or wait on demand; `database` is "log" or the name of a service.

    A kit's engines call `before_commit` before each commit of a write transaction and undo the transaction when it raises.
    """

    def __init__(self) -> None:
        self._failures: dict[str, list[str | None]] = {}
        self._gates: dict[str, asyncio.Event] = {}
        self._reached: dict[str, asyncio.Event] = {}
        self.commits: dict[str, int] = {}

    def fail_next(self, database: str, *, times: int = 1, after: int = 0, reason: str = "full") -> None:
        """Let the next commits fail with this reason, after some that do not."""
        self._failures.setdefault(database, []).extend([None] * after + [reason] * times)

    def forget(self) -> None:
        """Let no commit fail any more."""
        self._failures.clear()

    @property
    def outstanding(self) -> int:
        """Return how many of the failures asked for have not happened yet."""
        return sum(reason is not None for reasons in self._failures.values() for reason in reasons)

    @asynccontextmanager
    async def held(self, database: str) -> AsyncGenerator[asyncio.Event]:
        """Let commits wait as long as this block lasts; yields an event that is set when the first one waits."""
        gate, reached = asyncio.Event(), asyncio.Event()
        self._gates[database], self._reached[database] = gate, reached
        try:
            yield reached
        finally:
            del self._gates[database], self._reached[database]
            gate.set()

    async def before_commit(self, database: str) -> None:
        """Wait or fail, as asked for.

        Raises:
            StoreUnavailable: this commit is to fail.
        """
        gate = self._gates.get(database)
        if gate is not None:
            self._reached[database].set()
            await gate.wait()
        reasons = self._failures.get(database)
        reason = reasons.pop(0) if reasons else None
        if reason is not None:
            raise StoreUnavailable(database, reason=reason, detail="injected by a test")
        self.commits[database] = self.commits.get(database, 0) + 1


class Damage(Protocol):
    """What happens to durable data behind the engine's back. Only called while no application is open.

    Attributes:
        restored: words by which a reader is told that the log was replaced by a copy from before its position: "older copy", or
            "created anew" where topics cannot be put back under their old identities.
    """

    restored: str

    async def empty_journal(self, service: str) -> int:
        """Do what retention does: remove every row of a journal and count them as removed; return how many."""
        ...

    async def lose(self, what: str, service: str) -> None:
        """Delete the oldest row of `journal`, `dead_letters` (of a service) or `log`, uncounted."""
        ...

    async def save_copy(self, database: str) -> None:
        """Keep a copy of the log ("log") or of a service's store."""
        ...

    async def restore_copy(self, database: str) -> None:
        """Put the copy back in place of what is there."""
        ...

    async def recreate_topic(self, topic: str) -> None:
        """Delete a topic with its records; the next start creates it anew."""
        ...

    async def publish_again(self, topic: str) -> None:
        """Append every record of a topic once more, as a log does whose acknowledgement was lost."""
        ...


class StoreDamage(Protocol):
    """What happens to streams behind the engine's back."""

    async def forget_snapshots(self, service: str) -> int:
        """Delete every snapshot; return how many there were."""
        ...

    async def spoil_stream(self, service: str, stream: str) -> None:
        """Make the first event of a stream unreadable."""
        ...


class AnyDamage(Damage, StoreDamage, Protocol):
    """All of it."""


class EngineKit(Protocol):
    """An engine on one durable place.

    Attributes:
        name: as `--millrace-engine` names it.
        patience: seconds that a check waits for what must happen.
        session_s: seconds for which leases of a process that was killed may stay taken; 0: they are free at once.
        placeholder: how a value is marked in the application's own SQL.
        faults: consulted by every engine of this kit; may be set before the first one is made.
        damage: works on the same place.
    """

    name: str
    patience: float
    session_s: float
    placeholder: str
    faults: Faults
    damage: AnyDamage

    def new_engine(self) -> Engine:
        """Return the engine for one more process on the same place."""
        ...

    async def kill(self, engine: Engine) -> None:
        """Do what the end of a process by kill -9 does: open transactions are undone, locks free, nothing is written any more."""
        ...

    def close(self) -> None:
        """Remove what was made outside of the kit's folder."""
        ...


def kit_of(name: str, folder: Path) -> EngineKit:
    """Return a fresh kit by name.

    Args:
        name: one of `KITS`, or `module:Class`, which is called with a folder of its own; or two of these with `/` between them, where the
            first keeps the log and the second the stores.
        folder: empty.
    """
    log, _, stores = name.partition("/")
    if stores:
        return _class(_SPLIT)(kit_of(log, folder / "log"), kit_of(stores, folder / "stores"))
    return _class(KITS.get(name, name))(folder)


def _class(address: str) -> Any:
    module, _, name = address.partition(":")
    return getattr(importlib.import_module(module), name)


__all__ = ["KITS", "AnyDamage", "Damage", "EngineKit", "Faults", "StoreDamage", "kit_of"]
