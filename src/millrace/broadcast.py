"""A wake-up call for whoever waits: nobody polls, nobody sleeps.

Neighbours: the runtime's loops wait on one; commits and log changes call it.
"""

from __future__ import annotations

import asyncio


class Broadcast:
    """Wakes every waiter.

    A waiter reads `calls` before it checks its condition and hands it to `wait`, so a call in between is not missed.
    """

    def __init__(self) -> None:
        self.calls = 0
        self._waiters: set[asyncio.Future[None]] = set()

    def call(self) -> None:
        """Wake all who wait now."""
        self.calls += 1
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, seen: int, timeout_s: float | None = None) -> bool:
        """Wait until `calls` differs from `seen`; return False when the time ran out first."""
        if self.calls != seen:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True
