"""The relay: journal -> log.

Theory. The log keeps, per (source, epoch), the journal position of the last row it has (`Log.published`), written in the same log
transaction as the rows, or found out from them where a log has no such transactions. The relay reads journal rows above that position, in
order, and appends them naming the position it believes in; the log refuses when it knows better.

    crash before the append commits      nothing happened; the rows are relayed again from the same position
    crash after it                       the position is where the rows are; nothing is sent twice
    two relays of one source             the slower one's append is refused with the true position, and it goes on from there

So every process that has committed relays at once what it wrote, without a lease, and whoever starts picks up what a dead process left.
A row that is too large for the log goes to the dead letters of `relay` before anything after it is sent, and is skipped.

At start the relay compares its head with the log's position of its source: a log that is ahead means that the store was restored from a
copy, and publishing would reuse positions. It stops with a `Recovery`, as it does where the log has a later epoch of it; `recovery` helps.

A relay may as well run in a process of its own (`forwarder`): nothing above says which process commits. Where one is left to do it,
`RelayElsewhere` stands in; rows then wait in the journal until a relay of any process looks. Engines tell of other processes' commits, but
under load only some times a second; so where rows of others were found, the relay looks again every `LOOK_S`, until nothing has come for
`FOLLOW_S`, which is longer than any engine holds its telling back.

Neighbours: `hosting` runs one per service and wakes it after each commit.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from millrace import retry
from millrace.broadcast import Broadcast
from millrace.errors import MillraceError, Recovery, StoreUnavailable
from millrace.held import HeldRow
from millrace.pace import Pace
from millrace.ports import JournalEntry, JournalRow, Log, LogCopies, LogParts, Store, TopicSpec, rows_of
from millrace.serialization import RECORD_BYTES_MAX
from millrace.sight import journal_range
from millrace.tracing import Tracing
from millrace.unit_of_work import Saying, UnitOfWork
from millrace.writer import Waiting, Writer

log = logging.getLogger("millrace")

TOGETHER_MAX = 5000
COPY_MIN = 200
"""When so many rows wait, the log is asked to take them over by itself."""
TOGETHER_S = 0.002
"""Under load the relays of a process append in beats of this length: one flush of the log then serves several commits."""
LOOK_S = 0.005
FOLLOW_S = 0.15


class DeadRows(Waiting):
    """Puts rows that the log cannot take into the dead letters."""

    def __init__(self, rows: list[JournalRow]) -> None:
        super().__init__()
        self._rows = rows

    async def run(self, unit: UnitOfWork) -> None:
        """Stage them; the same row twice is one dead letter."""
        for row in self._rows:
            position, topic, partition, _, value = row
            detail = f"{len(value)} bytes, at most {RECORD_BYTES_MAX}"
            unit.held.append(
                HeldRow(
                    retry.RELAY,
                    topic,
                    partition,
                    position,
                    "",
                    retry.DEAD,
                    value,
                    reason="oversized",
                    detail=detail,
                    attempts=1,
                    first_at=unit.now_micros,
                )
            )


class Relay:
    """Publishes one service's journal.

    Args:
        store: whose journal.
        parts: the log where to.
        saying: source and epoch.
        writer: for dead letters.
        pace: shared by the relays of a process.
        tracing: who is told of appends, if anybody is.
    """

    here = True
    """It publishes in this process. `sent` counts the rows it has published, `holes` the positions at which it found no row."""

    def __init__(  # what a relay works with
        self, store: Store, parts: LogParts, saying: Saying, *, writer: Writer, pace: Pace, tracing: Tracing | None = None
    ) -> None:
        self._store = store
        self._log = parts.log
        self._copies = parts.copies
        self._sources = parts.administration.sources
        self._saying = saying
        self._writer = writer
        self._pace = pace
        self._tracing = tracing
        self._wake = Broadcast()
        self._task: asyncio.Task[None] | None = None
        self._published = 0
        self._looked = 0
        self._head = 0
        self._look = True
        self._following = 0.0
        self._fresh: list[JournalEntry] = []
        self.holes = 0
        self.sent = 0
        self.last_error: str | None = None

    async def check(self) -> None:
        """Compare store and log.

        Raises:
            Recovery: the log has positions that the store never gave.
        """
        await self._check_epoch()
        published, head = await compare(self._log, self._store, self._saying)
        # With an append of nothing the log says from where to go on: some rows above may be missing after a crash.
        self._published = self._looked = await self._log.append(self._saying.source, self._saying.epoch, [], after=published)
        self._head = head

    async def _check_epoch(self) -> None:
        source, epoch = self._saying.source, self._saying.epoch
        newest = max((number for name, number, _, _ in await self._sources() if name == source), default=0)
        if newest > epoch:
            raise Recovery(
                f"{source}: the log has epoch {newest} of it, the store is in epoch {epoch}; the store was restored from a copy from "
                "before it was recovered. Restore the newer store or open a new epoch (millrace recover)"
            )

    def start(self) -> None:
        """Begin to publish."""
        self._task = asyncio.create_task(self._run(), name=f"relay {self._saying.service}")

    def wake(self) -> None:
        """There is something to publish, perhaps: look into the journal."""
        self._look = True
        self._wake.call()

    def take(self, rows: Sequence[JournalEntry]) -> None:
        """Publish what this process has just committed; rows that follow what it knows need not be read again."""
        if not rows:
            return
        self._head = rows[-1].position
        follows = not self._fresh or rows[0].position == self._fresh[-1].position + 1
        if follows and len(self._fresh) + len(rows) <= TOGETHER_MAX:
            self._fresh += rows
        else:
            self._fresh, self._look = [], True
        self._wake.call()

    def _take_fresh(self, after: int) -> tuple[list[JournalRow], int] | None:
        """Return the rows at hand if they begin right behind a position, else None: then the journal knows."""
        fresh, self._fresh = self._fresh, []
        if not fresh or fresh[0].position != after + 1:
            self._look = False
            return None
        rows = [(row[0], row[1], row[2], row[3], row[6]) for row in fresh if row[1] is not None]
        return rows_of(JournalRow, rows), fresh[-1][0]

    async def stop(self) -> None:
        """Publish what is there, then stop."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        try:
            head = await self._store.reader.journal.head()  # what others commit from now on is theirs to publish
            while self.published < head and await self.publish_once():
                pass
        except MillraceError as error:
            self.last_error = str(error)

    @property
    def published(self) -> int:
        """Return the position up to which the journal was looked at and published."""
        return max(self._published, self._looked)

    async def _run(self) -> None:
        pause = 0.1
        while True:
            seen = self._wake.calls
            try:
                more = await asyncio.shield(self.publish_once())
            except Exception as error:  # noqa: BLE001  # the relay outlives whatever an append dies of, and says so
                self.last_error, self._look = str(error), True
                if isinstance(error, StoreUnavailable):
                    self._writer.troubles.met(f"relay {self._saying.service}", error)
                else:
                    log.warning("relay of %s: %s; trying again", self._saying.service, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
                continue
            if self.last_error is not None:
                self._writer.troubles.over(f"relay {self._saying.service}")
            self.last_error, pause = None, 0.1
            if not more:
                await self._wake.wait(seen, LOOK_S if time.monotonic() < self._following else None)
                await self._pace.wait()

    async def publish_once(self) -> bool:
        """Publish the next rows; return whether there may be more."""
        if self._copies is not None and self._head - self.published >= COPY_MIN and await self._copy(self._copies):
            return True
        published, after = self._published, self.published  # taken before the read, which another run of this may overtake
        fresh = self._take_fresh(after)
        rows, upto = fresh or await self._store.reader.journal.tail(after, limit=TOGETHER_MAX)
        if upto == after:
            return False
        if fresh is None:
            self._following = time.monotonic() + FOLLOW_S
            if len(rows) < upto - after:
                await self._look_for_holes(after, upto)
        sound = [row for row in rows if len(row[4]) <= RECORD_BYTES_MAX]
        if len(sound) < len(rows):
            work = DeadRows([row for row in rows if len(row[4]) > RECORD_BYTES_MAX])
            self._writer.submit(work)
            await work.finished
        if sound:
            await self._ensure(sound)
            appending = self._log.append(self._saying.source, self._saying.epoch, sound, after=published)
            traced = self._tracing
            self._published = await (appending if traced is None else traced.publishing(self._saying.service, sound, appending))
            if self._published != sound[-1][0]:
                self._looked = 0
                return True
            self.sent += len(sound)
        self._looked = upto
        return fresh is None or bool(self._fresh) or self._look

    async def _copy(self, copies: LogCopies) -> bool:
        """Let the log take the next rows over by itself; return whether it has."""
        saying = self._saying
        position = await copies.copy(self._store, saying.source, saying.epoch, after=self._published, limit=TOGETHER_MAX)
        if position is None:
            return False
        self.sent += max(0, position - self._published)
        self._published = self._looked = position
        self._fresh = [row for row in self._fresh if row.position > position]
        return True

    async def _look_for_holes(self, after: int, upto: int) -> None:
        """Count what lies in a range: fewer rows than positions are rows that are gone unpublished, which the ledger has to be told."""
        ranged = journal_range(self._store.reader.journal)
        if ranged is not None:
            _, there = await ranged.rows_between(after, until=upto)
            self.holes += upto - after - there

    async def _ensure(self, rows: list[JournalRow]) -> None:
        """Create topics that no declaration named, so that a journalled row always has a place."""
        names = {row[1] for row in rows}
        await self._log.ensure([TopicSpec(name, partitions=self._saying.partitions(name)) for name in sorted(names)])


class RelayElsewhere:
    """Stands in for the relay of a service that this process leaves to another one.

    Args:
        store, log, saying: what is compared at the start; nothing is where this process has no log.
        compares: whether it has one.
    """

    here = False
    holes = 0
    sent = 0
    published = (1 << 63) - 1
    """The highest position there can be: nothing is left for this process to publish."""
    last_error: str | None = None

    def __init__(self, store: Store, log: Log, saying: Saying, *, compares: bool) -> None:
        self._store = store
        self._log = log
        self._saying = saying
        self._compares = compares

    async def check(self) -> None:
        """Compare store and log, and write nothing.

        Raises:
            Recovery: the log has positions that the store never gave.
        """
        if self._compares:
            await compare(self._log, self._store, self._saying)

    def start(self) -> None:
        """Begin nothing."""

    def wake(self) -> None:
        """Leave it to the other one, which hears of commits by itself."""

    def take(self, rows: Sequence[JournalEntry]) -> None:
        """Leave them in the journal."""

    async def stop(self) -> None:
        """End nothing."""


async def compare(log: Log, store: Store, saying: Saying) -> tuple[int, int]:
    """Return the last position of a service that its log has, and the last one that its store gave.

    Raises:
        Recovery: the log has positions that the store never gave.
    """
    published = await log.published(saying.source, saying.epoch)
    head = await store.reader.journal.head()  # asked last: other processes commit and publish meanwhile
    if published > head:
        raise Recovery(
            f"{saying.source}: the log has position {published} of epoch {saying.epoch}, the store only {head}; "
            "the store was restored from an older copy. Publishing would reuse positions; "
            "restore the newer store or open a new epoch (millrace recover)"
        )
    return published, head
