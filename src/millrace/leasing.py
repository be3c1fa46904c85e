"""What an engine implements so that processes share partitions: `Leases`, the groups they are for, and what leases may do besides.

It promises that a lease names its holder by an instance; a dead holder's lease is free at once, a stopped holder's after its session.

Neighbours: a part of `ports`, which names the whole; `membership` claims and renews.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import msgspec


class GroupSpec(msgspec.Struct, frozen=True):
    """A consumer group: a processor, and what is shared out among the processes that run it.

    Groups of one `unit` are run together by everybody who takes part, so an engine may share them out as one; empty: the group is a unit
    of its own. Partition n is partition number n of all its topics.
    """

    partitions: int
    topics: tuple[str, ...] = ()
    unit: str = ""


class Leases(Protocol):
    """Who owns which partition, among the processes that share services; `instance` is the name by which `members` knows this one."""

    instance: str

    async def join(self, groups: Mapping[str, GroupSpec]) -> None:
        """Take part in groups, by name, and in those only: what is held of others is given back."""
        ...

    async def refresh(self) -> Mapping[str, frozenset[int]]:
        """Renew, take what is free, give up what is too much; return what is owned now."""
        ...

    async def release(self, group: str, partition: int) -> None:
        """Give one partition back."""
        ...

    async def leave(self) -> None:
        """Give everything back."""
        ...

    async def owners(self, group: str) -> Mapping[int, str]:
        """Return the instance that holds each partition of a group, as far as is known; needs no `join`."""
        ...

    async def members(self) -> frozenset[str]:
        """Return every instance that takes part in any group, as far as is known; needs no `join`."""
        ...


@runtime_checkable
class Progress(Protocol):
    """What leases may do besides: tell the log's own tools how far groups have read. Nothing of ours reads it."""

    async def reached(self, group: str, offsets: Mapping[tuple[str, int], int]) -> None:
        """Take the next offset per (topic, partition); called about once a second for what moved."""
        ...


__all__ = ["GroupSpec", "Leases", "Progress"]
