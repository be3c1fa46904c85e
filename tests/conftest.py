"""What all tests share: staying with files, and that what shops have left on servers is deleted at the end.

Who starts the tests in the background of a shell has them ignore Ctrl-C, and every process that they start with them; here it counts again.
"""

from __future__ import annotations

import signal

import pytest

from tests.shop_places import CHOICE, forget_all

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test is about lies in files, wherever the shops of this run are."""
    monkeypatch.delenv(CHOICE, raising=False)


def pytest_sessionfinish() -> None:
    """Delete what shops of this process have left on servers."""
    forget_all()
