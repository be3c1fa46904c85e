"""A running shop per test, on a folder of its own, with all services in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from millrace import ManualClock
from parcomolo.configuration import STYLES
from tests.parcomolo.http.shop import Shop, running


@pytest.fixture
def style() -> str:
    """How the services work together: the default, or what a module's `in_both_styles` says."""
    return STYLES[0]


@pytest.fixture
async def shop(tmp_path, style: str) -> AsyncIterator[Shop]:
    """A shop without shipping delay whose clock stands still."""
    async with running(tmp_path / "data", ManualClock(), checkout=style) as found:
        yield found
