"""Log and leases of one engine, stores of another.

    Application("shop", [...], engine=SplitEngine(log=KafkaEngine("kafka://one:9092"), stores=SqliteEngine("data")))

Neighbours: implements `Engine` of `ports`, names none.
"""

from __future__ import annotations

from millrace.ports import Engine, Leases, LogParts, Store


class SplitEngine:
    """An engine made of two.

    Args:
        log: keeps the log and says who owns which partition.
        stores: keeps the services' stores.
    """

    def __init__(self, *, log: Engine, stores: Engine) -> None:
        self.name = f"{log.name}/{stores.name}"
        self._log = log
        self._stores = stores

    def log(self) -> LogParts:
        """Return the log."""
        return self._log.log()

    def leases(self, instance: str) -> Leases:
        """Return the leases of the log's engine."""
        return self._log.leases(instance)

    def store(self, service: str) -> Store:
        """Return the store of a service."""
        return self._stores.store(service)

    def reading(self) -> SplitEngine:
        """Return engines for the same places that create, change and own nothing."""
        return SplitEngine(log=self._log.reading(), stores=self._stores.reading())

    async def start(self) -> None:
        """Begin what both run in the background."""
        await self._log.start()
        await self._stores.start()

    async def stop(self) -> None:
        """End it."""
        await self._stores.stop()
        await self._log.stop()


__all__ = ["SplitEngine"]
