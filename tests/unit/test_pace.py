"""Parties that share a beat pass together, and whoever comes alone does not wait."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

from millrace.pace import Pace


async def test_the_first_does_not_wait() -> None:
    """Nothing has passed for a while: nobody is held up."""
    assert Pace(1000.0).left_s() == 0.0


async def test_those_who_come_later_pass_together() -> None:
    """Within a cell that somebody has passed in, all wait for the same moment; no cell is passed in twice."""
    pace, passed = Pace(0.2), list[float]()

    async def come_again(times: int) -> None:
        for _ in range(times):
            await pace.wait()
            passed.append(time.monotonic())

    await asyncio.gather(*(come_again(4) for _ in range(20)))
    crowds = 1 + sum(later - earlier > 0.08 for earlier, later in pairwise(passed))
    assert len(passed) == 80
    assert crowds <= (passed[-1] - passed[0]) / 0.2 + 2
