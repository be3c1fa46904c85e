"""What the log says of stores that cannot be used: one line when it begins, one when it is over, and no traceback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from millrace import Application
from millrace.engines.sqlite import SqliteEngine
from millrace.errors import StoreUnavailable
from millrace.testing.wrapping import Wrapped, WrappedEngine
from millrace.trouble import Troubles
from tests import sample_shop

FULL = "inventory: full: no space left; trying again"
AGAIN = "inventory: works again"


class Narrow(Wrapped):
    """A transaction of a store whose disk is full, or broken in a way that nobody knows, for as long as `error` says."""

    error: Exception | None = None
    failures = 0

    async def commit(self) -> None:
        """Commit, or undo everything."""
        if Narrow.error is None or self.store.name != "inventory":
            await self.inner.commit()
            return
        Narrow.failures += 1
        await self.inner.rollback()
        raise Narrow.error


@pytest.fixture
async def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A shop whose inventory can lose its disk."""
    monkeypatch.setenv("SHOP_DATA", str(tmp_path))
    monkeypatch.setattr(Narrow, "error", None)
    monkeypatch.setattr(Narrow, "failures", 0)
    engine: Any = WrappedEngine(SqliteEngine(tmp_path), transaction=Narrow)
    async with Application("shop", [sample_shop.orders, sample_shop.inventory], engine=engine) as found:
        await sample_shop.settle(found)
        yield found


async def until(app: Application, condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    changed = app.hosts["inventory"].changed
    async with asyncio.timeout(60):
        while not condition():
            await changed.wait(changed.calls, 0.02)


async def test_a_full_disk_is_told_twice(app: Application, caplog: pytest.LogCaptureFixture) -> None:
    """However often it is tried: when it is full, and when there is room again; then everything is done that had to wait."""
    Narrow.error = StoreUnavailable("inventory", reason="full", detail="no space left")
    await sample_shop.place(app, "o1", "bun")
    await until(app, lambda: Narrow.failures >= 8)
    assert [record.getMessage() for record in caplog.records] == [FULL]

    Narrow.error = None
    await sample_shop.settle(app)
    await until(app, lambda: len(caplog.records) > 1)
    assert [record.getMessage() for record in caplog.records] == [FULL, AGAIN]
    assert not any(record.exc_info for record in caplog.records)


async def test_what_nobody_expects_keeps_its_traceback(app: Application, caplog: pytest.LogCaptureFixture) -> None:
    """An error of another kind is logged as it is, each time."""
    Narrow.error = OSError("the wire is loose")
    await sample_shop.place(app, "o1", "bun")
    await until(app, lambda: len(caplog.records) > 1)
    assert all(record.exc_info and "failed and is taken again" in record.getMessage() for record in caplog.records)
    Narrow.error = None
    await sample_shop.settle(app)


def test_a_store_works_again_when_nobody_suffers_any_more(caplog: pytest.LogCaptureFixture) -> None:
    """Per store and reason one line; who gives up trying does not say that it works."""
    troubles = Troubles()
    for who in ("a", "b", "a", "c"):
        troubles.met(who, StoreUnavailable("s", reason="full", detail="x"))
    troubles.met("a", StoreUnavailable("s", reason="read_only", detail="y"))
    troubles.over("a")
    assert caplog.messages == ["s: full: x; trying again", "s: read only: y; trying again"]
    troubles.over("b")
    troubles.forget("c")
    assert len(caplog.messages) == 2
    troubles.met("a", StoreUnavailable("s", reason="full", detail="x"))
    troubles.over("a")
    assert caplog.messages[2:] == ["s: full: x; trying again", "s: works again"]
