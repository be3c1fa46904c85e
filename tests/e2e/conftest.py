"""Real shops for the tests of this folder: one per test on a folder of its own, or one for a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.running_shop import RunningShop


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Where the shop of a test keeps its state."""
    return tmp_path / "data"


@pytest.fixture(scope="module")
def shared_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningShop]:
    """A shop without shipping delay that all tests of a file use."""
    with RunningShop(tmp_path_factory.mktemp("shared") / "data", shipping_delay="0") as shop:
        yield shop
        assert shop.complaints == ""
