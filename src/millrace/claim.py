"""Taking partitions over: whoever holds the lease of one writes a new fencing token into its read positions before it reads.

Neighbours: `runtime` claims what it is told to own; a turn compares the tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from millrace.ports import TopicInfo
from millrace.unit_of_work import UnitOfWork
from millrace.writer import Waiting


class Claim(Waiting):
    """Takes partitions over: a new fencing token in each position."""

    def __init__(self, name: str, places: list[tuple[str, int, int, str]]) -> None:
        super().__init__()
        self._name = name
        self._places = places
        self.rows: list[Any] = []

    async def run(self, unit: UnitOfWork) -> None:
        """Write the tokens, unless this is a build of a view that is gone."""
        self.rows = []  # those of a try that was undone
        builds = await unit.transaction.views.list() if "@" in self._name else []
        if "@" in self._name and all(self._name != f"{build.name}@{build.id}" for build in builds):
            return
        self.rows = await unit.transaction.positions.claim(self._name, self._places)


def places_of(infos: Mapping[str, TopicInfo], partitions: frozenset[int]) -> list[tuple[str, int, int, str]]:
    """Return (topic, partition, first offset, identity) of partitions of topics."""
    return [
        (info.name, partition, info.ranges[partition][0], info.identity)
        for info in infos.values()
        for partition in sorted(partitions)
        if partition < len(info.ranges)
    ]


__all__ = ["Claim", "places_of"]
