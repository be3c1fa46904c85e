"""Two kits as one: the log of the first, the stores of the second.

Neighbours: `kit_of` makes it for a name with a `/`; neither half knows of the other.
"""

from __future__ import annotations

from typing import Any

from millrace.split import SplitEngine
from millrace.testing.conformance.kit import AnyDamage, EngineKit

LOG = "log"


class SplitDamage:
    """See `kit.Damage`; each kind of damage happens where the rows are."""

    def __init__(self, log: AnyDamage, stores: AnyDamage) -> None:
        self._log = log
        self._stores = stores
        self.restored = log.restored

    def _of(self, database: str) -> AnyDamage:
        return self._log if database == LOG else self._stores

    async def empty_journal(self, service: str) -> int:
        """Remove every row and count it as removed."""
        return await self._stores.empty_journal(service)

    async def lose(self, what: str, service: str) -> None:
        """Delete the oldest row."""
        await self._of(what).lose(what, service)

    async def save_copy(self, database: str) -> None:
        """Keep a copy."""
        await self._of(database).save_copy(database)

    async def restore_copy(self, database: str) -> None:
        """Put the copy back."""
        await self._of(database).restore_copy(database)

    async def recreate_topic(self, topic: str) -> None:
        """Delete a topic."""
        await self._log.recreate_topic(topic)

    async def publish_again(self, topic: str) -> None:
        """Append every record once more."""
        await self._log.publish_again(topic)

    async def forget_snapshots(self, service: str) -> int:
        """Delete every snapshot."""
        return await self._stores.forget_snapshots(service)

    async def spoil_stream(self, service: str, stream: str) -> None:
        """Make the first event unreadable."""
        await self._stores.spoil_stream(service, stream)


class SplitKit:
    """See `kit.EngineKit`.

    Args:
        log: the kit whose engine keeps the log.
        stores: the kit whose engine keeps the stores; gets the faults of the first.
    """

    def __init__(self, log: EngineKit, stores: EngineKit) -> None:
        self.name = f"{log.name}/{stores.name}"
        self.patience = max(log.patience, stores.patience)
        self.session_s = log.session_s
        self.placeholder = stores.placeholder
        self.faults = stores.faults = log.faults
        self.damage = SplitDamage(log.damage, stores.damage)
        self._log = log
        self._stores = stores

    def new_engine(self) -> SplitEngine:
        """Return an engine of one of each."""
        return SplitEngine(log=self._log.new_engine(), stores=self._stores.new_engine())

    async def kill(self, engine: Any) -> None:
        """End both without a goodbye."""
        await self._stores.kill(engine.of_stores)
        await self._log.kill(engine.of_log)

    def close(self) -> None:
        """Remove what either made."""
        self._stores.close()
        self._log.close()
