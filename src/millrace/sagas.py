"""Looking after sagas: which there are and where they stand, and the ways out of one that is stuck.

    retry       what is stuck is sent again, attempts beginning anew
    skip        the stuck step counts as done (behind the pivot) or as undone, for a reason that is kept; the saga goes on
    take over   the instance ends for the machine, for a reason that is kept; it says so where its table does (`ended(taken_over=...)`), and
                nothing more is sent, whatever comes

Each is one transaction of the store that owns the saga: the decision, what follows from it, and a line in the instance's timeline with who
and why. So it holds as soon as it is told, beside running processes and without any: what is said lies in the journal, and the next relay
that runs publishes it; a running process finds the timer in the store.

Neighbours: users' servers and `saga_commands` call it; `saga_course` decides, `saga_pattern` stages, `saga_report` makes it readable.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from millrace.application import Application
from millrace.delivery import Delivery
from millrace.errors import ConfigurationError, UnknownMessage
from millrace.hosting import Host
from millrace.inspection import Inspection
from millrace.keyed import decoder_of
from millrace.partitioning import partition_of
from millrace.ports import StoreReader, TimerRow
from millrace.processor import Processor
from millrace.reading import Page
from millrace.saga_course import Course, Occasion
from millrace.saga_instance import INDEX_KIND, STATUSES, SagaInstance, index_key
from millrace.saga_pattern import TIMER, SagaPattern
from millrace.saga_report import SagaReport, SagaSummary, report_of, summary_of
from millrace.serialization import Envelope
from millrace.service import Service
from millrace.unit_of_work import UnitOfWork
from millrace.writer import Waiting

LIMIT_MAX = 1000
REASON_MAX = 200
Found = tuple[str, SagaPattern, StoreReader]


class _Decision(Waiting):
    """An operator's decision about one instance."""

    def __init__(self, pattern: SagaPattern, id: str, decide: Callable[[Course], None], *, partitions: int) -> None:
        super().__init__()
        self._pattern = pattern
        self._id = id
        self._decide = decide
        self._delivery = Delivery()
        self._delivery.key, self._delivery.partition, self._delivery.internal = id, partition_of(id, partitions), True
        self._delivery.envelope = Envelope(uuid.uuid4().hex, "", "")
        self.error: Exception | None = None
        self.after: SagaInstance | None = None

    async def prepare(self, unit: UnitOfWork) -> None:
        """Name the instance."""
        self.error = self.after = None
        unit.rows(self._pattern.row).wanted.add(self._id)

    async def run(self, unit: UnitOfWork) -> None:
        """Decide and stage; what is wrong is the caller's to see, not that of others in this transaction."""
        try:
            self._run(unit)
        except Exception as error:  # noqa: BLE001  # as above
            self.error = error

    def _run(self, unit: UnitOfWork) -> None:
        rows = unit.rows(self._pattern.row)
        rows.check((self._id,))
        stored: SagaInstance | None = rows.values[self._id]
        if stored is None:
            raise UnknownMessage(f"there is no instance {self._id!r} of saga {self._pattern.name!r}")
        instance, saga = self._pattern.definition(stored)
        envelope = self._delivery.envelope
        envelope.correlationid = instance.correlation
        envelope.causationid = next(
            (e.id for e in reversed(instance.timeline) if e.what not in {"retried", "skipped", "taken over"} and e.id), ""
        )
        course = Course(saga, instance, Occasion(unit.now_micros), id=self._id)
        self._decide(course)
        advanced = course.end()
        self._pattern.stage(stored, advanced, delivery=self._delivery, work=unit)
        self.after = advanced.instance


