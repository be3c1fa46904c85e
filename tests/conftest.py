"""What all tests share: what shops have left on servers is deleted at the end."""

from __future__ import annotations

from tests.shop_places import forget_all


def pytest_sessionfinish() -> None:
    """Delete what shops of this process have left on servers."""
    forget_all()
