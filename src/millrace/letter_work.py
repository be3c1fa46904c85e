"""What operators do to dead letters, each in one transaction: redrive, edit, discard.

Theory. A dead letter holds the place of its record in its partition, and the counters of that position say so. Whatever becomes of it is
written together with those counters, so the ledger balances at every moment, and it happens in the one place that the letter has:

    redrive    dead becomes retry, due now, with all its attempts      dead - 1, waiting + 1
    edit       another message takes the place, due now                dead - 1, waiting + 1; the original is kept as closed
    discard    the place is empty, what is behind it is next           dead - 1, skipped + 1; the letter is kept as closed

    crash before the commit    nothing has happened
    crash after it             everything has; processors find what is due as soon as they look at the store

Nothing is handled here. Whoever owns the partition tries what is due like any retry, and later messages of the key wait behind it as they
did, so order per key is what it would be without the letter. Only what is dead is touched: what a processor has in hand is not, so an
original and the message that replaces it are never both handled.

A turn of the processor may be in the same transaction. So positions are read, changed and written in `settle`, behind what the turn has
written, and always before the letters, in which order turns lock them too.

Rows that the log could not take have no position and no place in a key's order any more: what came after them was published. They are
said again as new rows of the journal, edited or as they are, and the ledger counts the old ones as refused for ever. Nobody was told of the
old ones, so the new ones name what had caused them: a reader that waits for causes would wait for ever.

Neighbours: `dead_letters` submits these to the writer of a service; `edit` makes the message that replaces one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from millrace.delivery import Delivery
from millrace.edit import Edit
from millrace.errors import LetterRefused
from millrace.held import ClosedRow, HeldPlace, HeldRow
from millrace.letter import revived
from millrace.ports import PositionRow, StoreTransaction
from millrace.redrive import RedriveRun, save_run
from millrace.retry import DEAD, RELAY, RETRY
from millrace.serialization import Envelope, seal
from millrace.unit_of_work import Draft, UnitOfWork
from millrace.writer import Waiting

DISCARDED, EDITED, PUBLISHED = "discarded", "edited", "published"

Place = tuple[str, str, int]


class Redrive(Waiting):
    """Makes dead letters due; what is not dead any more is left as it is.

    Args:
        places: where they are held.
        run: what this is a step of; stored with it.
    """

    def __init__(self, places: Sequence[HeldPlace], *, run: RedriveRun | None = None) -> None:
        super().__init__()
        self._places = places
        self._run = run
        self._before = run.redriven if run is not None else 0
        self.redriven: list[HeldPlace] = []

    async def run(self, unit: UnitOfWork) -> None:
        """Nothing yet; see the module's text."""

    async def settle(self, unit: UnitOfWork) -> None:
        """Lock, change, count."""
        positions = await _lock(unit.transaction, self._places)
        rows = [row for row in await unit.transaction.letters.take(self._places) if row.state == DEAD]
        _count(positions, rows, "waiting")
        await unit.transaction.held.save([revived(row, now_micros=unit.now_micros) for row in rows])
        await _advance(unit.transaction, positions)
        self.redriven = [row.place for row in rows]
        if self._run is not None:
            self._run.redriven = self._before + len(rows)  # a transaction may be repeated
            await save_run(unit.transaction, self._run)


class Discard(Waiting):
    """Closes dead letters; what is not dead any more is left as it is."""

    def __init__(self, places: Sequence[HeldPlace], *, who: str, note: str) -> None:
        super().__init__()
        self._places = places
        self._who, self._note = who, note
        self.discarded: list[HeldPlace] = []

    async def run(self, unit: UnitOfWork) -> None:
        """Nothing yet; see the module's text."""

    async def settle(self, unit: UnitOfWork) -> None:
        """Lock, close, count."""
        positions = await _lock(unit.transaction, self._places)
        rows = [row for row in await unit.transaction.letters.take(self._places) if row.state == DEAD]
        _count(positions, rows, "skipped")
        closed = [ClosedRow.of(row, DISCARDED, at=unit.now_micros, who=self._who, note=self._note) for row in rows]
        await unit.transaction.letters.close(closed)
        await unit.transaction.held.remove(rows)
        await _advance(unit.transaction, positions)
        self.discarded = [row.place for row in rows]


