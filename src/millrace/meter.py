"""What a loop counts of its turns, for `/metrics`: a few additions per turn, nothing per message.

Bounds and meaning of the duration are those of `messaging.process.duration` of OpenTelemetry's semantic conventions for messaging: one
observation per processing operation, which is a turn here, from its collection to what it has changed in memory after the commit.

Neighbours: `runtime` keeps one per loop; `metrics` prints it.
"""

from __future__ import annotations

import time
from bisect import bisect_left

from millrace.notes import REFUSED
from millrace.retry import DEAD, RETRY
from millrace.turn import Turn

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


class Meter:
    """The figures of one processor in this process.

    Attributes:
        consumed: records taken from the log.
        turns: how many turns took at most so long: one more than `BOUNDS_S`, the last for all others.
        seconds: what they took together.
        failed: what became of messages that could not be handled: tried again, dead.
        refused: commands that were refused.
    """

    def __init__(self) -> None:
        self.consumed = 0
        self.turns = [0] * (len(BOUNDS_S) + 1)
        self.seconds = 0.0
        self.failed = {RETRY: 0, DEAD: 0}
        self.refused = 0

    def learn(self, turn: Turn) -> None:
        """Count a turn that is durable."""
        seconds = time.monotonic() - turn.begun
        self.consumed += sum(chunk.next - chunk.first for chunk in turn.chunks)
        self.seconds += seconds
        self.turns[bisect_left(BOUNDS_S, seconds)] += 1
        if turn.notes:
            self.refused += turn.notes.count(REFUSED)
            for state in self.failed:
                self.failed[state] += turn.notes.count(state)


__all__ = ["BOUNDS_S", "Meter"]
