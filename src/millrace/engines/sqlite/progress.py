"""The tables of progress: positions with fencing tokens, held messages, timers.

A position's token is a column of its own, so the claim of a new owner is one statement; the rest of the row is one small JSON value,
because it is always read and written whole.

Neighbours: implements `Positions`, `Held` and `Timers` of `ports`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from millrace.engines.sqlite.table import Table, encode, json_text
from millrace.held import FirstHeld, HeldRow
from millrace.ports import PositionRow, TimerRow

_decode: Callable[[bytes], PositionRow] = msgspec.json.Decoder(PositionRow).decode


class SqlitePositions(Table):
    """See `ports.Positions`."""

    async def load(self, processor: str, *, places: Sequence[tuple[str, int]] | None = None) -> list[PositionRow]:
        """Return the positions of a processor: all, or those of some places that exist."""
        if places is None:
            return [_row(token, body) for token, body in self._all("load_positions", (processor,))]
        return [_row(token, body) for place in places for token, body in self._all("load_position", (processor, *place))]

    async def claim(self, processor: str, partitions: Sequence[tuple[str, int, int, str]]) -> list[PositionRow]:
        """Write a new fencing token into each position."""
        claimed: list[PositionRow] = []
        for topic, partition, start, identity in partitions:
            found = self._all("load_position", (processor, topic, partition))
            row = (
                _row(*found[0])
                if found
                else PositionRow(processor, topic, partition, offset=start, start=start, identity=identity, sources={})
            )
            row.token += 1
            claimed.append(row)
        await self.advance(claimed)
        return claimed

    async def advance(self, rows: Sequence[PositionRow]) -> None:
        """Store rows."""
        self._many("save_position", [(r.processor, r.topic, r.partition, r.token, encode(r)) for r in rows])

    async def forget(self, processor: str) -> None:
        """Remove a processor's positions, held messages, timers and foreign ids."""
        for query in ("forget_positions", "forget_held", "forget_timers", "forget_seen"):
            self._all(query, (processor,))

    async def processors(self) -> list[str]:
        """Return the names of all processors that have positions."""
        return [name for (name,) in self._all("processors")]


def _row(token: int, body: bytes) -> PositionRow:
    row = _decode(body)
    row.token = token
    return row


class SqliteHeld(Table):
    """See `ports.Held`."""

    async def load(self, processor: str, *, keys: Sequence[str] | None = None) -> list[HeldRow]:
        """Return held messages of a processor."""
        if keys is None:
            return [HeldRow(*row) for row in self._all("load_held", (processor,))]
        return [HeldRow(*row) for row in self._all("load_held_keys", (processor, json_text(keys)))]

    async def blocked(self, processor: str) -> list[FirstHeld]:
        """Return the first message of each held key."""
        return [FirstHeld(*row) for row in self._all("blocked", (processor,))]

    async def save(self, rows: Sequence[HeldRow]) -> None:
        """Insert or replace."""
        self._many("save_held", [msgspec.structs.astuple(row) for row in rows])

    async def remove(self, rows: Sequence[HeldRow]) -> None:
        """Remove."""
        self._many("remove_held", [(r.processor, r.topic, r.partition, r.offset) for r in rows])

    async def list(self, *, state: str | None, limit: int) -> list[HeldRow]:
        """Return held messages of every processor, oldest first."""
        return [HeldRow(*row) for row in self._all("list_held", (state, limit))]

    async def counts(self) -> dict[tuple[str, str, int], tuple[int, int]]:
        """Return (waiting, dead) per (processor, topic, partition)."""
        return {(p, t, n): (waiting, dead) for p, t, n, waiting, dead in self._all("count_held")}


class SqliteTimers(Table):
    """See `ports.Timers`."""

    async def set(self, rows: Sequence[TimerRow]) -> None:
        """Insert or replace."""
        self._many("set_timers", [msgspec.structs.astuple(row) for row in rows])

    async def cancel(self, rows: Sequence[tuple[str, str, str]]) -> list[bool]:
        """Remove; say of each whether it was there."""
        there: list[bool] = []
        for row in rows:
            self._all("cancel_timers", row)
            there.append(self._changes() > 0)
        return there

    async def due(self, processor: str, *, partition: int, until: int, limit: int) -> list[TimerRow]:
        """Return what is due, earliest first."""
        return [_timer(row) for row in self._all("due_timers", (processor, partition, until, limit))]

    async def next(self, processor: str) -> dict[int, int]:
        """Return the earliest due time per partition."""
        return dict(self._all("next_timers", (processor,)))

    async def page(self, processor: str, *, partition: int, after: tuple[int, str, str], limit: int) -> list[TimerRow]:
        """Return the timers of a partition above (due, key, name)."""
        return [_timer(row) for row in self._all("page_timers", (processor, partition, *after, limit))]

    async def of_key(self, processor: str, key: str) -> list[TimerRow]:
        """Return the timers of a key."""
        return [_timer(row) for row in self._all("timers_of_key", (processor, key))]

    async def count(self, processor: str | None = None, *, partition: int | None = None) -> int:
        """Return how many timers wait."""
        if processor is None:
            return self._all("count_timers")[0][0]
        return self._all("count_timers_of", (processor, partition))[0][0]


def _timer(row: tuple[str, str, str, int, int, int, str, bytes, str, str]) -> TimerRow:
    return TimerRow(*row[:5], bool(row[5]), *row[6:])
