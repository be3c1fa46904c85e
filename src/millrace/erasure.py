"""What an application owns on servers, and the ability of an engine to delete it.

A folder is deleted by whoever named it. A server holds other people's data too, so there an engine deletes by name what the application
declares and what the engine itself has made for it, nothing else, and only while no process of the application runs.

Neighbours: `Application.erase` names what is its own; engines on servers have the ability, `SplitEngine` asks both of its own.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec


class Belongings(msgspec.Struct, frozen=True):
    """What an application names its own.

    Attributes:
        services: that keep a store.
        topics: as declared, without a namespace.
        groups: of consumers, without a namespace; builds of views have a group of their own, `<group>@<number>`.
    """

    services: tuple[str, ...]
    topics: tuple[str, ...]
    groups: tuple[str, ...]


@runtime_checkable
class Erasure(Protocol):
    """An engine whose data lie on a server."""

    async def erase(self, names: Belongings, *, dry_run: bool) -> list[str]:
        """Delete what of these is there, and what the engine has made for itself.

        Args:
            names: of the application.
            dry_run: only look.

        Returns:
            What was found, each in words.

        Raises:
            StoreUnavailable: `locked` while a process of the application runs; or the server refuses.
        """
        ...
