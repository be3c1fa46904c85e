"""Hints between processes: "something was committed in this schema". Nothing depends on their arrival; who waits looks again by itself.

Theory. NOTIFY inside a transaction takes a lock of the whole server at its commit, so hints are sent afterwards, by a task that takes
together what has gathered, on a session that does not wait for the disk. At most one hint per schema leaves in `SEND_S`, and callers are
called at most once in `HEAR_S`: what they do then costs queries, and under load there is always something new. The first hint after a
silence passes at once.

One connection listens to every schema of the process. It has no time-outs. When it ends it is made anew, with a pause that doubles and is
jittered so that a restarted server is not met by everybody at once; after each connect all callers are called, because hints may have been
missed. While it is away, the runtime's own look once a second is the fallback. Behind a pooler it is all there is: a connection that is
shared out hears nothing, so nobody listens, and the log says so once.

Neighbours: `store` tells and registers; `engine` starts and stops it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

import psycopg

from millrace.engines.postgres.arrays import scalar
from millrace.engines.postgres.queries import Statements, quoted
from millrace.engines.postgres.session import OwnSql, Session, Step
from millrace.engines.postgres.sessions import POOLED, Sessions
from millrace.errors import StoreUnavailable

log = logging.getLogger("millrace")

SEND_S = 0.02
HEAR_S = 0.1
PAUSE_S = 0.1
PAUSE_MAX_S = 10.0


class Hints:
    """What one process tells and hears.

    Args:
        sessions: the way to the server.
        instance: a name that no other process has; its own hints are not heard.
    """

    def __init__(self, sessions: Sessions, *, instance: str) -> None:
        self._sessions = sessions
        self._instance = instance
        self._callers: dict[str, list[Callable[[], None]]] = {}
        self._news: set[str] = set()
        self._some = asyncio.Event()
        self._heard: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._listener: Session | None = None
        self._ended = asyncio.Event()
        self._notify = Statements("server.sql")["notify"]

    def start(self) -> None:
        """Begin to tell and to hear."""
        self._tasks = [asyncio.create_task(self._tell_forever(), name="tell"), asyncio.create_task(self._hear_forever(), name="hear")]

    async def stop(self) -> None:
        """Tell what is left, and end."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if tasks and self._news:
            await self._tell()
        self._drop()

    def tell(self, schema: str) -> None:
        """Something was committed."""
        self._news.add(schema)
        self._some.set()

    def on_change(self, schema: str, callback: Callable[[], None]) -> None:
        """Call back, on the event loop, when another process has told of a schema; call before `start`, or hear after the next connect."""
        self._callers.setdefault(schema, []).append(callback)

    async def _tell_forever(self) -> None:
        while True:
            await self._some.wait()
            await self._tell()
            await asyncio.sleep(SEND_S)

    async def _tell(self) -> None:
        self._some.clear()
        news, self._news = self._news, set()
        try:
            await self._sessions.read([Step(self._notify, (scalar(schema), scalar(self._instance))) for schema in sorted(news)], "hints")
        except StoreUnavailable as error:
            log.debug("hints were not sent: %s", error)

    async def _hear_forever(self) -> None:
        pause = PAUSE_S
        while True:
            try:
                await self._listen()
                pause = PAUSE_S
                self._call_all()
                await self._ended.wait()
            except (StoreUnavailable, psycopg.Error) as error:
                log.debug("hints are not heard: %s", error)
            self._drop()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # spreads out who comes back at once
            pause = min(pause * 2, PAUSE_MAX_S)

    async def _listen(self) -> None:
        self._ended.clear()
        session = await self._sessions.connect("hints", idle_s=0)
        if session.pooled:
            session.close()
            log.warning("stores: %s", POOLED)
            return
        self._listener = session
        await session.run([OwnSql(f"listen {quoted(schema)}", ()) for schema in sorted(self._callers)])
        session.listen(lambda: self._readable(session))

    def _readable(self, session: Session) -> None:
        try:
            heard = session.notified()
        except psycopg.Error:
            self._drop()
            self._ended.set()
            return
        for schema, instance in heard:
            if instance != self._instance:
                self._call(schema)

    def _call_all(self) -> None:
        for schema in list(self._callers):
            self._call(schema)

    def _call(self, schema: str) -> None:
        """Call the callers of a schema now, or when the last call is long enough ago."""
        loop = asyncio.get_running_loop()
        now, last = loop.time(), self._heard.get(schema, 0.0)
        if last > now:
            return  # a call is planned
        due = self._heard[schema] = max(now, last + HEAR_S)
        if due <= now:
            self._call_now(schema)
        else:
            loop.call_at(due, self._call_now, schema)

    def _call_now(self, schema: str) -> None:
        for callback in self._callers.get(schema, []):
            callback()

    def _drop(self) -> None:
        session, self._listener = self._listener, None
        if session is not None:
            session.close()
