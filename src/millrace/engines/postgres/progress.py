"""The tables of progress: positions with fencing tokens, held messages, timers.

A position's token is a column of its own, so the claim of a new owner is one statement that waits for the turn in hand of the old one; the
rest of the row is one small JSON value, because it is always read and written whole. A turn locks the positions that it compares
before anything else, so a token that was compared is still the token when the turn commits.

Neighbours: implements `Positions`, `Held` and `Timers` of `ports`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from millrace.engines.postgres.arrays import blobs, integers, restored, scalar, texts
from millrace.engines.postgres.table import Table
from millrace.held import FirstHeld, HeldRow
from millrace.ports import PositionRow, TimerRow

_decode: Callable[[bytes], PositionRow] = msgspec.json.Decoder(PositionRow).decode
_encode = msgspec.json.Encoder().encode


class PostgresPositions(Table):
    """See `ports.Positions`."""

    async def load(self, processor: str, *, places: Sequence[tuple[str, int]] | None = None) -> list[PositionRow]:
        """Return the positions of a processor: all, or those of some places that exist; locked in a write transaction."""
        if places is None:
            rows = await self._locked("load_positions", scalar(processor))
        else:
            ordered = sorted(set(places))
            topics, partitions = texts([topic for topic, _ in ordered]), integers([partition for _, partition in ordered])
            rows = await self._locked("load_places", scalar(processor), topics, partitions)
        return [_row(token, body) for _, _, token, body in rows]

    async def claim(self, processor: str, partitions: Sequence[tuple[str, int, int, str]]) -> list[PositionRow]:
        """Write a new fencing token into each position; those that are there keep everything else."""
        fresh = {(t, n): PositionRow(processor, t, n, offset=start, start=start, identity=i, sources={}) for t, n, start, i in partitions}
        ordered = sorted(fresh)
        topics, numbers = texts([topic for topic, _ in ordered]), integers([number for _, number in ordered])
        bodies = blobs([_encode(fresh[place]) for place in ordered])
        rows = await self._all("claim_positions", scalar(processor), topics, numbers, bodies)
        found = {(row.topic, row.partition): row for row in (_row(token, body) for _, _, token, body in rows)}
        return [found[topic, number] for topic, number, _, _ in partitions]

    async def advance(self, rows: Sequence[PositionRow]) -> None:
        """Store rows."""
        last = {(row.processor, row.topic, row.partition): row for row in rows}
        if last:
            ordered = sorted(last)
            self._put(
                "save_positions",
                texts([processor for processor, _, _ in ordered]),
                texts([topic for _, topic, _ in ordered]),
                integers([partition for _, _, partition in ordered]),
                integers([last[place].token for place in ordered]),
                blobs([_encode(last[place]) for place in ordered]),
            )

    async def forget(self, processor: str) -> None:
        """Remove a processor's positions, held messages, timers and foreign ids."""
        for query in ("forget_positions", "forget_held", "forget_timers", "forget_seen"):
            self._put(query, scalar(processor))

    async def processors(self) -> list[str]:
        """Return the names of all processors that have positions."""
        return [restored(name) for (name,) in await self._all("processors")]


def _row(token: int, body: bytes) -> PositionRow:
    row = _decode(body)
    row.token = token
    return row


