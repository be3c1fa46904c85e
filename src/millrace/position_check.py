"""Does a read position still fit the log? Whoever finds its place gone, or the other side restored, stops and says so.

Neighbours: `hosting` asks before anything is published, `runtime` whenever it has taken partitions over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from millrace.errors import Recovery
from millrace.ports import Log, PositionRow, TopicInfo

ADVICE = "restore what is newer, or let an operator decide where to go on (millrace recover)"


async def check_positions(rows: Sequence[PositionRow], log: Log, *, before: Mapping[str, TopicInfo], reader: str) -> None:
    """Compare read positions with the log as it was `before` they were read.

    Others may have read on meanwhile, what was appended meanwhile; so where a position is ahead of an end, the log is asked once more.

    Raises:
        Recovery: the place is gone, behind the end, or in a topic that was created anew.
    """
    infos = before
    if any(_is_ahead(row, before.get(row.topic)) for row in rows):
        infos = {info.name: info for info in await log.topics()}
    for row in rows:
        ahead = _is_ahead(row, before.get(row.topic))
        _check_position(row, (infos if ahead else before).get(row.topic), reader=reader)


def _is_ahead(row: PositionRow, info: TopicInfo | None) -> bool:
    return info is not None and row.partition < len(info.ranges) and row.offset > info.ranges[row.partition][1]


def _check_position(row: PositionRow, info: TopicInfo | None, *, reader: str) -> None:
    """Compare a read position with the log.

    Raises:
        Recovery: the place is gone, behind the end, or in a topic that was created anew.
    """
    place = f"{reader} on {row.topic}/{row.partition}"
    if row.topic.startswith("@"):
        return  # counts timers that failed; it is no place in the log
    if info is None or row.partition >= len(info.ranges):
        raise Recovery(f"{place}: the log has no such partition any more; it was replaced or restored from an older copy; {ADVICE}")
    first, end = info.ranges[row.partition]
    if row.identity != info.identity:
        raise Recovery(f"{place}: the topic was created anew since it was read; {ADVICE}")
    if row.offset > end:
        raise Recovery(f"{place}: position {row.offset} is behind the log's end {end}; the log was restored from an older copy; {ADVICE}")
    if row.offset < first:
        raise Recovery(
            f"{place}: position {row.offset} is gone, the log begins at {first}; records were removed before they were read; {ADVICE}"
        )


__all__ = ["check_positions"]