class Replace(Waiting):
    """Puts another message into the place of a dead letter, or says a row again that the log could not take.

    Raises, by `finished`:
        LetterRefused: it is not as it was when the other message was made for it.
    """

    def __init__(self, before: HeldRow, edit: Edit, *, who: str, note: str) -> None:
        super().__init__()
        self._before = before
        self._edit = edit
        self._who, self._note = who, note
        self._draft: Draft
        self.successor = ""

    async def run(self, unit: UnitOfWork) -> None:
        """Journal the message: it gets its id there; only what the log could not take goes on to the log."""
        before, edit = self._before, self._edit
        cause = Delivery()
        cause.envelope = edit.original or Envelope("", "", "")
        cause.envelope = msgspec.structs.replace(cause.envelope, id=edit.replaces)
        cause.internal = before.processor == RELAY
        self._draft = unit.draft(edit.message, cause)
        self._draft.envelope.time = cause.envelope.time or self._draft.envelope.time
        self._draft.partition = before.partition
        self._draft.topic = before.topic if before.processor == RELAY else None
        unit.drafts.append(self._draft)

    async def settle(self, unit: UnitOfWork) -> None:
        """Lock, compare, close the one, hold the other."""
        before, tables = self._before, unit.transaction
        positions = await _lock(tables, [before.place])
        rows = await tables.letters.take([before.place])
        if not rows or rows[0].state != DEAD or rows[0].value != before.value:
            raise LetterRefused("it is not the dead letter any more that it was; look at it again")
        self.successor = self._draft.envelope.id
        how = PUBLISHED if self._edit.unchanged else EDITED
        await tables.letters.close(
            [ClosedRow.of(rows[0], how, at=unit.now_micros, who=self._who, note=self._note, successor=self.successor)]
        )
        if before.processor == RELAY:
            await tables.held.remove(rows)
            return
        _count(positions, rows, "waiting")
        await tables.held.save([self._successor(unit)])
        await _advance(tables, positions)

    def _successor(self, unit: UnitOfWork) -> HeldRow:
        """Return the new message in the place of the old one."""
        now = unit.now_micros
        return HeldRow(
            *self._before.place,
            self._before.key,
            RETRY,
            seal(self._draft.envelope),
            due=now,
            first_at=now,
            last_at=now,
            replaces=self._edit.replaces,
        )


async def _lock(tables: StoreTransaction, places: Iterable[HeldPlace]) -> dict[Place, PositionRow]:
    """Return the positions that count what is held at places, locked where an engine locks."""
    wanted: dict[str, set[tuple[str, int]]] = {}
    for processor, topic, partition, _ in places:
        wanted.setdefault(processor, set()).add((topic, partition))
    return {
        (row.processor, row.topic, row.partition): row
        for processor in sorted(wanted)
        for row in await tables.positions.load(processor, places=sorted(wanted[processor]))
    }


def _count(positions: dict[Place, PositionRow], rows: Iterable[HeldRow], instead: str) -> None:
    """Count letters that are dead no more as something else."""
    for row in rows:
        position = positions.get((row.processor, row.topic, row.partition))
        if position is not None:
            position.dead -= 1
            setattr(position, instead, getattr(position, instead) + 1)


async def _advance(tables: StoreTransaction, positions: dict[Place, PositionRow]) -> None:
    if positions:
        await tables.positions.advance(list(positions.values()))


__all__ = ["DISCARDED", "EDITED", "PUBLISHED", "Discard", "Redrive", "Replace"]
