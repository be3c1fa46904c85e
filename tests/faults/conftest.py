"""Options, servers and report of the fault runs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.testing.conformance.servers import KAFKA, POSTGRES
from millrace.testing.crash import Zygote
from tests.crash.shop import PRELOAD
from tests.faults.report import row_of, table, write
from tests.faults.servers import Needs, Servers
from tests.shop_places import CHOICE

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "build" / "faults.json"
RUNS, RATE = 20, 50.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add how often, how fast, and how to repeat one run."""
    group = parser.getgroup("faults")
    group.addoption("--fault-runs", type=int, metavar="N", help=f"carry each fault out N times (default: {RUNS})")
    group.addoption("--fault-rate", type=float, metavar="N", help=f"orders per second (default: {RATE:g})")
    group.addoption("--fault-seed", type=int, metavar="N", help="of the first run; the others follow from it (default: chance)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that asks for it one seed per run; one run is enough for a test that is not a soak."""
    if "seed" in metafunc.fixturenames:
        soaks = metafunc.definition.get_closest_marker("soak") is not None
        runs = (metafunc.config.getoption("fault_runs", None) or RUNS) if soaks else 1
        first = metafunc.config.getoption("fault_seed", None)
        chance = random.Random(first)
        seeds = [chance.randrange(2**32) for _ in range(runs)]
        if first is not None:
            seeds[0] = first
        metafunc.parametrize("seed", seeds, ids=[f"run{n}" for n in range(1, runs + 1)])


@pytest.fixture
def rate(pytestconfig: pytest.Config) -> float:
    """Orders per second."""
    return pytestconfig.getoption("fault_rate", None) or RATE


@pytest.fixture(scope="session")
def shop_zygote() -> Iterator[Zygote]:
    """The process that all others are forked from."""
    with Zygote(preload=PRELOAD, folder=ROOT) as zygote:
        yield zygote


class Pool:
    """The servers of this process: those that were asked for last."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._servers: Servers | None = None

    def of(self, needs: Needs) -> Servers:
        """Return servers, the same ones as before where these are what is needed."""
        if self._servers is None or self._servers.needs != needs:
            self.close()
            self._servers = Servers(self._folders.mktemp("servers"), needs)
        return self._servers

    def close(self) -> None:
        """Stop them."""
        servers, self._servers = self._servers, None
        if servers is not None:
            servers.stop()


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """What all runs that need the same servers share."""
    pool = Pool(tmp_path_factory)
    yield pool
    pool.close()


@pytest.fixture
def servers(request: pytest.FixtureRequest, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Servers:
    """The servers that a kind needs, named in the environment."""
    found = pool.of(request.param)
    monkeypatch.setenv(CHOICE, "kafka/postgres")
    monkeypatch.setenv(KAFKA, found.brokers)
    monkeypatch.setenv(POSTGRES, found.store)
    return found


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table, and write every run beside it."""
    reports = [report for word in ("passed", "failed") for report in terminalreporter.getreports(word)]
    rows = [row_of(value) for report in reports for name, value in getattr(report, "user_properties", ()) if name == "fault"]
    if rows:
        terminalreporter.section("faults on real servers")
        terminalreporter.write("\n".join(table(rows)) + "\n")
        write(REPORT, rows)
        terminalreporter.write(f"every run: {REPORT.relative_to(ROOT)}\n")
