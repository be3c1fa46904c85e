"""Messages that wait or are dead, and dead letters that an operator has closed: the rows, and what an engine does with them.

A held message keeps the place of its record, (processor, topic, partition, offset), so that what becomes of it becomes of it there. A dead
letter that is closed leaves that place and is kept beside it, with its bytes, as what an operator did to it:

    discarded   given up with a note; counts as skipped
    edited      another message stands in its place, which names this one in `replaces`
    published   a row that the log could not take was said again, as a new row of the journal

Neighbours: `ports` hands these to engines; `turn` holds messages, `letter_work` closes them, `letters` shows both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

HeldPlace = tuple[str, str, int, int]
"""(processor, topic, partition, offset)."""
Mark = tuple[int, str, str, int, int, int]
"""Where a page of letters ends: (time, processor, topic, partition, offset, number)."""
FIRST: Mark = (-1 << 62, "", "", -1, -1 << 62, -1)
"""Before every letter."""


class HeldRow(msgspec.Struct):
    """A message that waits or is dead (`state` retry, behind, not_yet, dead); times in microseconds, `value` as `foreign.pack` made it.

    `attempts` counts since it was last redriven; what was before that is in `history`, see `letter`. `fingerprint` is that of the last
    failure, at `last_at`. `replaces` is the id of the message whose place an edited one has taken.
    """

    processor: str
    topic: str
    partition: int
    offset: int
    key: str
    state: str
    value: bytes
    reason: str = ""
    detail: str = ""
    attempts: int = 0
    due: int = 0
    deadline: int = 0
    first_at: int = 0
    fingerprint: str = ""
    last_at: int = 0
    history: str = ""
    replaces: str = ""

    @property
    def place(self) -> HeldPlace:
        """Return where it is held."""
        return self.processor, self.topic, self.partition, self.offset

    @property
    def mark(self) -> Mark:
        """Return where it stands among dead letters, oldest first."""
        return self.first_at, self.processor, self.topic, self.partition, self.offset, 0


class ClosedRow(msgspec.Struct):
    """A dead letter that was closed: what it was, and `how`, when and by whom it was closed; `number` tells those of one place apart."""

    processor: str
    topic: str
    partition: int
    offset: int
    number: int
    key: str
    value: bytes
    reason: str
    detail: str
    attempts: int
    first_at: int
    fingerprint: str
    last_at: int
    history: str
    replaces: str
    how: str
    at: int
    who: str
    note: str = ""
    successor: str = ""
    """The id of the message that took its place."""

    @property
    def mark(self) -> Mark:
        """Return where it stands among closed letters, in the order of closing."""
        return self.at, self.processor, self.topic, self.partition, self.offset, self.number

    @classmethod
    def of(cls, row: HeldRow, how: str, *, at: int, who: str, note: str = "", successor: str = "") -> ClosedRow:
        """Return a dead letter as a closed one; the store gives it its number."""
        kept = {name: getattr(row, name) for name in _KEPT}
        return cls(number=0, how=how, at=at, who=who, note=note, successor=successor, **kept)


_KEPT = tuple(name for name in ClosedRow.__struct_fields__ if name in HeldRow.__struct_fields__)


class FirstHeld(NamedTuple):
    """The first held message of a key, behind which the others of the key wait; `due` in microseconds.

    Messages without a key hold nobody up: of those the first is named that is not dead.
    """

    topic: str
    partition: int
    key: str
    state: str
    due: int
    offset: int


class LetterFilter(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which letters of a store are meant; None means any.

    `since` and `until` (microseconds, inclusive) bound the time of the last failure.
    """

    processor: str | None = None
    topic: str | None = None
    key: str | None = None
    reason: str | None = None
    fingerprint: str | None = None
    since: int | None = None
    until: int | None = None


class LetterGroup(msgspec.Struct, frozen=True):
    """Dead letters that failed in the same way: how many, their bytes, when the first and the last, and one of them."""

    fingerprint: str
    processor: str
    reason: str
    count: int
    size: int
    first_at: int
    last_at: int
    topic: str
    partition: int
    offset: int


class Held(Protocol):
    """Messages that wait or are dead, in the order of their offsets."""

    async def load(self, processor: str, *, keys: Sequence[str] | None = None) -> list[HeldRow]:
        """Return held messages of a processor, of some keys if given, by topic, partition, offset."""
        ...

    async def blocked(self, processor: str) -> list[FirstHeld]:
        """Return the first message of each key that is held."""
        ...

    async def save(self, rows: Sequence[HeldRow]) -> None:
        """Insert or replace."""
        ...

    async def remove(self, rows: Sequence[HeldRow]) -> None:
        """Remove."""
        ...

    async def list(self, *, state: str | None, limit: int) -> list[HeldRow]:
        """Return held messages of every processor, oldest first."""
        ...

    async def counts(self) -> dict[tuple[str, str, int], tuple[int, int]]:
        """Return (waiting, dead) per (processor, topic, partition)."""
        ...


class Letters(Protocol):
    """Dead letters as operators deal with them, and those they have closed."""

    async def page(self, wanted: LetterFilter, *, after: Mark, limit: int) -> list[HeldRow]:
        """Return dead letters behind a mark, oldest first."""
        ...

    async def take(self, places: Sequence[HeldPlace]) -> list[HeldRow]:
        """Return what is held at places, dead or not; inside a transaction it is locked until that ends."""
        ...

    async def groups(self, wanted: LetterFilter) -> list[LetterGroup]:
        """Return dead letters by fingerprint, processor and reason."""
        ...

    async def behind(self, rows: Sequence[HeldRow]) -> list[int]:
        """Return how many messages wait behind each."""
        ...

    async def close(self, rows: Sequence[ClosedRow]) -> None:
        """Keep letters as closed; who held them removes them."""
        ...

    async def closed(self, wanted: LetterFilter, *, after: Mark, limit: int) -> list[ClosedRow]:
        """Return closed letters behind a mark, in the order of closing."""
        ...

    async def expire(self, *, before: int) -> int:
        """Forget letters closed before a time; of rows that the log could not take the bytes alone, for the ledger counts them."""
        ...


__all__ = ["FIRST", "ClosedRow", "FirstHeld", "Held", "HeldPlace", "HeldRow", "LetterFilter", "LetterGroup", "Letters", "Mark"]
