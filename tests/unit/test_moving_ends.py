"""Positions and ends move while they are compared: what others do in between is not taken for a restored copy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from millrace import Application
from millrace.engines.sqlite import SqliteEngine
from millrace.errors import Recovery
from millrace.ports import PositionRow, TopicInfo
from millrace.runtime import check_positions
from millrace.testing.conformance.sample import Add, teller
from millrace.testing.settling import settled
from millrace.testing.wrapping import Wrapped, WrappedEngine


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Application]:
    """A running application."""
    found = Application("sample", [teller()], engine=SqliteEngine(tmp_path))
    await found.start()
    yield found
    await found.stop()


async def tally(app: Application) -> TopicInfo:
    """Return the topic as it is now."""
    return next(info for info in await app.parts.log.topics() if info.name == "tally")


def row_at(info: TopicInfo, offset: int) -> PositionRow:
    """Return a position in the topic's first partition."""
    return PositionRow("p", info.name, 0, offset=offset, identity=info.identity)


async def test_who_has_read_on_meanwhile_is_not_ahead(app: Application) -> None:
    """A position behind an end that was asked for before is compared with the end of now; behind that one it stops its reader."""
    before = await tally(app)
    await app.parts.administration.put("tally", [("a", b"1"), ("a", b"2")], partition=0)
    await check_positions([row_at(before, 2)], app.parts.log, before={"tally": before}, reader="r")
    with pytest.raises(Recovery, match="behind the log's end 2"):
        await check_positions([row_at(before, 3)], app.parts.log, before={"tally": before}, reader="r")


async def test_who_has_published_meanwhile_is_not_ahead(app: Application, tmp_path: Path) -> None:
    """Another process commits and publishes while a relay compares its head with the log: that is no restored store."""

    class Busy(Wrapped):
        """Lets the other process commit and publish around every answer about a source."""

        async def published(self, source: str, epoch: int) -> int:
            """Answer in the midst of it."""
            for _ in range(2):
                await app.execute(Add(name="a"))
                await settled(app)
            return await self.inner.published(source, epoch)

    engine: Any = WrappedEngine(SqliteEngine(tmp_path), log=Busy)
    other = Application("sample", [teller()], engine=engine)
    await other.open()
    await other.hosts["teller"].check()
    await other.stop()
