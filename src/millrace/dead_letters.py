"""What operators do about dead letters: list, group, show, export; redrive, edit, discard. The same for servers and the command line.

Reading shows what is stored at one moment, of all services, wherever they run. A change is one transaction of the service's store
(`letter_work`), beside running processes or without any: they look at the store when another process has committed, and once a second.
Where none runs, what was made due is handled at the next start. Nothing is handled here: functions call the outside world with the
settings of their own process, which an operator's shell need not have.

Neighbours: users' servers and `letter_commands` call it; `letters` reads, `letter_work` changes, `redrive` keeps where a long redrive
stands.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec

from millrace.administration import declared_processors
from millrace.application import Application
from millrace.clock import to_micros
from millrace.edit import Edit, edit_of, said_again
from millrace.errors import ConfigurationError, InvalidEdit, LetterRefused, UnknownMessage
from millrace.held import FIRST, HeldPlace, HeldRow
from millrace.hosting import Host
from millrace.inspection import Inspection
from millrace.letter import HeldId
from millrace.letter_work import Discard, Redrive, Replace
from millrace.letters import (
    ClosedLetter,
    ClosedPage,
    HeldMessage,
    LetterCause,
    LetterDetail,
    LetterPage,
    LetterQuery,
    check_service,
    closed_at,
    document_of,
    document_of_detail,
    export_letters,
    group_letters,
    list_closed,
    list_letters,
    show_letter,
)
from millrace.message import declaration, key_of
from millrace.partitioning import partition_of
from millrace.redrive import STEP, Rate, RedriveProgress, RedriveRun, load_runs
from millrace.retry import DEAD, RELAY

LOOK_S = 0.2
Report = Callable[[RedriveProgress], None]


class LetterChange(msgspec.Struct, frozen=True):
    """What was done to one letter; `successor` is the id of the message that was put in its place or said again."""

    id: str
    done: str
    successor: str | None = None


class LetterOutcome(msgspec.Struct, frozen=True):
    """What became of letters that were redriven: handled, dead again, or still waiting."""

    handled: int
    dead: int
    waiting: int


class DeadLetters:
    """The dead letters of an application, as operators look after them.

    Names are those of `list`. What changes something is done for services that run in this process.

    Args:
        app: running, or opened by `operating_letters`.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._redriven: dict[str, list[HeldPlace]] = {}

    async def list(self, wanted: LetterQuery | None = None, *, limit: int = 100, cursor: str | None = None) -> LetterPage:
        """Return dead letters of all services, oldest first.

        Raises:
            ConfigurationError: there is no such service, or the cursor is of no list.
            StoreUnavailable: something is not there or cannot be read.
        """
        async with Inspection(self._app) as inspection:
            return await list_letters(inspection, wanted or LetterQuery(), limit=limit, cursor=cursor)

    async def closed(self, wanted: LetterQuery | None = None, *, limit: int = 100, cursor: str | None = None) -> ClosedPage:
        """Return letters that were discarded, edited or said again, in the order of closing; raises as `list` does."""
        async with Inspection(self._app) as inspection:
            return await list_closed(inspection, wanted or LetterQuery(), limit=limit, cursor=cursor)

    async def groups(self, wanted: LetterQuery | None = None) -> Sequence[LetterCause]:
        """Return dead letters by what they failed of, the most frequent first; raises as `list` does."""
        async with Inspection(self._app) as inspection:
            return await group_letters(inspection, wanted or LetterQuery())

    async def show(self, name: str) -> LetterDetail:
        """Return one letter, held or closed, with original bytes, masked content, history and causes.

        `document` makes JSON of it, and of the items of a list.

        Raises:
            UnknownMessage: there is none.
            StoreUnavailable: something is not there or cannot be read.
        """
        async with Inspection(self._app) as inspection:
            return await show_letter(inspection, name)

    @staticmethod
    def document(shown: LetterDetail | HeldMessage | ClosedLetter | LetterCause, *, raw: bool = False) -> dict[str, Any]:
        """Return what was listed or shown as JSON has it; `raw` adds the original bytes of what was shown, unmasked."""
        return document_of_detail(shown, raw=raw) if isinstance(shown, LetterDetail) else document_of(shown)

    async def export(self, wanted: LetterQuery | None = None) -> AsyncIterator[bytes]:
        """Yield dead letters as lines of JSON with their original bytes, personal data included; raises as `list` does."""
        async with Inspection(self._app) as inspection, aclosing(export_letters(inspection, wanted or LetterQuery())) as found:
            async for each in found:
                yield msgspec.json.encode(each) + b"\n"

    async def redrive(
        self,
        wanted: LetterQuery | str,
        *,
        rate: float | None = None,
        limit: int | None = None,
        who: str = "",
        report: Report | None = None,
    ) -> RedriveProgress:
        """Make dead letters due again, each with all its attempts: one by its id, or all that a query means now, oldest first.

        A letter that dies again lies where it lay, with what was before in its history; what waits behind it follows in order.

        Args:
            wanted: the id of a letter, or a query.
            rate: letters a second at most.
            limit: stop after so many; `resume` goes on.
            who: is noted.
            report: told after each step.

        Raises:
            UnknownMessage: there is no such letter.
            LetterRefused: it is not dead; or nothing here handles it; or the log cannot take it now either.
            ConfigurationError: there is no such service here; rate or limit is not above 0.
            StoreUnavailable: the store cannot be written; what was reported is done.
        """
        if (rate is not None and not rate > 0) or (limit is not None and limit < 1):
            raise ConfigurationError(f"rate {rate}, limit {limit}: above 0 each, if given")
        if isinstance(wanted, str):
            return await self._redrive_one(wanted, who=who)
        run, until = uuid.uuid4().hex[:12], to_micros(self._app.clock.now())
        runs: list[tuple[Host, RedriveRun]] = []
        for host in self._hosts(wanted):
            meant = wanted.filter(until=until)
            count = sum(group.count for group in await host.store.reader.letters.groups(meant))
            if count:
                runs.append((host, RedriveRun(run, meant, count, who, until)))
        for host, each in runs:  # what is to be done is stored before anything is
            await self._step(host, each, [])
        return await self._drive(run, runs, rate=Rate(rate), limit=limit, report=report)

    async def resume(
        self, run: str, *, rate: float | None = None, limit: int | None = None, report: Report | None = None
    ) -> RedriveProgress:
        """Go on with a redrive that was interrupted, behind its last step; raises as `redrive` does.

        Raises:
            UnknownMessage: no run of that name is unfinished.
        """
        found = [(host, each) for host in self._app.hosts.values() if (each := (await load_runs(host.store.reader)).get(run)) is not None]
        if not found:
            raise UnknownMessage(f"there is no unfinished redrive {run!r}; `dead-letters runs` shows those there are")
        return await self._drive(run, found, rate=Rate(rate), limit=limit, report=report)

    async def runs(self) -> Sequence[RedriveProgress]:
        """Return the redrives that are not finished, of all services."""
        found: dict[str, list[RedriveRun]] = {}
        async with Inspection(self._app) as inspection:
            for _, store in inspection.services():
                for name, run in (await load_runs(store.reader)).items():
                    found.setdefault(name, []).append(run)
        return [_progress(name, runs) for name, runs in sorted(found.items(), key=lambda each: each[1][0].at)]

    async def outcome(self, *, timeout: float) -> LetterOutcome:  # as `Application.wait_for`
        """Wait, for at most `timeout` seconds, until what was redriven here was handled or is dead again."""
        until = time.monotonic() + timeout
        while True:
            found = {service: await self._states(service, places) for service, places in self._redriven.items()}
            dead = sum(states.count(DEAD) for states in found.values())
            there = sum(map(len, found.values()))
            outcome = LetterOutcome(sum(map(len, self._redriven.values())) - there, dead, there - dead)
            if not outcome.waiting or time.monotonic() >= until:
                return outcome
            await asyncio.sleep(LOOK_S)

    async def _states(self, service: str, places: Sequence[HeldPlace]) -> Sequence[str]:
        letters = self._app.hosts[service].store.reader.letters
        parts = [places[first : first + STEP] for first in range(0, len(places), STEP)]
        return [row.state for part in parts for row in await letters.take(part)]

    async def edit(
        self, name: str, *, data: Any = None, changes: dict[str, Any] | None = None, kind: str | None = None, who: str = "", note: str = ""
    ) -> LetterChange:
        """Put another message into the place of a dead letter, due at once; the original is kept as closed.

        Both happen or neither. The new message has an id of its own and names the old one as its cause; this service alone reads it.

        Args:
            name: of the letter.
            data: all of the new message's data, as JSON has them.
            changes: some of its fields instead, the others as they were.
            kind: which message it is to be, where the letter cannot be read.
            who: is kept with the original.
            note: the same.

        Raises:
            UnknownMessage: there is no such letter.
            InvalidEdit: the data do not fit the message class; nothing has changed.
            LetterRefused: it is not dead, or nothing here handles it, or it cannot be told which message it is.
            StoreUnavailable: the store cannot be written; nothing has changed.
        """
        if (data is None) == (changes is None):
            raise InvalidEdit("data: write all data of the message, or some of its fields as changes", field="data")
        host, row = await self._dead(name)
        if row.processor != RELAY:
            await self._check_declared(host, row)
        edit = edit_of(row, self._app.catalogue, data=data, changes=changes, kind=kind)
        self._check_partition(row, edit)
        processors = {each.name: each.routes for each in host.service.processors(self._app.catalogue)}
        if row.processor in processors and type(edit.message) not in processors[row.processor]:
            raise LetterRefused(f"{row.processor} of {host.service.name} takes no {type(edit.message).__name__}")
        return await self._replace(host, row, edit, who=who, note=note)

    def _check_partition(self, row: HeldRow, edit: Edit) -> None:
        """See that a message whose original named no key is read where others of its key are.

        Raises:
            InvalidEdit: its key belongs to another partition.
        """
        if row.key or row.processor == RELAY:
            return
        key, partitions = key_of(edit.message), self._app.partitions_of(row.topic)
        if (right := partition_of(key, partitions)) != row.partition:
            field = declaration(type(edit.message)).key
            what = f"{field}: {key!r} belongs to partition {right} of {row.topic}, the letter lies in partition {row.partition}"
            raise InvalidEdit(f"{what}; discard it, and say the message anew", field=field)

    async def discard(self, wanted: LetterQuery | str, *, note: str, who: str = "") -> int:
        """Give letters up: one by its id, or all that a query means now. They are kept as closed; return how many.

        What waits behind them goes on. They count as skipped, and bring nothing about.

        Raises:
            UnknownMessage: there is no such letter.
            LetterRefused: it is not dead.
            ConfigurationError: there is no note; or no such service here.
            StoreUnavailable: the store cannot be written; steps of a query that were committed are done.
        """
        if not note.strip():
            raise ConfigurationError("note: say why; it is kept with the letter")
        if isinstance(wanted, str):
            host, row = await self._dead(wanted)
            return await self._discard(host, [row.place], who=who, note=note)
        until, count = to_micros(self._app.clock.now()), 0
        for host in self._hosts(wanted):
            after = FIRST
            while rows := await host.store.reader.letters.page(wanted.filter(until=until), after=after, limit=STEP):
                after = rows[-1].mark
                count += await self._discard(host, [row.place for row in rows], who=who, note=note)
        return count

    async def _discard(self, host: Host, places: Sequence[HeldPlace], *, who: str, note: str) -> int:
        work = Discard(places, who=who, note=note)
        host.writer.submit(work)
        await work.finished
        await _tell(host, work.discarded)
        return len(work.discarded)

    async def _redrive_one(self, name: str, *, who: str) -> RedriveProgress:
        host, row = await self._dead(name)
        if row.processor == RELAY:
            await self._replace(host, row, said_again(row, self._app.catalogue), who=who, note="")
            return RedriveProgress("", 1, 1, 0, finished=True)
        await self._check_declared(host, row)
        work = Redrive([row.place])
        host.writer.submit(work)
        await work.finished
        await self._note(host, work.redriven)
        return RedriveProgress("", len(work.redriven), 1, 0, finished=True)

    async def _check_declared(self, host: Host, row: HeldRow) -> None:
        if row.processor not in await declared_processors(self._app, host.service, host.store):
            raise LetterRefused(f"{host.service.name} has no processor {row.processor!r} any more, so nothing would handle it")

    async def _drive(
        self, name: str, runs: Sequence[tuple[Host, RedriveRun]], *, rate: Rate, limit: int | None, report: Report | None
    ) -> RedriveProgress:
        """Take step after step; what is cancelled between two of them stands behind the last."""
        left = limit if limit is not None else sum(run.of for _, run in runs) + 1
        for host, run in runs:
            known = {*await declared_processors(self._app, host.service, host.store), RELAY}
            while left > 0 and not run.finished:
                rows = await host.store.reader.letters.page(run.wanted, after=run.after, limit=min(rate.step, left))
                run.finished = not rows
                if rows:
                    run.after, run.passed, left = rows[-1].mark, run.passed + len(rows), left - len(rows)
                step = self._step(host, run, [row for row in rows if row.processor in known], refused=len(rows))
                cancelled = await _ended(asyncio.ensure_future(step))
                if report is not None:
                    report(_progress(name, [each for _, each in runs]))
                if cancelled:
                    raise asyncio.CancelledError
                if rows:
                    await rate.wait(len(rows))
        return _progress(name, [run for _, run in runs])

    async def _step(self, host: Host, run: RedriveRun, rows: Sequence[HeldRow], *, refused: int = 0) -> None:
        """Commit one step of a run with where it stands."""
        ours, of_log = [row for row in rows if row.processor != RELAY], [row for row in rows if row.processor == RELAY]
        said = [await self._say_again(host, row, who=run.who) for row in of_log]
        run.refused += refused - len(ours) - sum(said)
        run.redriven += sum(said)
        work = Redrive([row.place for row in ours], run=run)
        host.writer.submit(work)
        await work.finished
        await self._note(host, work.redriven)

    async def _say_again(self, host: Host, row: HeldRow, *, who: str) -> bool:
        try:
            await self._replace(host, row, said_again(row, self._app.catalogue), who=who, note="")
        except LetterRefused:
            return False
        return True

    async def _note(self, host: Host, places: Sequence[HeldPlace]) -> None:
        self._redriven.setdefault(host.service.name, []).extend(places)
        await _tell(host, places)

    async def _replace(self, host: Host, row: HeldRow, edit: Edit, *, who: str, note: str) -> LetterChange:
        work = Replace(row, edit, who=who, note=note)
        host.writer.submit(work)
        await work.finished
        if row.processor != RELAY:
            await self._note(host, [row.place])
        return LetterChange(str(HeldId.of(host.service.name, row)), "published" if edit.unchanged else "edited", work.successor)

    async def _dead(self, name: str) -> tuple[Host, HeldRow]:
        """Return a dead letter of a service that runs here.

        Raises:
            UnknownMessage: there is none.
            LetterRefused: it was closed, or it waits.
        """
        wanted = HeldId.parse(name)
        host = self._app.hosts.get(wanted.service)
        if host is None:
            raise UnknownMessage(f"service {wanted.service!r} does not run in this process; these do: {sorted(self._app.hosts)}")
        rows = await host.store.reader.letters.take([wanted.place])
        if rows and rows[0].state == DEAD:
            return host, rows[0]
        if rows:
            raise LetterRefused(f"{name} is not dead: it waits ({rows[0].state})")
        if closed := await closed_at(host.store, wanted):
            raise LetterRefused(f"{name} was {closed[-1].how} before")
        raise UnknownMessage(f"nothing is held as {name!r}; `dead-letters list` shows what is dead")

    def _hosts(self, wanted: LetterQuery) -> list[Host]:
        """Return the services here that a query means.

        Raises:
            ConfigurationError: it names one that is not here.
        """
        check_service(self._app, wanted)
        if wanted.service is not None and wanted.service not in self._app.hosts:
            raise ConfigurationError(f"service {wanted.service!r} does not run in this process; these do: {sorted(self._app.hosts)}")
        return [host for name, host in self._app.hosts.items() if wanted.service in {None, name}]


