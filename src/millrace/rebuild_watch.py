"""A rebuild that an operator asked for, watched until the new build serves.

This process takes part in the new build and in nothing else: no handler, aggregate, relay or starter runs in it.
Beside a server the partitions of the new build are shared between both, without one this process reads them all. If
it dies, the build stays and goes on in whichever process runs the service.

Neighbours: `application.start_builds` runs the loops, `rebuild` decides the swap; `cli` shows the progress.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from millrace.application import Application
from millrace.errors import MillraceError, StoreUnavailable, UnknownMessage
from millrace.hosting import Host
from millrace.inspection import Inspection
from millrace.ports import PositionRow, ViewInfo
from millrace.rebuild import BUILDING, SERVING, Abandon, Request, find_definition, processor_of, progress
from millrace.retry import DEAD
from millrace.service import Service
from millrace.view import topics_of

PATIENCE_S = 60.0
"""How long a rebuild may stand still before it is given up."""


class RebuildProgress(msgspec.Struct, frozen=True):
    """How far a new build is: records read, out of those that the old build had read.

    When it is done, `dead` counts its dead letters among these, `dead_before` those of the old build (None: there was none).
    """

    view: str
    build: int
    read: int
    of: int
    dead: int
    dead_before: int | None
    done: bool

    @property
    def percent(self) -> int:
        """Return how much is read; 100 when all is, though the new build may not serve yet."""
        return 100 if self.done or self.read >= self.of else 100 * self.read // self.of


def find_view(app: Application, name: str) -> tuple[Service, str]:
    """Return the service that declares a view, and the view's name; `service/view` where several do.

    Raises:
        UnknownMessage: none does, or several.
    """
    wanted, _, view = name.rpartition("/")
    declared = [(service, d.name) for service in app.services for d in service.views]
    found = [(service, each) for service, each in declared if each == view and wanted in ("", service.name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownMessage(f"several services have a view {view!r}; name one of {_names(found)}")
    raise UnknownMessage(f"there is no view {name!r}; there are {', '.join(sorted({each for _, each in declared})) or 'none'}")


def _names(views: Sequence[tuple[Service, str]]) -> str:
    return ", ".join(f"{service.name}/{view}" for service, view in views)


async def rebuild_view(app: Application, name: str, *, report: Callable[[RebuildProgress], None]) -> RebuildProgress:
    """Build a view anew while the old build serves; returns when the new one serves.

    A build of it that is under way is joined. When this process dies, the new build waits for the next one that
    starts the service.

    Args:
        app: the application, not started.
        name: see `find_view`.
        report: called with each progress.

    Raises:
        UnknownMessage: there is no such view.
        StoreUnavailable: log or store is not there.
        MillraceError: it cannot come to an end; says why.
    """
    service, view = find_view(app, name)
    async with Inspection(app) as inspection:
        if service.name not in inspection.stores:
            raise StoreUnavailable(service.name, reason="absent", detail="the service has no store yet; start the application once")
    host = await app.start_builds(service, view)
    try:
        return await _Rebuild(app, host, view).run(report)
    finally:
        await app.stop()


class _Rebuild:
    """One new build, watched until it serves."""

    def __init__(self, app: Application, host: Host, view: str) -> None:
        self._app = app
        self._host = host
        self._view = view
        self._starts: dict[tuple[str, int], int] = {}
        self._targets: dict[tuple[str, int], int] = {}
        self._dead_before: int | None = None
        self._moved = time.monotonic()

    async def run(self, report: Callable[[RebuildProgress], None]) -> RebuildProgress:
        await self._set_targets()
        await self._abandon_hopeless()
        request = Request(find_definition(self._host.service.views, self._view))
        self._host.writer.submit(request)
        await request.finished
        if request.build is None:
            raise MillraceError(f"view {self._view!r}: no build was made")
        last: RebuildProgress | None = None
        while True:
            seen = self._host.changed.calls
            now = await self._look(request.build)
            if now != last:
                report(now)
                self._moved = time.monotonic()
            if now.done:
                return now
            last = now
            await self._check_hope(request.build, now)
            await self._host.changed.wait(seen, 0.5)

    async def _abandon_hopeless(self) -> None:
        """Drop a build under way that cannot come to an end, so that a new one starts from the beginning."""
        for build in await self._host.store.reader.views.list():
            if build.name == self._view and build.state == BUILDING and await self._dead_ends(build):
                abandon = Abandon(build)
                self._host.writer.submit(abandon)
                await abandon.finished

    async def _set_targets(self) -> None:
        """Remember where the old build is; where nothing was ever built, where the log ends."""
        definition = find_definition(self._host.service.views, self._view)
        infos = {info.name: info for info in await self._app.parts.log.topics()}
        for topic in topics_of(definition):
            for partition, (start, end) in enumerate(infos[topic].ranges):
                self._starts[topic, partition] = start
                self._targets[topic, partition] = end
        for build in await self._host.store.reader.views.list():
            if build.name == self._view and build.state == SERVING:
                rows = await progress(self._host.store.reader, build)
                self._targets = {place: rows[place].offset if place in rows else self._starts[place] for place in self._targets}
                self._dead_before = await self._dead_letters(build)

    async def _look(self, build: ViewInfo) -> RebuildProgress:
        state = next((each.state for each in await self._host.store.reader.views.list() if each.id == build.id), None)
        if state is None:
            raise MillraceError(
                f"view {self._view!r}: build {build.id} was dropped by a process that runs another version of "
                "the view; run the same release everywhere, then rebuild again"
            )
        rows = await progress(self._host.store.reader, build)
        read = of = 0
        reached = True
        for place, target in self._targets.items():
            start, offset = self._starts[place], rows[place].offset if place in rows else self._starts[place]
            of += max(0, target - start)
            read += max(0, min(offset, target) - start)
            reached = reached and offset >= target
        done = state == SERVING and reached
        dead = await self._dead_letters(build) if done else 0
        return RebuildProgress(view=self._view, build=build.id, read=read, of=of, dead=dead, dead_before=self._dead_before, done=done)

    async def _dead_letters(self, build: ViewInfo) -> int:
        """Return how many of the records that the old build had read are dead letters of a build."""
        held = await self._host.store.reader.held.load(processor_of(build))
        return sum(row.state == DEAD and row.offset < self._targets.get((row.topic, row.partition), 0) for row in held)

    async def _check_hope(self, build: ViewInfo, now: RebuildProgress) -> None:
        """Raise when the build stands still for good."""
        if now.read >= now.of and (dead := await self._dead_ends(build)):
            raise MillraceError(
                f"view {self._view!r}: build {build.id} has read everything, but {dead} keys of it end in dead letters, "
                "so the old build keeps serving; see `dead-letters list`, mend the view's function, rebuild again"
            )
        if time.monotonic() - self._moved > PATIENCE_S:
            loop = self._host.loops.get(processor_of(build))
            error = loop.last_error if loop is not None else None
            raise MillraceError(
                f"view {self._view!r}: build {build.id} has not moved for {PATIENCE_S:.0f} s" + (f"; last error: {error}" if error else "")
            )

    async def _dead_ends(self, build: ViewInfo) -> int:
        """Return how many keys of the build end in dead letters, if that is all that keeps it from serving."""
        tables = self._host.store.reader
        held = await tables.held.blocked(processor_of(build))
        dead = sum(first.state == DEAD for first in held)
        if dead < len(held):
            return 0
        old = next((each for each in await tables.views.list() if each.name == build.name and each.state == SERVING), None)
        if old is None or old.id == build.id:
            return 0
        before, after = await progress(tables, old), await progress(tables, build)
        return dead if any(row.waiting > _waiting(before, place) for place, row in after.items()) else 0


def _waiting(rows: dict[tuple[str, int], PositionRow], place: tuple[str, int]) -> int:
    return rows[place].waiting if place in rows else 0
