"""A shop of which one part was restored from an older copy: it refuses to start, is recovered, and sells on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from millrace import ManualClock
from millrace.administration import balance
from millrace.errors import Recovery
from millrace.inspection import Inspection
from millrace.recovery import RecoveryPlan, recover
from parcomolo.bootstrap import assemble
from parcomolo.configuration import configuration
from tests.parcomolo.http.shop import running

pytestmark = pytest.mark.usefixtures("in_files")
"""Copies are made of files, wherever the shops of this run are; other engines are restored in the conformance suite."""


def copy(source: Path, target: Path, name: str) -> None:
    """Put a database with all that belongs to it in place of another."""
    target.mkdir(exist_ok=True)
    for path in target.glob(f"{name}.db*"):
        path.unlink()
    for path in source.glob(f"{name}.db*"):
        shutil.copy2(path, target)


async def sold(data: Path, clock: ManualClock) -> str:
    """Run the shop until an order is completed."""
    async with running(data, clock) as shop:
        order = await shop.completed()
        await shop.settled()
        return order


async def recovered(data: Path) -> RecoveryPlan:
    """Recover, after a start was refused."""
    config = configuration({"data": str(data)})
    app = assemble(config)
    with pytest.raises(Recovery, match="older copy"):
        await app.start()
    return await recover(assemble(config), agree=lambda _: True)


async def differences(data: Path) -> list[str]:
    """Return what the ledger has to say."""
    async with Inspection(assemble(configuration({"data": str(data)}))) as inspection:
        return [line.difference for line in await balance(inspection) if not line.balanced]


@pytest.mark.parametrize("lost", ["inventory", "orders"])
async def test_a_store_from_before_the_last_order(tmp_path, lost):
    """What the store had said since is named; the shop takes and completes orders again, and the ledger balances."""
    data, clock = tmp_path / "data", ManualClock()
    await sold(data, clock)
    copy(data, tmp_path / "copy", lost)
    second = await sold(data, clock)
    copy(tmp_path / "copy", data, lost)

    plan = await recovered(data)
    (source,) = plan.sources
    assert source.service == lost
    assert second in {fact.key for fact in source.lost}
    await sold(data, clock)
    assert await differences(data) == []


async def test_a_log_from_before_the_last_order(tmp_path):
    """Nothing is lost: the journals tell again what the log has lost, and everybody drops what they have seen."""
    data, clock = tmp_path / "data", ManualClock()
    await sold(data, clock)
    copy(data, tmp_path / "copy", "log")
    second = await sold(data, clock)
    copy(tmp_path / "copy", data, "log")

    plan = await recovered(data)
    assert not plan.sources
    await sold(data, clock)
    async with running(data, clock) as shop:
        assert (await shop.look(second))["status"] == "completed"
        assert (await shop.get("/api/reports/orders"))["succeeded"] == 3
        assert len(await shop.published("orders", "order-completed")) == 3
        assert await shop.stock("cheese") == (47, 0, 47)
    assert await differences(data) == []
