"""What waits for its time, for operators: timers by when they are due, schedules, the clock; and what can be done about them.

A page of timers is found by a few look-ups in an index, however many wait: the first of each partition's are merged. A timer is named by
everything that tells it from others, its due time included, so that cancelling one cannot hit the one that has replaced it meanwhile.

A change is one transaction in the store of its service, so it is made beside running processes and without any; whoever owns the timer
wakes up for nothing and finds it gone.

Neighbours: `agenda_commands` prints; users' servers may serve it; `scheduling` has the changes of schedules.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Self
from urllib.parse import quote, unquote

import msgspec

from millrace.administration import declared_processors
from millrace.application import Application
from millrace.clock import from_micros
from millrace.errors import ConsumerRefused, UnknownMessage
from millrace.hosting import Host
from millrace.ports import Store, TimerRow
from millrace.sagas import forgetting
from millrace.schedule import PROCESSOR
from millrace.scheduling import ChangeSchedule, RemoveSchedule, ScheduleState, list_schedules
from millrace.service import Service
from millrace.traceparent import apart
from millrace.unit_of_work import UnitOfWork
from millrace.writer import Waiting

LIMIT_MAX = 1000
Stores = Iterable[tuple[Service, Store]]


class TimerId(msgspec.Struct, frozen=True, order=True):
    """Where a timer stands in the list, which is in this order; `due` in microseconds."""

    due: int
    service: str
    processor: str
    key: str
    name: str

    def __str__(self) -> str:
        """Return it as one word."""
        return "/".join([str(self.due), *(quote(part, safe="@") for part in (self.service, self.processor, self.key, self.name))])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return it again.

        Raises:
            UnknownMessage: it is none.
        """
        due, *parts = text.split("/")
        if len(parts) != 4 or not (due.isascii() and due.lstrip("-").isdigit()):
            raise UnknownMessage(f"{text!r} is no timer; write its id as `timers list` shows it")
        return cls(int(due), *(unquote(part) for part in parts))


class WaitingTimer(msgspec.Struct, frozen=True):
    """A timer that waits: what it will fire, when, and where it comes from."""

    id: str
    service: str
    processor: str
    key: str
    name: str
    due: datetime
    """In business time."""
    event_time: bool
    type: str
    """Of the message, as on the wire."""
    partition: int
    correlation_id: str
    causation_id: str
    kind: str = "timer"
    """`forget` where nothing happens but that a saga's instance, which has ended or never began, is forgotten; else `timer`."""


class Wanted(msgspec.Struct, frozen=True):
    """Which timers: of a service, of a processor in it, of a key, behind a place in the list; None for all."""

    service: str | None = None
    processor: str | None = None
    key: str | None = None
    after: TimerId | None = None


async def list_timers(app: Application, stores: Stores, wanted: Wanted, *, limit: int) -> list[WaitingTimer]:
    """Return the next timers to be due, at most `limit`."""
    found: list[tuple[TimerId, TimerRow, Service, Store]] = []
    for service, store in stores:
        if wanted.service in {None, service.name}:
            names = {*await declared_processors(app, service, store), *await store.reader.positions.processors()}
            for processor in sorted(names):
                if wanted.processor in {None, processor}:
                    rows = await _rows(store, service.name, processor, wanted, limit=limit)
                    found += [(_id(service.name, row), row, service, store) for row in rows]
    if wanted.after is not None:
        found = [each for each in found if each[0] > wanted.after]
    found.sort(key=lambda each: each[0])
    shown, forgets = found[:limit], set[tuple[str, str, str]]()
    for service, store in {service.name: (service, store) for _, _, service, store in shown}.values():
        rows = [row for name, row, *_ in shown if name.service == service.name]
        forgets |= {(service.name, *each) for each in await forgetting(service, store.reader, rows)}
    return [_waiting(name, row, "forget" if (name.service, row.processor, row.key) in forgets else "timer") for name, row, *_ in shown]


async def _rows(store: Store, service: str, processor: str, wanted: Wanted, *, limit: int) -> list[TimerRow]:
    timers, after = store.reader.timers, wanted.after
    if wanted.key is not None:
        return await timers.of_key(processor, wanted.key)
    first = (-1, "", "")
    if after is not None:
        before = (service, processor) < (after.service, after.processor)  # those of that moment stand in front of the place
        same = (service, processor) == (after.service, after.processor)
        first = (after.due, after.key, after.name) if same else (after.due + before, "", "")
    pages = [await timers.page(processor, partition=partition, after=first, limit=limit) for partition in await timers.next(processor)]
    return [row for page in pages for row in page]


def _id(service: str, row: TimerRow) -> TimerId:
    return TimerId(row.due, service, row.processor, row.key, row.name)


