"""How long published rows of a journal are kept: what belongs to a stream stays for ever, the rest goes when it is old enough.

Theory. A row may go when the log has it and when it is older than the service wants. How old a row is stands nowhere: a column would cost
every commit. Instead the head of the journal is noted now and then with the time, and a row is as old as the first note above it. So a row
goes late by up to a part of its time, never early, and an idle journal is not written.

    which rows      published, of no stream, up to a note that is old enough. Positions are never given again, emptied or not
    how much        so many rows are looked at in a transaction of the writer; others get their turn in between
    the ledger      what was removed is counted in the same transaction, and counts as published, which it was
    a kill          undoes a batch or not; the next run goes on from what is noted

With these rows goes the chance to publish them again where the log itself was lost or restored from an older copy; what is kept here
bounds how old such a copy may be.

Neighbours: `hosting` runs it beside its other cleaning; engines have the ability.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec

from millrace.unit_of_work import UnitOfWork
from millrace.writer import Waiting, Writer

ROWS_TOGETHER = 1000
RUNS_MAX = 100
NOTES = 24
"""Into so many parts the time for which rows are kept is divided."""


@runtime_checkable
class JournalRetention(Protocol):
    """A journal, within a write transaction, whose published rows can be removed."""

    async def trim(self, *, after: int, until: int, limit: int) -> tuple[int, int]:
        """Remove the rows for the log that belong to no stream, among at most `limit` rows above `after` and up to `until`.

        Returns how many went, which the journal counts as removed, and the position up to which it looked.
        """
        ...

    async def noted(self) -> bytes:
        """Return what was noted last; empty before."""
        ...

    async def note(self, value: bytes) -> None:
        """Keep a note in place of the last one."""
        ...


class Notes(msgspec.Struct):
    """Heads of the journal with the microsecond at which they were noted, oldest first; and up to where rows were looked at."""

    trimmed: int = 0
    heads: list[tuple[int, int]] = []

    def add(self, now: int, head: int, *, every: int) -> bool:
        """Note the head, unless it is known or the last note is young; return whether it was."""
        last_at, last = self.heads[-1] if self.heads else (0, self.trimmed)
        if head <= last or now - last_at < every:
            return False
        self.heads.append((now, head))
        return True

    def old(self, before: int) -> int:
        """Return the last position that was there at a time, and forget the notes that say less."""
        found = [head for at, head in self.heads if at <= before]
        self.heads = [(at, head) for at, head in self.heads if at > before or head == found[-1]]
        return found[-1] if found else 0


class Trim(Waiting):
    """Removes one batch.

    Args:
        now: microseconds, of real time.
        kept: microseconds.
        published: the last position that the log has.
    """

    def __init__(self, *, now: int, kept: int, published: int) -> None:
        super().__init__()
        self._now, self._kept, self._published = now, kept, published
        self.removed = 0
        self.more = False

    async def run(self, unit: UnitOfWork) -> None:
        """Note the head, remove what is old."""
        journal = unit.transaction.journal
        if not isinstance(journal, JournalRetention):
            return
        text = await journal.noted()
        notes = msgspec.json.decode(text, type=Notes) if text else Notes()
        changed = notes.add(self._now, await journal.head(), every=self._kept // NOTES)
        until = min(notes.old(self._now - self._kept), self._published)
        if until > notes.trimmed:
            self.removed, notes.trimmed = await journal.trim(after=notes.trimmed, until=until, limit=ROWS_TOGETHER)
            self.more, changed = notes.trimmed < until, True
        if changed:
            await journal.note(msgspec.json.encode(notes))


async def trim_journal(writer: Writer, *, now: int, kept_s: float, published: int) -> int:
    """Remove what is old enough, batch by batch; returns how many rows went. What is left after many batches goes the next time."""
    removed = 0
    for _ in range(RUNS_MAX):
        work = Trim(now=now, kept=int(kept_s * 1_000_000), published=published)
        writer.submit(work)
        await work.finished
        removed += work.removed
        if not work.more:
            break
    return removed


__all__ = ["ROWS_TOGETHER", "JournalRetention", "Notes", "trim_journal"]
