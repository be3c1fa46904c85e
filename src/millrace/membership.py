"""Which partitions this process holds: claimed, renewed twice a second and given back; and how far it has read, for the log's own tools.

A process that cannot renew keeps working: its commits carry fencing tokens, so what it does with a partition that another one has
taken meanwhile is refused.

Neighbours: `application` joins at its start and leaves at its end; every `Host` says which groups it has and takes what it is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection

from millrace.errors import MillraceError, StoreUnavailable
from millrace.hosting import Host
from millrace.leasing import GroupSpec, Leases, Progress
from millrace.trouble import Troubles

log = logging.getLogger("millrace")

RENEW_EVERY_S = 0.5
PROGRESS_EVERY_S = 1.0


class Membership:
    """See the module.

    Args:
        leases: who owns what.
        hosts: the services of this process, as they are now.
        troubles: where failures are told.
    """

    def __init__(self, leases: Leases, *, hosts: Callable[[], Collection[Host]], troubles: Troubles) -> None:
        self._leases = leases
        self._hosts = hosts
        self._troubles = troubles
        self._task: asyncio.Task[None] | None = None
        self._told = 0.0
        self.error: str | None = None

    async def join(self) -> None:
        """Take a share of the partitions, now and from now on."""
        await self._balance()
        self._task = asyncio.create_task(self._balance_forever(), name="leases")

    async def regroup(self) -> None:
        """The set of groups has changed; while services are being started, that is seen to once for all."""
        if self._task is not None:
            await self._balance()

    async def rest(self) -> None:
        """Renew nothing any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def leave(self, hosts: Collection[Host]) -> None:
        """Tell how far the hosts have read, and give back what they had."""
        with contextlib.suppress(MillraceError):
            await self._tell_progress(hosts)
        await self._leases.leave()

    async def _balance(self) -> None:
        groups: dict[str, GroupSpec] = {}
        for host in self._hosts():
            groups.update(host.groups())
        await self._leases.join(groups)
        owned = await self._leases.refresh()
        for host in self._hosts():
            host.assign(owned)

    async def _balance_forever(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            try:
                await self._balance()
                if time.monotonic() - self._told >= PROGRESS_EVERY_S:
                    await self._tell_progress(list(self._hosts()))
                self.error = None
                self._troubles.over("leases")
            except StoreUnavailable as error:
                self.error = str(error)
                self._troubles.met("leases", error)
            except Exception:
                log.exception("renewing leases failed; trying again")

    async def _tell_progress(self, hosts: Collection[Host]) -> None:
        """Tell the log's own tools how far the groups have read, off the hot path."""
        self._told = time.monotonic()
        if isinstance(self._leases, Progress):
            for host in hosts:
                for group, offsets in host.progress().items():
                    await self._leases.reached(group, offsets)


__all__ = ["Membership"]
