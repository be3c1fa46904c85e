"""`millrace recover` on files of which one was restored from an older copy: what it says, when it asks, its exit status."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.command_line import Millrace, complaint
from tests.sample_shop import application, place, settle


@pytest.fixture
def restored(data: Path, tmp_path: Path) -> Path:
    """A data folder whose orders were put back to before the last order."""
    shutil.copytree(data, tmp_path / "copy")
    asyncio.run(_order("late"))
    for file in data.glob("orders.db*"):
        file.unlink()
    for file in (tmp_path / "copy").glob("orders.db*"):
        shutil.copy2(file, data)
    return data


async def _order(name: str) -> None:
    async with application() as app:
        await place(app, name, "sku1")
        await settle(app)


def test_nothing_to_recover(data: Path, millrace: Millrace) -> None:
    """Where all fits together it says so, and changes nothing."""
    assert millrace("recover --dry-run").out == "nothing to recover: stores and log fit together\n"
    ran = millrace("recover --yes --json")
    assert (ran.status, ran.json) == (0, {"needed": False, "done": False, "sources": [], "readers": []})


def test_dry_run_names_what_is_lost(restored: Path, millrace: Millrace) -> None:
    """A dry run names the fact that the store has lost, exits 1, and changes nothing, so the second says the same."""
    first, second = millrace("recover --dry-run --json"), millrace("recover --dry-run --json")
    assert (first.status, first.json) == (1, second.json)
    (source,) = first.json["sources"]
    assert (source["service"], source["epoch"], source["new_epoch"]) == ("orders", 1, 2)
    assert [(fact["topic"], fact["key"]) for fact in source["lost"]] == [("orders", "late")]
    words = millrace("recover --dry-run").out
    assert "/shop/orders: epoch 1 -> 2" in words
    assert "shop.orders.order-placed.v1 of late" in words


def test_asks_first(restored: Path, millrace: Millrace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who says no, or cannot be asked, has changed nothing; who says yes can start again, and the ledger is right."""
    assert "recover --json cannot ask" in complaint(millrace("recover --json"))
    for answer in ("n", ""):
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        assert millrace("recover").status == 1
    assert millrace("recover --dry-run").status == 1

    monkeypatch.setattr("builtins.input", lambda _: "y")
    ran = millrace("recover")
    assert (ran.status, ran.out.splitlines()[-1]) == (0, "recovered: start the application again")
    asyncio.run(_order("later"))
    assert millrace("ledger").status == 0
