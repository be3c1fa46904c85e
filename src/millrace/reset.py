"""Where an operator wants a processor to go on reading, and the transaction that moves it there.

A move writes a new fencing token into every position it concerns, in the transaction that moves it. So it needs no processor to stand
still: whoever has a turn in hand that began before is refused at its commit, drops it, and claims the partitions from where they are now.

    crash before the commit    nothing has moved
    crash after it             everything has; instances that were not called are fenced at their next commit and go on rightly

Neighbours: `consumers` submits a `Move` to the writer of a service; `read_position` says what it makes of a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from copy import deepcopy
from datetime import UTC, datetime

import msgspec

from millrace.clock import to_micros
from millrace.errors import ConfigurationError
from millrace.ports import LogParts, PositionRow, StoreReader, TopicInfo
from millrace.unit_of_work import UnitOfWork
from millrace.writer import Waiting

EARLIEST, LATEST = "earliest", "latest"
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.IGNORECASE)


class Target(msgspec.Struct, frozen=True):
    """The offset at which to go on in one partition; with `back_only`, a position before it stays."""

    topic: str
    partition: int
    offset: int
    first: int
    end: int
    identity: str
    back_only: bool = False

    def of(self, row: PositionRow) -> int:
        """Return where a position goes."""
        return max(self.first, min(row.offset, self.offset)) if self.back_only and row.identity == self.identity else self.offset


class Shift(msgspec.Struct, frozen=True):
    """How one position moves; `before` is None where the partition was never read."""

    topic: str
    partition: int
    before: int | None
    after: int
    end: int
    """The end of the partition when this was found out."""


def parse_moment(text: str, *, now: datetime) -> datetime:
    """Return a moment of the past.

    Raises:
        ConfigurationError: it is no RFC 3339 date and time with an offset, or in the future.
    """
    try:
        if not _RFC_3339.fullmatch(text):
            raise ValueError(text)
        moment = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(f"{text!r} is no moment; write date, time and offset as RFC 3339 does: 2026-01-31T12:00:00Z") from error
    if moment > now:
        raise ConfigurationError(f"{text!r} is in the future; now it is {now.astimezone(UTC).isoformat(timespec='seconds')}")
    return moment


async def find_targets(parts: LogParts, topics: Iterable[str], to: str | datetime) -> list[Target]:
    """Return where to go on in each partition of topics: at the first record, behind the last, or at the first since a moment."""
    infos = {info.name: info for info in await parts.log.topics()}
    found: list[Target] = []
    for topic in sorted(set(topics) & infos.keys()):
        offsets = await _offsets(parts, infos[topic], to)
        found += [
            Target(topic, partition, offset, first, end, infos[topic].identity, back_only=isinstance(to, datetime))
            for partition, (offset, (first, end)) in enumerate(zip(offsets, infos[topic].ranges, strict=True))
        ]
    return found


async def _offsets(parts: LogParts, info: TopicInfo, to: str | datetime) -> Sequence[int]:
    if isinstance(to, datetime):
        since = await parts.administration.first_since(info.name, micros=to_micros(to))
        return [min(max(offset, first), end) for offset, (first, end) in zip(since, info.ranges, strict=True)]
    return [first if to == EARLIEST else end for first, end in info.ranges]


async def preview(tables: StoreReader, processor: str, targets: Sequence[Target]) -> list[Shift]:
    """Return what a move would do; changes nothing."""
    rows = {(row.topic, row.partition): row for row in await tables.positions.load(processor)}
    return [_shift(deepcopy(rows.get((target.topic, target.partition))), target) for target in targets]


def _shift(row: PositionRow | None, target: Target) -> Shift:
    fresh = PositionRow("", target.topic, target.partition, offset=target.first, identity=target.identity)
    return Shift(target.topic, target.partition, None if row is None else row.offset, target.of(row or fresh), target.end)


class Move(Waiting):
    """Moves the positions of a processor, each with a new fencing token."""

    def __init__(self, processor: str, targets: Sequence[Target]) -> None:
        super().__init__()
        self._processor = processor
        self._targets = targets
        self.shifts: list[Shift] = []

    async def run(self, unit: UnitOfWork) -> None:
        """Nothing yet: a turn of the processor in this very transaction writes its positions first, and is then moved with them."""

    async def settle(self, unit: UnitOfWork) -> None:
        """Claim, move, store."""
        positions, targets = unit.transaction.positions, self._targets
        known = {(row.topic, row.partition) for row in await positions.load(self._processor)}
        claimed = await positions.claim(self._processor, [(each.topic, each.partition, each.first, each.identity) for each in targets])
        self.shifts = []
        for row, target in zip(claimed, targets, strict=True):
            shift = _shift(row, target)
            self.shifts.append(shift if (row.topic, row.partition) in known else msgspec.structs.replace(shift, before=None))
            row.move(target.of(row), first=target.first, end=target.end, identity=target.identity)
        await positions.advance(claimed)


__all__ = ["EARLIEST", "LATEST", "Move", "Shift", "Target", "find_targets", "parse_moment", "preview"]
