"""A log on Kafka as an application names it; stores come from another engine.

    Application("shop", [...], engine=SplitEngine(log=KafkaEngine("kafka://one:9092"), stores=SqliteEngine("data")))

Neighbours: implements `Engine` of `ports`; `log` and `leases` do the work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from millrace.engines.kafka.acls import acls
from millrace.engines.kafka.client import Client
from millrace.engines.kafka.erasing import erase
from millrace.engines.kafka.fetcher import Place
from millrace.engines.kafka.leases import KafkaLeases
from millrace.engines.kafka.log import KafkaLog
from millrace.engines.kafka.settings import KafkaSettings
from millrace.erasure import Belongings
from millrace.errors import ConfigurationError
from millrace.ports import LogParts, Store
from millrace.rights import Needs, Right


class KafkaEngine:
    """Log and leases on a Kafka cluster.

    Args:
        where: a URL as `KafkaSettings.of` reads it, or settings.

    Raises:
        ConfigurationError: the URL or its file of properties is wrong.
    """

    name = "kafka"

    def __init__(self, where: str | KafkaSettings) -> None:
        self.settings = KafkaSettings.of(where) if isinstance(where, str) else where
        self._client = Client(self.settings)
        self._log: KafkaLog | None = None

    def __repr__(self) -> str:
        """Return a text without secrets."""
        return f"KafkaEngine({self.settings!r})"

    def log(self) -> LogParts:
        """Return the log of this installation."""
        self._log = log = KafkaLog(self._client)
        return LogParts(log, log, log)

    def leases(self, instance: str) -> KafkaLeases:
        """Return the leases of this process."""
        return KafkaLeases(self._client, instance, follow=self._follow)

    def _follow(self, places: Iterable[Place]) -> None:
        if self._log is not None:
            self._log.follow(places)

    def store(self, service: str) -> Store:
        """Refuse.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError("Kafka keeps no stores: use SplitEngine(log=KafkaEngine(...), stores=...)")

    def reading(self) -> KafkaEngine:
        """Return an engine that looks at the same cluster and creates, changes and owns nothing."""
        return ReadingKafkaEngine(self.settings)

    def rights(self, needs: Sequence[Needs], *, principal: str) -> list[Right]:
        """Return the access control lists that services need; see `GuardedLog`."""
        return acls(self.settings, needs, principal=principal)

    async def erase(self, names: Belongings, *, dry_run: bool) -> list[str]:
        """Delete the topics and groups of an application; see `Erasure`."""
        return await erase(self._client, names, dry_run=dry_run)

    async def start(self) -> None:
        """Nothing: threads begin with what they serve."""

    async def stop(self) -> None:
        """Forget the client for questions; threads end with what they serve."""
        self._client.close()


class ReadingKafkaEngine(KafkaEngine):
    """A cluster as operators look at it."""

    def log(self) -> LogParts:
        """Return the log as it is at its `open`."""
        log = KafkaLog(self._client, reading=True)
        return LogParts(log, log, log)


__all__ = ["KafkaEngine"]
