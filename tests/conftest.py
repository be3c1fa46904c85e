"""What all tests share: staying with files, and that what shops have left on servers is deleted at the end."""

from __future__ import annotations

import pytest

from tests.shop_places import CHOICE, forget_all


@pytest.fixture
def in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test is about lies in files, wherever the shops of this run are."""
    monkeypatch.delenv(CHOICE, raising=False)


def pytest_sessionfinish() -> None:
    """Delete what shops of this process have left on servers."""
    forget_all()