async def _ended(step: asyncio.Future[None]) -> bool:
    """Wait for the end of a step, also when this is cancelled meanwhile; return whether it was."""
    try:
        await asyncio.shield(step)
    except asyncio.CancelledError:
        await step
        return True
    return False


async def _tell(host: Host, places: Iterable[HeldPlace]) -> None:
    """Let the loops of this process look at once; those of others hear of the commit."""
    for name in {place[0] for place in places}:
        if (loop := host.loops.get(name)) is not None:
            await loop.refresh()


def _progress(name: str, runs: Sequence[RedriveRun]) -> RedriveProgress:
    return RedriveProgress(
        name,
        sum(run.redriven for run in runs),
        sum(run.of for run in runs),
        sum(run.refused for run in runs),
        finished=all(run.finished for run in runs),
    )


@asynccontextmanager
async def operating_letters(app: Application, services: Iterable[str] | None = None) -> AsyncGenerator[DeadLetters]:
    """Open what an operator needs to change dead letters, beside running processes or without any; nothing runs here.

    Args:
        app: the application, not started.
        services: whose letters; default: of all services that have a store.

    Raises:
        ConfigurationError: there is no such service.
        StoreUnavailable: log or store is not there.
    """
    async with Inspection(app) as inspection:
        there = [service for service, _ in inspection.services()]
    names = None if services is None else set(services)
    for name in names or ():
        check_service(app, LetterQuery(service=name))
    await app.operate(*(service for service in there if names is None or service.name in names))
    try:
        yield DeadLetters(app)
    finally:
        await app.stop()


__all__ = ["DeadLetters", "LetterChange", "LetterOutcome", "Report", "operating_letters"]
