"""The ledger's equations on figures: each difference is named with its place and both figures."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from millrace.engines.sqlite import SqliteEngine
from millrace.held import HeldRow
from millrace.ledger import LedgerLine, check_ledger
from millrace.ports import JournalEntry, PositionRow, TopicSpec

SOUND = PositionRow("p", "t", 0, offset=12, start=2, received=10, handled=4, duplicate=1, ignored=1, skipped=1, waiting=1, dead=2)
HELD = [HeldRow("p", "t", 0, offset, "k", state, b"") for offset, state in ((3, "dead"), (4, "dead"), (5, "retry"))]


async def differences(folder: Path, row: PositionRow, held: list[HeldRow]) -> list[str]:
    """What the ledger says of a store with this position and these held messages."""
    engine = SqliteEngine(folder)
    parts, store = engine.log(), engine.store("s")
    await parts.log.open()
    await store.open()
    transaction = await store.begin()
    await transaction.positions.advance([row])
    await transaction.held.save(held)
    await transaction.commit()
    lines = await check_ledger([("/a/s", store)], parts)
    await store.close()
    await parts.log.close()
    await engine.stop()
    return [line.difference for line in lines if not line.balanced]


async def test_sound_figures_balance(tmp_path: Path) -> None:
    """Received is what was read, and the sum of what became of it."""
    assert await differences(tmp_path, SOUND, HELD) == []


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"offset": 13}, "received s.p on t/0: expected 11, found 10 (-1)"),
        ({"handled": 3}, "accounted s.p on t/0: expected 10, found 9 (-1)"),
        ({"waiting": 2, "handled": 3}, "waiting s.p on t/0: expected 2, found 1 (-1)"),
        ({"dead": 1, "handled": 5}, "dead letters s.p on t/0: expected 1, found 2 (+1)"),
    ],
)
async def test_differences_are_named(tmp_path: Path, change: dict[str, int], expected: str) -> None:
    """Each equation fails alone, with the place and both figures."""
    assert await differences(tmp_path, msgspec.structs.replace(SOUND, **change), HELD) == [expected]


@pytest.mark.parametrize("lost, line", [(0, "dead letters"), (2, "waiting")])
async def test_lost_held_messages_are_named(tmp_path: Path, lost: int, line: str) -> None:
    """A held message that is gone is missed by the counter of its state."""
    rest = HELD[:lost] + HELD[lost + 1 :]
    (difference,) = await differences(tmp_path, SOUND, rest)
    assert difference.startswith(f"{line} s.p on t/0:")


async def test_publication_is_counted(tmp_path: Path) -> None:
    """Rows of the journal up to the relay's position are in the log, or the relay's dead letters."""
    engine = SqliteEngine(tmp_path)
    parts, store = engine.log(), engine.store("s")
    await parts.log.open()
    await parts.log.ensure([TopicSpec("t", 1)])
    await store.open()
    transaction = await store.begin()
    first = await transaction.journal.reserve(3)
    await transaction.journal.append([JournalEntry(first + i, "t", 0, "k", None, None, b"x") for i in range(3)])
    await transaction.commit()
    rows, _ = await store.reader.journal.tail(0, limit=10)
    await parts.log.append("/a/s", 1, [rows[0], rows[2]], after=0)

    found = [line.difference for line in await check_ledger([("/a/s", store)], parts) if not line.balanced]
    assert found == ["published s: expected 3, found 2 (-1)"]
    await store.close()
    await parts.log.close()
    await engine.stop()


def test_lines_read_well() -> None:
    """A difference is a sentence with a sign."""
    assert LedgerLine("log", "t/0", 5, 5).balanced
    assert LedgerLine("log", "t/0", 5, 7).difference == "log t/0: expected 5, found 7 (+2)"
