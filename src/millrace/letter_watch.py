"""What piles up: how many dead letters a service has, how old and how large, held against bounds; and letters closed long ago, which go.

Beyond a bound the service's entry in `/health` says `alarm`, and `doctor` finds it wrong. An alarm is for people: the process is well, so
its health stays what it is, and nobody restarts it for that. Dead letters themselves are never removed; only an operator closes them.

Neighbours: `service` declares the bounds, `hosting` measures about once a minute, `health` and `doctor` judge.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from millrace.errors import ConfigurationError
from millrace.held import LetterFilter
from millrace.ports import StoreReader
from millrace.unit_of_work import UnitOfWork
from millrace.writer import Waiting


class LetterBounds(msgspec.Struct, frozen=True):
    """From where on dead letters of a service are an alarm, and how long closed ones are kept; None: no bound, for ever.

    Args:
        older: age of the oldest, by business time.
        more: how many.
        larger: bytes of all of them.
        closed_kept: how long a letter is kept after it was closed.

    Raises:
        ConfigurationError: one is below 0.
    """

    older: timedelta | None = timedelta(days=1)
    more: int | None = 1000
    larger: int | None = 64 << 20
    closed_kept: timedelta | None = timedelta(days=30)

    def __post_init__(self) -> None:
        """Check them."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and value < type(value)(0):
                raise ConfigurationError(f"LetterBounds: {name} is {value}; 0 or more, or None for no bound")


class Pile(msgspec.Struct, frozen=True):
    """The dead letters of a service: how many, their bytes, and since when the oldest is held (microseconds, 0 without any)."""

    count: int = 0
    size: int = 0
    oldest: int = 0

    def age_s(self, *, now_micros: int) -> float:
        """Return the age of the oldest in seconds."""
        return max(0, now_micros - self.oldest) / 1_000_000 if self.count else 0.0

    def beyond(self, bounds: LetterBounds, *, now_micros: int) -> str | None:
        """Return in words which bounds are passed, None where none is."""
        found: list[str] = []
        if bounds.more is not None and self.count > bounds.more:
            found.append(f"more than {bounds.more:,}")
        if bounds.older is not None and self.age_s(now_micros=now_micros) > bounds.older.total_seconds():
            found.append(f"the oldest is held for more than {bounds.older}")
        if bounds.larger is not None and self.size > bounds.larger:
            found.append(f"{self.size:,} bytes, more than {bounds.larger:,}")
        return f"{self.count:,} dead letters: {'; '.join(found)}" if found else None


async def measure(tables: StoreReader) -> Pile:
    """Return what has piled up."""
    groups = await tables.letters.groups(LetterFilter())
    oldest = min((group.first_at for group in groups), default=0)
    return Pile(sum(group.count for group in groups), sum(group.size for group in groups), oldest)


class ForgetClosed(Waiting):
    """Forgets letters that were closed long enough ago."""

    def __init__(self, kept: timedelta) -> None:
        super().__init__()
        self._kept_micros = int(kept.total_seconds() * 1_000_000)

    async def run(self, unit: UnitOfWork) -> None:
        """Remove the rows."""
        await unit.transaction.letters.expire(before=unit.now_micros - self._kept_micros)


__all__ = ["ForgetClosed", "LetterBounds", "Pile", "measure"]