def _waiting(name: TimerId, row: TimerRow, kind: str) -> WaitingTimer:
    return WaitingTimer(
        id=str(name),
        service=name.service,
        processor=row.processor,
        key=row.key,
        name=row.name,
        due=from_micros(row.due),
        event_time=row.event_time,
        type=row.type,
        partition=row.partition,
        correlation_id=apart(row.correlation)[0],
        causation_id=row.causation,
        kind=kind,
    )


class _Cancel(Waiting):
    def __init__(self, timer: TimerId) -> None:
        super().__init__()
        self._timer = timer

    async def run(self, unit: UnitOfWork) -> None:
        """Remove it if it is still the one that is meant.

        Raises:
            UnknownMessage: it is not.
        """
        timer = self._timer
        waits = [row for row in await unit.transaction.timers.of_key(timer.processor, timer.key) if _id(timer.service, row) == timer]
        if not waits:
            raise UnknownMessage(f"no timer {timer} waits; it has fired, was cancelled or was set anew")
        await unit.transaction.timers.cancel([(timer.processor, timer.key, timer.name)])


class Agenda:
    """Changes what waits, for services that run, or are open, in this process.

    Args:
        app: the application.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def timers(
        self,
        *,
        service: str | None = None,
        processor: str | None = None,
        key: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[WaitingTimer]:
        """Return the next timers of the services here to be due: all, or those of a service, a processor or a key.

        Args:
            service: whose; None for all here.
            processor: in which it waits, as in the last part of its consumer group.
            key: of the message that it fires.
            after: the id of a timer; those behind it in the order of due times.
            limit: at most so many.

        Raises:
            UnknownMessage: `after` is no id of a timer.
        """
        wanted = Wanted(service, processor, key, TimerId.parse(after) if after is not None else None)
        return await list_timers(self._app, self._stores(), wanted, limit=limit)

    async def schedules(self) -> list[ScheduleState]:
        """Return the schedules of the services here."""
        return await schedules_of(self._stores())

    async def cancel(self, name: str) -> None:
        """Cancel a timer.

        Raises:
            UnknownMessage: it does not wait any more, or its service is not here.
            ConsumerRefused: it is the tick of a schedule, which is paused instead.
        """
        timer = TimerId.parse(name)
        if timer.processor == PROCESSOR:
            raise ConsumerRefused(f"{name} is the tick of schedule {timer.key!r}; pause the schedule instead")
        await self._do(timer.service, _Cancel(timer))

    async def pause(self, service: str, schedule: str) -> None:
        """Let the moments of a schedule pass, until it is resumed; raises UnknownMessage where there is none."""
        await self._do(service, ChangeSchedule(schedule, paused=True))

    async def resume(self, service: str, schedule: str) -> None:
        """Fire it again from its next moment on; raises as `pause` does."""
        await self._do(service, ChangeSchedule(schedule, paused=False))

    async def remove(self, service: str, schedule: str) -> None:
        """Remove what is left of a schedule that nobody declares any more.

        Raises:
            UnknownMessage: there is none.
            ConsumerRefused: it is declared.
        """
        host = self._host(service)
        await self._do(service, RemoveSchedule(schedule, declared=schedule in host.service.schedules))

    async def _do(self, service: str, work: Waiting) -> None:
        self._host(service).writer.submit(work)  # type: ignore[arg-type]
        await work.finished

    def _host(self, service: str) -> Host:
        if service not in self._app.hosts:
            raise UnknownMessage(f"service {service!r} is not here; these are: {', '.join(sorted(self._app.hosts))}")
        return self._app.hosts[service]

    def _stores(self) -> Stores:
        return [(host.service, host.store) for host in self._app.hosts.values()]


async def schedules_of(stores: Stores) -> list[ScheduleState]:
    """Return the schedules of services."""
    return [row for service, store in stores for row in await list_schedules(service.name, service.schedules, store.reader)]


@asynccontextmanager
async def opened(app: Application, service: str) -> AsyncGenerator[Agenda]:
    """Open the store of a service for changes, beside running processes or without any; nothing runs here.

    Raises:
        UnknownMessage: there is no such service.
        StoreUnavailable: it cannot be opened.
    """
    found = next((each for each in app.services if each.name == service), None)
    if found is None:
        raise UnknownMessage(f"there is no service {service!r}; there are {', '.join(each.name for each in app.services)}")
    await app.operate(found)
    try:
        yield Agenda(app)
    finally:
        await app.stop()


__all__ = ["LIMIT_MAX", "Agenda", "TimerId", "WaitingTimer", "Wanted", "list_timers", "opened", "schedules_of"]
