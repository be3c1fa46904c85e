"""How far a processor has read one partition: the row of truth, and what an operator's move makes of it.

Theory. Below `offset` everything was passed. An operator may move `offset` to anywhere in the log, and three things stay true:

    the ledger balances        what is passed over counts as received and skipped; what is given back is in `rewound`
    nothing has effect twice   below `Replay.known` records were passed before: they are delivered again to functions that are declared
                               replayable, and are duplicates for all others
    nothing is lost            what a move passed over is a `Gap`, so that a later move back really delivers it, to everybody

Sequences alone could not tell: what was skipped has lower ones than what came after it, and records of foreign producers have none. So
known ground is told by offsets, and sequences are kept beside it, to recognise a publication that the log has twice.

A move belongs into the transaction that writes a new fencing token: whoever reads on with what he knew before is refused.

Neighbours: `ports` hands the row to engines; `reset` moves it, `turn` advances it, `replay` tells what is delivered again.
"""

from __future__ import annotations

import msgspec


class Gap(msgspec.Struct):
    """Offsets [first, end) that a move passed over; `sources` holds the sequences that had been seen before it."""

    first: int
    end: int
    sources: dict[str, int]


class Replay(msgspec.Struct):
    """What moves have left behind.

    Below `known` records were passed before, those in `gaps` unread. `sources` holds the sequences met since the last move back.
    """

    known: int
    gaps: list[Gap] = []
    sources: dict[str, int] = {}

    def gap_at(self, offset: int) -> Gap | None:
        """Return the gap that an offset lies in."""
        return next((gap for gap in self.gaps if gap.first <= offset < gap.end), None)


class PositionRow(msgspec.Struct):
    """How far a processor has read one partition, who owns it, and what became of what it read.

    `sources` maps "source@epoch" to the last sequence seen. The counters only grow: received = handled + duplicate +
    ignored + skipped + what is held (waiting or dead) now. Offsets that hold no record count as ignored. What was received more than
    once, because the position was moved back, is in `rewound`: offset - start + rewound = received.
    """

    processor: str
    topic: str
    partition: int
    offset: int = 0
    token: int = 0
    start: int = 0
    identity: str = ""
    sources: dict[str, int] = {}
    received: int = 0
    handled: int = 0
    duplicate: int = 0
    ignored: int = 0
    skipped: int = 0
    waiting: int = 0
    dead: int = 0
    rewound: int = 0
    replay: Replay | None = None

    def move(self, target: int, *, first: int, end: int, identity: str) -> None:
        """Go on from `target` in a topic of that identity, which has the offsets [first, end)."""
        if self.identity != identity:  # another topic of that name: no record of it was read
            self.identity, self.offset, self.replay = identity, first, None
            self.rewound = self.received - (first - self.start)
        before, replay = self.offset, self.replay or Replay(0)
        known = max(replay.known, min(before, end))  # what lies behind the end of a log that was restored will be new
        gaps = [gap for gap in replay.gaps if gap.end > first]
        if target > before:
            fresh = max(before, replay.known)
            gaps += [Gap(fresh, target, dict(self.sources))] if target > fresh else []
            known = max(known, target)
            self.received += target - before
            self.skipped += target - before
        else:
            self.rewound += before - target
        self.offset = target
        met = replay.sources if target > before else {}
        self.replay = Replay(known, gaps, met) if gaps or target < known else None

    def cross(self, first: int, end: int) -> None:
        """Note that [first, end) was read: what lay there is no gap any more, and behind known ground there is nothing to remember."""
        replay = self.replay
        if replay is None:
            return
        if first < replay.known:
            replay.gaps = [part for gap in replay.gaps for part in _without(gap, first, end)]
        if end >= replay.known and not replay.gaps:
            self.replay = None


def _without(gap: Gap, first: int, end: int) -> list[Gap]:
    """Return what is left of a gap without [first, end)."""
    left = (Gap(gap.first, min(gap.end, first), gap.sources), Gap(max(gap.first, end), gap.end, gap.sources))
    return [part for part in left if part.first < part.end]


__all__ = ["Gap", "PositionRow", "Replay"]
