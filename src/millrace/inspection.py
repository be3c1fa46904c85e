"""Everything that is stored of an application, as it was at one moment.

The log is opened first, then each store, so whatever the log has published is in the store that was opened after it,
and figures of both can be compared however busy they are. Nothing is created, changed or owned, so this works beside
running processes and without any.

Neighbours: `administration` and `doctor` read it; the engine's `reading` opens what is there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from millrace.application import Application
from millrace.errors import StoreUnavailable
from millrace.ports import LogParts, Store
from millrace.service import Service
from millrace.timekeeping import Timekeeper


class Inspection:
    """What is stored of an application.

    Args:
        app: the application, not started.
        tolerant: keep what cannot be opened in `problems` instead of raising.
    """

    def __init__(self, app: Application, *, tolerant: bool = False) -> None:
        self.app = app
        self.parts: LogParts | None = None
        self.stores: dict[str, Store] = {}
        self.problems: list[StoreUnavailable] = []
        self.now = time.time_ns() // 1000
        self._engine = app.engine.reading()
        self.leases = self._engine.leases("")
        self._tolerant = tolerant

    async def __aenter__(self) -> Self:
        """Open what is there.

        Raises:
            StoreUnavailable: it is not there or cannot be read. A store that was never made is left out, unless the
            log has
                records of it.
        """
        try:
            await self._open_log()
            for service in self.app.services:
                await self._open_store(service.name)
        except BaseException:
            await self._close()
            raise
        self.now = time.time_ns() // 1000
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close everything."""
        await self._close()

    async def _open_log(self) -> None:
        parts = self._engine.log()
        try:
            await parts.log.open()
            self.parts = parts
            await Timekeeper(self.app.clock, moved=lambda: None, instances=self.leases.members).load(parts)
        except StoreUnavailable as error:
            self._keep(error)

    async def _open_store(self, name: str) -> None:
        store = self._engine.store(name)
        try:
            await store.open()
            self.stores[name] = store
        except StoreUnavailable as error:
            rows = await self._published_rows(name) if error.reason == "absent" else 0
            if rows:
                detail = f"it is not there any more, but the log has {rows:,} records of it"
                self._keep(StoreUnavailable(error.name, reason="lost", detail=detail))
            elif error.reason != "absent" or self._tolerant:
                self._keep(error)

    def _keep(self, error: StoreUnavailable) -> None:
        if not self._tolerant:
            raise error
        self.problems.append(error)

    async def _published_rows(self, service: str) -> int:
        """Return how many records of a service the log has ever had."""
        if self.parts is None:
            return 0
        sources = await self.parts.administration.sources()
        return sum(rows for source, _, _, rows in sources if source == self.source_of(service))

    async def _close(self) -> None:
        for store in self.stores.values():
            await store.close()
        if self.parts is not None:
            await self.parts.log.close()
        await self._engine.stop()

    @property
    def log(self) -> LogParts:
        """Return the open log."""
        if self.parts is None:
            raise self.problems[0]
        return self.parts

    def source_of(self, service: str) -> str:
        """Return the source under which a service publishes."""
        return f"/{self.app.name}/{service}"

    def services(self) -> Iterator[tuple[Service, Store]]:
        """Yield each service that has a store."""
        for service in self.app.services:
            if service.name in self.stores:
                yield service, self.stores[service.name]