class Sagas:
    """The sagas of the services that run in this process, as operators look after them.

    Args:
        app: running, or opened by `looking_after`.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def list(self, *, status: str | None = None, saga: str | None = None, limit: int = 100, cursor: str | None = None) -> Page:
        """Return a page of `SagaSummary`, by saga and id; reads no others than these.

        Args:
            status: running, cancelling, compensating, stuck, completed, undone or taken_over; None: all.
            saga: of one saga only.
            limit: at most this many, 1 to 1000.
            cursor: `Page.next` of the page before.

        Raises:
            ConfigurationError: there is no such status.
            UnknownMessage: there is no such saga here.
            ValueError: the limit or cursor is malformed.
        """
        return await list_sagas(self._found(saga), status=status, limit=limit, cursor=cursor)

    async def show(self, id: str, *, saga: str | None = None) -> SagaReport:
        """Return everything about an instance.

        Raises:
            UnknownMessage: there is none of that id, or several sagas have one and none was named.
        """
        return await show_saga(self._found(saga), id)

    async def retry(self, id: str, *, saga: str | None = None, by: str = "") -> SagaReport:
        """Send what is stuck again; attempts begin anew.

        Raises:
            UnknownMessage: there is no such instance here.
            SagaRefused: nothing of it is stuck.
            StoreUnavailable: the store cannot be written; nothing has changed.
        """
        return await self._decide(id, saga, lambda course: course.retry(by))

    async def skip(self, id: str, *, reason: str, step: str | None = None, saga: str | None = None, by: str = "") -> SagaReport:
        """Let a stuck step count as done, or as undone, and go on; `step` is needed where several are stuck.

        Raises:
            ConfigurationError: no reason is given, or it is no line of text.
            UnknownMessage: there is no such instance here.
            SagaRefused: that step is not stuck.
            StoreUnavailable: the store cannot be written; nothing has changed.
        """
        reason = _reason(reason)
        return await self._decide(id, saga, lambda course: course.skip(step, reason, by))

    async def take_over(self, id: str, *, reason: str, saga: str | None = None, by: str = "") -> SagaReport:
        """End an instance for the machine: what `ended(taken_over=...)` returns is said, and nothing more; a person sees to the rest.

        Raises:
            ConfigurationError: no reason is given, or it is no line of text.
            UnknownMessage: there is no such instance here.
            SagaRefused: it has ended.
            StoreUnavailable: the store cannot be written; nothing has changed.
        """
        reason = _reason(reason)
        return await self._decide(id, saga, lambda course: course.take_over(reason, by))

    async def _decide(self, id: str, saga: str | None, decide: Callable[[Course], None]) -> SagaReport:
        service, pattern, _ = await find_saga(self._found(saga), id)
        host = self._app.hosts[service]
        decision = _Decision(pattern, id, decide, partitions=_partitions(host, pattern))
        host.writer.submit(decision)
        await decision.finished
        if decision.error is not None:
            raise decision.error
        assert decision.after is not None  # noqa: S101  # it was there, and stays
        return report_of(service, pattern, decision.after)

    def _found(self, saga: str | None) -> Sequence[Found]:
        return choose_sagas([(host.service, host.store.reader) for host in self._app.hosts.values()], saga)


def choose_sagas(stores: Sequence[tuple[Service, StoreReader]], saga: str | None) -> Sequence[Found]:
    """Return the sagas of services, or the one of a name.

    Raises:
        UnknownMessage: there is none of that name.
    """
    every = [(service.name, pattern, reader) for service, reader in stores for pattern in service.sagas]
    found = [each for each in every if saga in {None, each[1].name}]
    if saga is not None and not found:
        raise UnknownMessage(f"there is no saga {saga!r}; there are {', '.join(sorted(p.name for _, p, _ in every)) or 'none'}")
    return sorted(found, key=lambda each: (each[1].name, each[0]))


async def list_sagas(found: Sequence[Found], *, status: str | None, limit: int, cursor: str | None) -> Page:
    """Return a page of summaries; see `Sagas.list`."""
    if status is not None and status not in STATUSES:
        raise ConfigurationError(f"{status!r} is no status of a saga; choose from {', '.join(STATUSES)}")
    if not 1 <= limit <= LIMIT_MAX:
        raise ValueError(f"limit {limit}: from 1 to {LIMIT_MAX}")
    service, saga, last = _open_cursor(cursor)
    items: list[SagaSummary] = []
    for each in found:
        place = (each[1].name, each[0])
        if place < (saga, service):
            continue
        after = last if place == (saga, service) else ""
        rows = await _page(each, status, after, limit + 1 - len(items))
        items += [summary_of(each[0], each[1].name, row) for row in rows]
        if len(items) > limit:
            end = items[limit - 1]
            return Page(tuple(items[:limit]), f"{end.service}/{end.saga}/{end.id}")
    return Page(tuple(items), None)


def _open_cursor(cursor: str | None) -> tuple[str, str, str]:
    if not cursor:
        return "", "", ""
    parts = cursor.split("/", 2)
    if len(parts) != 3:
        raise ValueError(f"not a cursor of this list: {cursor!r}")
    return parts[0], parts[1], parts[2]


async def _page(found: Found, status: str | None, after: str, limit: int) -> Sequence[SagaInstance]:
    _, pattern, reader = found
    kind, decode = pattern.row.__kind__.name, decoder_of(pattern.row)
    if status is None:
        return [decode(value) for _, value in await reader.states.page(kind, after=after, limit=limit)]
    prefix = index_key(pattern.name, status, "")
    keys = [key for key, _ in await reader.states.page(INDEX_KIND, after=prefix + after, limit=limit)]
    ids = [key.removeprefix(prefix) for key in keys if key.startswith(prefix)]
    rows = await reader.states.load(kind, ids) if ids else {}
    return [decode(rows[id]) for id in ids if id in rows]


async def find_saga(found: Sequence[Found], id: str) -> Found:
    """Return the saga that has an instance of an id.

    Raises:
        UnknownMessage: none has, or several.
    """
    having = [each for each in found if await each[2].states.load(each[1].row.__kind__.name, [id])]
    if len(having) > 1:
        raise UnknownMessage(f"sagas {', '.join(each[1].name for each in having)} all have an instance {id!r}; name one of them")
    if not having:
        raise UnknownMessage(f"there is no saga instance {id!r}")
    return having[0]


async def instances_of(stores: Sequence[tuple[Service, StoreReader]], ids: Sequence[str]) -> tuple[SagaSummary, ...]:
    """Return the instances of any saga that have one of these ids."""
    found: list[SagaSummary] = []
    for service, pattern, reader in choose_sagas(stores, None):
        rows = await reader.states.load(pattern.row.__kind__.name, ids)
        found += [summary_of(service, pattern.name, decoder_of(pattern.row)(row)) for _, row in sorted(rows.items())]
    return tuple(found)


async def forgetting(service: Service, reader: StoreReader, rows: Iterable[TimerRow]) -> set[tuple[str, str]]:
    """Return (processor, key) of those timers that only forget an instance, because it has ended or never began."""
    waiting, found = list(rows), set[tuple[str, str]]()
    for pattern in service.sagas:
        ids = sorted({row.key for row in waiting if (row.processor, row.name) == (pattern.name, TIMER)})
        if ids and pattern.saga.kept_for is not None:
            stored = await reader.states.load(pattern.row.__kind__.name, ids)
            instances: list[SagaInstance] = [decoder_of(pattern.row)(value) for value in stored.values()]
            found |= {(pattern.name, each.id) for each in instances if each.ended or not each.started_at}
    return found


async def show_saga(found: Sequence[Found], id: str) -> SagaReport:
    """Return everything about an instance; see `Sagas.show`."""
    service, pattern, reader = await find_saga(found, id)
    rows = await reader.states.load(pattern.row.__kind__.name, [id])
    return report_of(service, pattern, decoder_of(pattern.row)(rows[id]))


def _partitions(host: Host, pattern: SagaPattern) -> int:
    processor = Processor(pattern.name)
    processor.add(pattern)
    return host.partitions_of(processor.topics())


def _reason(text: str) -> str:
    text = text.strip()
    if not text:
        raise ConfigurationError("give a reason: it is kept in the saga's timeline for whoever asks later")
    if len(text) > REASON_MAX or not text.isprintable():
        raise ConfigurationError(f"reason: one line of at most {REASON_MAX} characters, none of them a control character")
    return text


@asynccontextmanager
async def looking_after(app: Application, id: str, *, saga: str | None = None) -> AsyncGenerator[Sagas]:
    """Open what an operator needs to change an instance, beside running processes or without any; nothing runs here.

    Args:
        app: the application, not started.
        id: of the instance.
        saga: its saga, where several have that id.

    Raises:
        UnknownMessage: there is no such instance.
        StoreUnavailable: log or store is not there.
    """
    async with Inspection(app) as inspection:
        stores = [(service, store.reader) for service, store in inspection.services()]
        name, *_ = await find_saga(choose_sagas(stores, saga), id)
    await app.operate(next(service for service in app.services if service.name == name))
    try:
        yield Sagas(app)
    finally:
        await app.stop()


__all__ = ["Sagas", "choose_sagas", "find_saga", "forgetting", "list_sagas", "looking_after", "show_saga"]
