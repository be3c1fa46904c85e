"""A running shop per test, on a folder of its own, with all services in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from millrace import ManualClock
from tests.parcomolo.http.shop import Shop, running


@pytest.fixture
async def shop(tmp_path) -> AsyncIterator[Shop]:
    """A shop without shipping delay whose clock stands still."""
    async with running(tmp_path / "data", ManualClock()) as found:
        yield found
