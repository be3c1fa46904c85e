"""A common beat: what several parties do within one beat of each other is done together.

Time is cut into cells of equal length, the same for all who share the length. Whoever comes while nobody has passed in the current
cell passes at once, so nothing waits while little happens; whoever comes later passes with all others when the next cell begins.

Neighbours: relays of one process share a `Pace`, so their appends share a flush of the log; followers of one store share theirs, so their
turns share a commit; stores pass at different moments, so that the followers of all of them do not hold up what is urgent in one go.
"""

from __future__ import annotations

import asyncio
import time


class Pace:
    """Cells of `every_s` seconds.

    Args:
        every_s: their length.
        shift: a part of a cell, from 0 to 1, by which they begin earlier, for parties that had better not work at the same moment.
    """

    def __init__(self, every_s: float, *, shift: float = 0.0) -> None:
        self._every_s = every_s
        self._shift_s = shift * every_s
        self._passed = -1.0

    def left_s(self) -> float:
        """Return how long to wait before passing."""
        now = time.monotonic() + self._shift_s
        return max(0.0, (self._passed + 1) * self._every_s - now)

    def pass_now(self) -> None:
        """Note that somebody passes; who waited until a cell begins belongs to that cell, even if woken a little early."""
        now = time.monotonic() + self._shift_s
        self._passed = max(self._passed, (now + self._every_s / 4) // self._every_s)

    async def wait(self) -> None:
        """Wait for the turn to pass, and pass."""
        left = self.left_s()
        if left > 0:
            await asyncio.sleep(left)
        self.pass_now()
