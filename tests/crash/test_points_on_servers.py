"""A shop on Kafka and PostgreSQL that dies after any of its durable operations goes on as if nothing had happened: every point once.

    pytest tests/crash/test_points_on_servers.py -m soak -s                      all points
    pytest tests/crash/test_points_on_servers.py -m soak -s --crash-at 17        one point

A point is a transaction that PostgreSQL has committed, a run of rows to one partition that the brokers have acknowledged, or a payment that
the provider has noted. In which order these come is up to the servers, so there is no golden file; that all of them are heard is checked.

Neighbours: `chain` runs; `test_on_servers` kills at moments that chance chooses, with many more orders in flight.
"""

import time
from pathlib import Path as Folder

import pytest

from millrace.testing.crash import Zygote
from tests.crash.chain import Points, try_points
from tests.crash.enumeration import Run
from tests.crash.path import PATHS
from tests.shop_places import CHOICE

SERVICES = {
    "checkout",
    "inventory",
    "millrace-relay",
    "operations",
    "orders",
    "payment-provider",
    "payments",
    "reports",
    "rewards",
    "shipping",
}
"""Who makes something durable while an order comes to its good end."""
POINTS_MIN = 60


@pytest.mark.crash
@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_every_point_on_servers(zygote: Zygote, tmp_path: Folder, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at any point with three orders in flight: one end per order, nothing lost, nothing twice, the ledger exact."""
    monkeypatch.setenv(CHOICE, "kafka/postgres")
    at = pytestconfig.getoption("crash_at", None)
    began = time.monotonic()
    runs = try_points(zygote, PATHS["happy"], tmp_path, points=Points(None if at is None else [at]))
    killed = sum(run.killed for run in runs)
    print(f"\nkilled at {killed} points, {time.monotonic() - began:.0f} s")
    _judge(runs)
    if at is not None:
        return
    whole = [run for run in runs if not run.killed]
    longest = max(whole, key=lambda run: len(run.steps))
    print(f"whole runs have {', '.join(str(len(run.steps)) for run in whole)} steps; the longest:")
    print("".join(step.line for step in longest.steps))
    assert {step.service for step in longest.steps} == SERVICES
    assert [run.at for run in runs] == list(range(len(runs)))
    assert killed >= POINTS_MIN


def _judge(runs: list[Run]) -> None:
    again = "again: pytest tests/crash/test_points_on_servers.py -m soak --crash-at"
    failed = [f"{run.report}\n{again} {run.at}" for run in runs if run.failure]
    assert not failed, f"{len(failed)} of {len(runs)} points failed\n\n" + "\n\n".join(failed)