class PostgresHeld(Table):
    """See `ports.Held`."""

    async def load(self, processor: str, *, keys: Sequence[str] | None = None) -> list[HeldRow]:
        """Return held messages of a processor, locked in a write transaction."""
        if keys is None:
            return _held(await self._locked("load_held", scalar(processor)))
        return _held(await self._locked("load_held_keys", scalar(processor), texts(sorted(set(keys)))))

    async def blocked(self, processor: str) -> list[FirstHeld]:
        """Return the first message of each held key."""
        rows = await self._all("blocked", scalar(processor))
        return [FirstHeld(restored(topic), partition, restored(key), *rest) for topic, partition, key, *rest in rows]

    async def save(self, rows: Sequence[HeldRow]) -> None:
        """Insert or replace."""
        last = {(row.processor, row.topic, row.partition, row.offset): row for row in rows}
        if last:
            columns = zip(*(msgspec.structs.astuple(last[place]) for place in sorted(last)), strict=True)
            self._put("save_held", *packed(columns))

    async def remove(self, rows: Sequence[HeldRow]) -> None:
        """Remove."""
        if rows:
            self._put("remove_held", *packed(zip(*((r.processor, r.topic, r.partition, r.offset) for r in rows), strict=True)))

    async def list(self, *, state: str | None, limit: int) -> list[HeldRow]:
        """Return held messages of every processor, oldest first."""
        return _held(await self._all("list_held", scalar(state), scalar(limit)))

    async def counts(self) -> dict[tuple[str, str, int], tuple[int, int]]:
        """Return (waiting, dead) per (processor, topic, partition)."""
        rows = await self._all("count_held")
        return {(restored(p), restored(t), n): (waiting, dead) for p, t, n, waiting, dead in rows}


def packed(columns: Iterable[tuple[Any, ...]]) -> list[bytes]:
    """Return columns of one type each as arrays."""
    return [_array_of[type(column[0])](column) for column in columns]


_array_of: dict[type, Callable[[Sequence[Any]], bytes]] = {str: texts, int: integers, bytes: blobs, bool: integers}


def _held(rows: Sequence[tuple[Any, ...]]) -> list[HeldRow]:
    return [HeldRow(*restored_row(row)) for row in rows]


def restored_row(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a row with its texts as they were given."""
    return tuple(restored(value) if isinstance(value, str) else value for value in row)


class PostgresTimers(Table):
    """See `ports.Timers`."""

    async def set(self, rows: Sequence[TimerRow]) -> None:
        """Insert or replace."""
        last = {(row.processor, row.key, row.name): row for row in rows}
        if last:
            self._put("set_timers", *packed(zip(*(msgspec.structs.astuple(last[place]) for place in sorted(last)), strict=True)))

    async def cancel(self, rows: Sequence[tuple[str, str, str]]) -> list[bool]:
        """Remove; say of each whether it was there."""
        if not rows:
            return []
        gone = {restored_row(row) for row in await self._all("cancel_timers", *packed(zip(*rows, strict=True)))}
        return [row in gone for row in rows]

    async def due(self, processor: str, *, partition: int, until: int, limit: int) -> list[TimerRow]:
        """Return what is due, earliest first; locked in a write transaction, so that nobody cancels what is about to fire.

        Those of one moment are put in order here: many may be due at midnight, and the server would sort all of them for each page.
        """
        rows = await self._locked("due_timers", scalar(processor), scalar(partition), scalar(until), scalar(limit))
        return sorted((TimerRow(*restored_row(row)) for row in rows), key=lambda row: (row.due, row.key, row.name))

    async def next(self, processor: str) -> dict[int, int]:
        """Return the earliest due time per partition."""
        return dict(await self._all("next_timers", scalar(processor)))

    async def page(self, processor: str, *, partition: int, after: tuple[int, str, str], limit: int) -> list[TimerRow]:
        """Return the timers of a partition above (due, key, name)."""
        due, key, name = after
        values = (scalar(processor), scalar(partition), scalar(due), scalar(key), scalar(name), scalar(limit))
        return [TimerRow(*restored_row(row)) for row in await self._all("page_timers", *values)]

    async def of_key(self, processor: str, key: str) -> list[TimerRow]:
        """Return the timers of a key."""
        return [TimerRow(*restored_row(row)) for row in await self._all("timers_of_key", scalar(processor), scalar(key))]

    async def count(self, processor: str | None = None, *, partition: int | None = None) -> int:
        """Return how many timers wait."""
        if processor is None:
            return (await self._all("count_timers"))[0][0]
        return (await self._all("count_timers_of", scalar(processor), scalar(partition)))[0][0]
