"""The server as one process uses it: its address, and a few sessions for single reads that all stores share.

A read takes a session, runs, gives it back; the one that was used last is taken first, so a quiet process keeps few of them busy. A session
whose server was restarted meanwhile is found out by its first use; the read is repeated once on a new connection, which is safe because
it changes nothing. There is no back-off here: who asks again has its own.

Rejected: the driver's pool. It hands out whole connections with a task per check-out and checks them in the background; what is
needed here is a list and a semaphore.

Neighbours: `store` reads through it; the write transaction, the snapshot and the listener have sessions of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from millrace.engines.postgres.session import OwnSql, Rows, Session, Step, Timeouts
from millrace.errors import StoreUnavailable

SESSIONS_MAX = 4
POOLED = (
    "the address leads through a connection pooler, which does not pass LISTEN on; processes look for each other's commits once a second, "
    "not at once"
)
"""What does not work there; everything else does."""


class Sessions:
    """Connections of one process to one server.

    Args:
        url: as libpq takes it; never shown, because it may hold a password.
        timeouts: of every session.
        most: how many sessions may read at once.
    """

    def __init__(self, url: str, *, timeouts: Timeouts, most: int = SESSIONS_MAX) -> None:
        self._url = url
        self._timeouts = timeouts
        self._free: list[Session] = []
        self._turn = asyncio.Semaphore(most)
        self._closed = False

    async def connect(self, name: str, *, idle_s: float | None = None) -> Session:
        """Return a session of one's own.

        Args:
            name: which store, for errors.
            idle_s: another limit for a transaction that does nothing; 0 for none.

        Raises:
            StoreUnavailable: the server is not there.
        """
        timeouts = self._timeouts if idle_s is None else self._timeouts._replace(idle=idle_s)
        return await Session.connect(self._url, name, timeouts=timeouts)

    async def read(self, steps: Sequence[Step | OwnSql], name: str) -> list[Rows]:
        """Run statements that change nothing of a store, outside any transaction.

        Raises:
            StoreUnavailable: they failed, on a new connection too where an old one had ended.
        """
        async with self._turn:
            while self._free:
                session = self._free.pop()
                try:
                    return await self._use(session, steps)
                except StoreUnavailable:
                    if session.usable:
                        raise
            return await self._use(await self.connect(name), steps)

    async def _use(self, session: Session, steps: Sequence[Step | OwnSql]) -> list[Rows]:
        try:
            return await session.run(steps)
        finally:
            if self._closed:
                session.close()
            elif session.usable:
                self._free.append(session)

    def close(self) -> None:
        """Close the sessions that are free now, and each of the others when it is given back."""
        self._closed = True
        for session in self._free:
            session.close()
        self._free.clear()
