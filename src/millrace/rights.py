"""The rights that a service needs on servers, and the abilities of engines to name them.

On servers that several services share each has a user of its own. What it needs follows from what it declares: it reads the topics of its
processors, writes the topics of what it says, and keeps its store. Nothing here grants anything: an administrator runs what is printed.

Neighbours: `access` collects the needs of an application; engines on servers have the abilities, `SplitEngine` asks its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec


class Needs(msgspec.Struct, frozen=True):
    """What a service has to do with a log: topics and consumer groups by the names that services know."""

    service: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]


class Right(msgspec.Struct, frozen=True):
    """A right on a log.

    Attributes:
        service: who needs it.
        principal: the user to whom it is granted.
        resource: topic or group.
        name: of the resource, on the server.
        pattern: literal, or prefixed where `name` is the beginning of several.
        operations: what has to be allowed.
        command: that grants it.
    """

    service: str
    principal: str
    resource: str
    name: str
    pattern: str
    operations: tuple[str, ...]
    command: str


class Role(msgspec.Struct, frozen=True):
    """A role on a database server that owns the store of one service and nothing else; `sql` makes it."""

    service: str
    role: str
    schema: str
    sql: str


@runtime_checkable
class GuardedLog(Protocol):
    """An engine whose log gives rights to users."""

    def rights(self, needs: Sequence[Needs], *, principal: str) -> list[Right]:
        """Return the rights that services need; `{service}` in `principal` becomes the service's name."""
        ...


@runtime_checkable
class GuardedStores(Protocol):
    """An engine whose stores belong to roles."""

    def roles(self, services: Sequence[str], *, role: str) -> list[Role]:
        """Return a role per service; `{service}` in `role` becomes the service's name."""
        ...


__all__ = ["GuardedLog", "GuardedStores", "Needs", "Right", "Role"]
