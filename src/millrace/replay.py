"""What becomes of records that lie on known ground, below the point from which an operator moved a position back.

    never read, because a move had passed them over     delivered, to everybody
    passed before, to a function declared replayable    delivered again
    passed before, to any other function                dropped and counted as duplicates
    passed before, unreadable                           dropped and counted: the dead letters had it

This is decided as soon as records are opened, so that no activity is called for what will be dropped. `read_position` says which ground is
known; that what a loop knows of it is current is what the fencing token says, for a move writes a new one.

Neighbours: `runtime` parts what it has opened; `turn` handles what is delivered again before what is fresh.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from millrace.delivery import Delivery
from millrace.read_position import Replay


class Parted(msgspec.Struct):
    """Deliveries of one read: `again` lie on known ground, `repeats` of them were dropped."""

    fresh: list[Delivery]
    again: list[Delivery]
    repeats: int


def part(deliveries: Iterable[Delivery], replay: Replay) -> Parted:
    """Tell what is fresh, what is delivered again, and how many are dropped."""
    found = Parted([], [], 0)
    for delivery in deliveries:
        if delivery.offset >= replay.known:
            found.fresh.append(delivery)
        elif replay.gap_at(delivery.offset) is not None:
            found.again.append(delivery)
        elif delivery.pattern is not None and delivery.pattern.replayable:
            delivery.replayed = True
            found.again.append(delivery)
        else:
            found.repeats += 1
    return found


__all__ = ["Parted", "part"]
