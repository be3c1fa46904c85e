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
        self._waiters: set[asyncio.Future[bool]] = set()

    def call(self) -> None:
        """Wake all who wait now."""
        self.calls += 1
        if not self._waiters:
            return
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(True)

    async def wait(self, seen: int, timeout_s: float | None = None) -> bool:
        """Wait until `calls` differs from `seen`; return False when the time ran out first."""
        if self.calls != seen:
            return True
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiters.add(waiter)
        alarm = None if timeout_s is None else loop.call_later(timeout_s, _give_up, waiter)
        try:
            return await waiter
        finally:
            self._waiters.discard(waiter)
            if alarm is not None:
                alarm.cancel()


def _give_up(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)
