"""The log of a process that has none: it executes commands and answers queries from its stores alone.

Such a process neither publishes (a relay process does, see `forwarder`) nor consumes, so nothing asks this log for anything in the normal
course; whoever does is told why there is no answer.

A row's partition is fixed when it is journalled, and only the log knows how many partitions a topic really has. So the relay process notes
the numbers in each store (`NotePartitions`), and a process without the log reads them there; it does not guess, because a key that went to
another partition would overtake itself.

Neighbours: implements the log's side of `ports`; `application` uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NoReturn

from millrace.errors import ConfigurationError, StoreUnavailable
from millrace.ports import JournalRow, LogParts, Record, Store, TopicInfo, TopicSpec
from millrace.unit_of_work import UnitOfWork
from millrace.writer import Waiting

NOTES = "@partitions"
"""The kind of the rows that hold a topic's number of partitions; no class of a user can have this name."""


MANY = 10_000


class DetachedLog:
    """No log."""

    @classmethod
    def parts(cls) -> LogParts:
        """Return the faces of no log."""
        log = cls()
        return LogParts(log, log, log)

    @staticmethod
    def refuse() -> NoReturn:
        """Say why there is no answer.

        Raises:
            StoreUnavailable: always.
        """
        detail = "this process neither relays nor consumes, so it runs without the log; ask one that does"
        raise StoreUnavailable("log", reason="absent", detail=detail)

    async def open(self) -> None:
        """Nothing."""

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        """Nothing: whoever has the log does that."""

    async def append(self, source: str, epoch: int, rows: Sequence[JournalRow], *, after: int) -> int:
        """Refuse."""
        self.refuse()

    async def published(self, source: str, epoch: int) -> int:
        """Refuse."""
        self.refuse()

    async def read(self, topic: str, partition: int, *, offset: int, limit: int) -> list[Record]:
        """Refuse."""
        self.refuse()

    async def topics(self) -> list[TopicInfo]:
        """Return none."""
        return []

    async def close(self) -> None:
        """Nothing."""

    def ends(self) -> Mapping[tuple[str, int], int]:
        """Return none."""
        return {}

    def current(self) -> bool:
        """Return False: nobody is heard here."""
        return False

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Never call back."""
        return lambda: None

    async def put(self, topic: str, rows: Sequence[tuple[str | None, bytes]], *, partition: int | None = None) -> None:
        """Refuse."""
        self.refuse()

    async def expire(self, *, now_micros: int) -> int:
        """Return that nothing went: whoever has the log does that."""
        return 0

    async def first_since(self, topic: str, *, micros: int) -> tuple[int, ...]:
        """Refuse."""
        self.refuse()

    async def sources(self) -> list[tuple[str, int, int, int]]:
        """Refuse."""
        self.refuse()

    async def counts(self) -> dict[tuple[str, int], int]:
        """Refuse."""
        self.refuse()

    async def check(self) -> Iterable[tuple[str, bool, str]]:
        """Refuse."""
        self.refuse()


class NotePartitions(Waiting):
    """Writes down how many partitions topics have."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        super().__init__()
        self._partitions = partitions

    async def run(self, unit: UnitOfWork) -> None:
        """Save what is not noted yet."""
        states = unit.transaction.states
        noted = await states.load(NOTES, sorted(self._partitions))
        rows = [(NOTES, topic, b"%d" % count) for topic, count in sorted(self._partitions.items())]
        if new := [row for row in rows if noted.get(row[1]) != row[2]]:
            await states.save(new)


async def noted_partitions(store: Store, topics: Sequence[str], *, relay: str) -> dict[str, int]:
    """Return the number of partitions of topics, as a relay process has noted it in a store.

    Args:
        store: of a service, open.
        topics: which.
        relay: what starts a relay process, for the message.

    Raises:
        ConfigurationError: not all are noted.
    """
    noted = await store.reader.states.load(NOTES, sorted(topics))
    if missing := sorted(set(topics) - set(noted)):
        raise ConfigurationError(
            f"service {store.name!r} cannot run without the log yet: how many partitions {', '.join(missing)} have is not noted in its "
            f"store; start its relay process once, which notes it: {relay}"
        )
    return {topic: int(value) for topic, value in noted.items()}


async def noted_topics(store: Store) -> list[str]:
    """Return the topics that a relay process has noted in a store."""
    return [topic for topic, _ in await store.reader.states.page(NOTES, after="", limit=MANY)]


__all__ = ["DetachedLog", "NotePartitions", "noted_partitions", "noted_topics"]
