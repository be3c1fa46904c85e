"""The log of a test's shop as somebody outside of the shop has it: read as it is now, and written by hand, beside a running server.

Neighbours: `shop_places` says where the shop of a folder has its log.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from millrace.ports import TopicInfo
from parcomolo.bootstrap import engine
from parcomolo.configuration import configuration
from tests.shop_places import settings_of

PARTITIONS = 3


class Pen:
    """Writes to the log of a folder from outside of any application, and reads it."""

    def __init__(self, data: Path) -> None:
        self._engine: Any = engine(configuration({"data": str(data), **settings_of(data)}))
        self._parts = self._engine.log()

    async def __aenter__(self) -> Self:
        """Open the log."""
        await self._parts.log.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self._parts.log.close()
        await self._engine.stop()

    async def put(self, topic: str, values: Sequence[bytes], *, partitions: Iterable[int] = range(PARTITIONS)) -> None:
        """Append values without a key to those of the partitions that a topic has."""
        there = next(range(len(info.ranges)) for info in await self._parts.log.topics() if info.name == topic)
        for partition in filter(there.__contains__, partitions):
            await self._parts.administration.put(topic, [(None, value) for value in values], partition=partition)

    async def put_events(self, topic: str, values: Sequence[bytes]) -> None:
        """Append events where the key that they name belongs."""
        await self._parts.administration.put(topic, [(json.loads(value)["partitionkey"], value) for value in values])

    async def records(self, *, public: bool = False) -> dict[str, list[bytes]]:
        """Return the values that every topic holds now."""
        found: dict[str, list[bytes]] = defaultdict(list)
        for info in await self._parts.log.topics():
            if not (public and info.name.startswith("internal.")):
                found[info.name] += await self._values(info)
        return found

    async def _values(self, info: TopicInfo) -> list[bytes]:
        found: list[bytes] = []
        for partition, (start, end) in enumerate(info.ranges):
            after = start
            while after < end:
                records = await self._parts.log.read(info.name, partition, offset=after, limit=end - after)
                found += [record.value for record in records]
                after = records[-1].offset + 1
        return found
