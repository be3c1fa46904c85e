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
    pace, passed = Pace(0.05), list[float]()

    async def come(after_s: float) -> None:
        await asyncio.sleep(after_s)
        await pace.wait()
        passed.append(time.monotonic())

    await asyncio.gather(*(come(i * 0.002) for i in range(60)))
    gaps = [later - earlier for earlier, later in pairwise(passed)]
    crowds = 1 + sum(gap > 0.02 for gap in gaps)
    assert len(passed) == 60
    assert crowds <= (passed[-1] - passed[0]) / 0.05 + 2
