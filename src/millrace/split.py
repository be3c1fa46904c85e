"""One installation on two engines: the log on one, the stores on another.

Leases belong to partitions, so they come from the engine of the log. The two are started and stopped in order, and each keeps its own
promises; nothing of the toolkit's needs a transaction over both.

Neighbours: whoever assembles an application; knows the ports and no engine.
"""

from __future__ import annotations

from millrace.erasure import Belongings, Erasure
from millrace.leasing import Leases
from millrace.ports import Engine, LogParts, Store


class SplitEngine:
    """Log and leases of one engine, stores of another.

    Args:
        log: the engine that keeps log and leases.
        stores: the engine that keeps stores.
    """

    def __init__(self, *, log: Engine, stores: Engine) -> None:
        self.name = f"{log.name}/{stores.name}"
        self.of_log = log
        self.of_stores = stores

    def log(self) -> LogParts:
        """Return the log."""
        return self.of_log.log()

    def leases(self, instance: str) -> Leases:
        """Return the leases of this process."""
        return self.of_log.leases(instance)

    def store(self, service: str) -> Store:
        """Return the store of a service."""
        return self.of_stores.store(service)

    def reading(self) -> SplitEngine:
        """Return an engine for the same places that creates, changes and owns nothing."""
        return SplitEngine(log=self.of_log.reading(), stores=self.of_stores.reading())

    async def erase(self, names: Belongings, *, dry_run: bool) -> list[str]:
        """Delete what both keep on servers, the log's part first: it knows who still runs."""
        erasing = [engine for engine in (self.of_log, self.of_stores) if isinstance(engine, Erasure)]
        return [each for engine in erasing for each in await engine.erase(names, dry_run=dry_run)]

    async def start(self) -> None:
        """Begin what runs in the background."""
        await self.of_stores.start()
        await self.of_log.start()

    async def stop(self) -> None:
        """End it, the log's part last; both even where one fails."""
        try:
            await self.of_stores.stop()
        finally:
            await self.of_log.stop()
