"""The ledger, checked all the time by every process that runs a service: whatever gets lost is an alarm while somebody can still tell why.

    journal        rows ever appended = rows there + rows removed by retention
    received       position - start + rewound = received
    accounted      received = handled + duplicate + ignored + skipped + waiting + dead
    waiting, dead letters    in the position's counters = held rows that are there

`millrace ledger` counts everything, this watch does not: it reads the counters in the positions (a row per partition and processor) and
counts what is held. A journal is not counted either. What is lost of it before it was published leaves a hole of positions, which the relay
meets when it gets there (`Relay.holes`), and which this watch sees where no relay gets there: positions that are to be published and rows
above the last published position are equally many. Only then, and as long as the alarm is on, is the journal counted.

**A difference or a race.** Two tables are read one after the other, and processes write meanwhile. So a difference counts only if the
position row is the same before and after the held rows were counted: held rows never change without their position row, so nothing moved
in between. And only if the next look that can tell sees the same difference again is it an alarm. In the same way an alarm is over when
two looks in a row see none. A look that cannot tell, because the partition moved, changes nothing.

**What it costs.** A look is followed by a pause of a hundred times what it took, at least a second and at most thirty: a hundredth of the
time, however much is held.

Alarms are rows of the store (see `alarm`), so they are on after a restart until two looks have found nothing.

Neighbours: `hosting` starts one per service; `health` shows what it found.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec

from millrace.alarm import Alarm, Clear, Raise, load_alarms
from millrace.errors import StoreUnavailable
from millrace.ledger import LedgerLine, position_lines
from millrace.ports import PositionRow, Store
from millrace.sight import journal_range
from millrace.writer import Writer

log = logging.getLogger("millrace")

ABOUT = "ledger"
JOURNAL = "journal"
PAUSE_S, PAUSE_MAX_S = 1.0, 30.0
SHARE = 100
"""A look takes at most this part of the time."""
LOOKS = 2
"""So many looks in a row must see the same."""
LAST = (1 << 62) - 1


class Standing(msgspec.Struct):
    """What the last looks have seen of one equation."""

    line: LedgerLine
    same: int = 0

    def see(self, line: LedgerLine) -> None:
        """Take note of one more look that could tell."""
        before, now = self.line.found - self.line.expected, line.found - line.expected
        self.same = self.same + 1 if now == before and self.same else 1
        self.line = line


class Watch:
    """Looks after the ledger of one service.

    Args:
        service: its name.
        writer: of its store.
        published: the journal position up to which everything is in the log, as far as this process knows; None where it does not.
        holes: how many rows the relay here has missed.
    """

    def __init__(self, service: str, writer: Writer, *, published: Callable[[], int | None], holes: Callable[[], int]) -> None:
        self._service = service
        self._writer = writer
        self._store: Store = writer.store
        self._published = published
        self._holes = holes
        self._seen: dict[tuple[str, str], Standing] = {}
        self._task: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()
        self._doubted = False
        self.alarms: dict[tuple[str, str], Alarm] = {}
        self.looks = 0
        self.positions: dict[str, list[PositionRow]] = {}
        """The position rows of each processor, as the last look has read them."""
        self._moving: set[tuple[str, str]] = set()
        self._known_holes = 0

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run(), name=f"ledger watch {self._service}")

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        who = f"ledger watch {self._service}"
        while True:
            begun = time.monotonic()
            try:
                await self.look()
                self._writer.troubles.over(who)
            except StoreUnavailable as error:
                self._writer.troubles.met(who, error)
            except Exception:
                log.exception("%s: looking at the ledger failed; trying again", self._service)
            took = time.monotonic() - begun
            await asyncio.sleep(min(max(PAUSE_S, took * SHARE), PAUSE_MAX_S))

    async def look(self) -> None:
        """Look once, and turn alarms on and off."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        stored = {(alarm.what, alarm.where): alarm for alarm in await load_alarms(self._store.reader) if alarm.about == ABOUT}
        holes, self._known_holes = self._holes() - self._known_holes, self._holes()
        self._doubted = self._doubted or holes > 0 or (JOURNAL, self._store.name) in stored
        lines = [*await self._position_lines(), *await self._journal_lines()]
        told = {(line.what, line.where) for line in lines}
        gone = [LedgerLine(what, where, 0, 0) for what, where in stored.keys() - told if (what, where) not in self._moving]
        for line in (*lines, *gone):
            place = (line.what, line.where)
            standing = self._seen.setdefault(place, Standing(line))
            standing.see(line)
            if standing.same >= LOOKS:
                await self._judge(line, stored.get(place))
        self._note(stored)
        self.looks += 1

    def _note(self, stored: dict[tuple[str, str], Alarm]) -> None:
        """Follow what another process has turned on or off."""
        for place, alarm in stored.items():
            if place not in self.alarms and not self._is_well(place):
                self._begin(alarm)
        for place in self.alarms.keys() - stored.keys():
            if self._is_well(place):
                self._end(place)
        for place in [place for place in self._seen if self._is_well(place) and place not in self.alarms]:
            del self._seen[place]

    def _is_well(self, place: tuple[str, str]) -> bool:
        standing = self._seen.get(place)
        return standing is not None and standing.line.balanced and standing.same >= LOOKS

    async def _judge(self, line: LedgerLine, stored: Alarm | None) -> None:
        place = (line.what, line.where)
        if line.balanced:
            if stored is not None:
                clear = Clear(stored)
                self._writer.submit(clear)
                await clear.finished
            if place in self.alarms:
                self._end(place)
            return
        if stored is None or stored.found - stored.expected != line.found - line.expected:
            raising = Raise(Alarm(ABOUT, line.what, line.where, line.difference, line.expected, line.found))
            self._writer.submit(raising)
            await raising.finished
            self._begin(raising.alarm)
        elif place not in self.alarms:
            self._begin(stored)

    def _begin(self, alarm: Alarm) -> None:
        place = (alarm.what, alarm.where)
        if place not in self.alarms:
            log.error("%s: the ledger differs: %s; `millrace ledger` counts everything", self._service, alarm.text)
        self.alarms[place] = alarm

    def _end(self, place: tuple[str, str]) -> None:
        alarm = self.alarms.pop(place)
        log.warning("%s: the ledger is balanced again: %s %s", self._service, alarm.what, alarm.where)

    async def _position_lines(self) -> list[LedgerLine]:
        """Return the equations of every position that could be told."""
        reader = self._store.reader
        positions = {name: await reader.positions.load(name) for name in await reader.positions.processors()}
        held = await reader.held.counts()
        self.positions, self._moving = positions, set()
        found: list[LedgerLine] = []
        for name, rows in positions.items():
            lines = {(row.topic, row.partition): position_lines(self._store.name, row, held) for row in rows}
            if any(not line.balanced for each in lines.values() for line in each):
                after = {(row.topic, row.partition): row for row in await reader.positions.load(name)}
                moved = {(row.topic, row.partition) for row in rows if after.get((row.topic, row.partition)) != row}
                self._moving.update((line.what, line.where) for place in moved for line in lines[place])
                lines = {place: each for place, each in lines.items() if place not in moved}
            found += [line for each in lines.values() for line in each if self._counts(line)]
        return found

    def _counts(self, line: LedgerLine) -> bool:
        """Return whether a line is worth remembering: it differs, or did."""
        place = (line.what, line.where)
        return not line.balanced or place in self._seen or place in self.alarms

    async def _journal_lines(self) -> list[LedgerLine]:
        """Return the journal's equation where there is a reason to count it."""
        journal = self._store.reader.journal
        published, ranged = self._published(), journal_range(journal)
        if not self._doubted and ranged is not None and published is not None:
            head, there = await ranged.rows_between(published, until=LAST)
            self._doubted = there < head - published
        if not self._doubted:
            return []
        ever, there, removed, _ = await journal.counts(0)
        line = LedgerLine(JOURNAL, self._store.name, ever, there + removed)
        known = self._seen.get((JOURNAL, line.where))
        self._doubted = not line.balanced or known is None or known.same < LOOKS or not known.line.balanced
        return [line]


__all__ = ["Watch"]
