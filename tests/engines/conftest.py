"""Tests of single engines, on real servers where the engine needs one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from millrace.testing.conformance.kafka_kit import address
from tests.engines.kafka_places import Places


@pytest_asyncio.fixture
async def places() -> AsyncIterator[Places]:
    """Names of its own on the cluster for tests."""
    found = Places(address())
    yield found
    await found.close()
