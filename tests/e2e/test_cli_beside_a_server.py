"""The command line in a process of its own: beside a server that works, and after one that was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ORDERS = 300


class Shop:
    """A server of the sample shop that obeys one line at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.sample_shop"],
            cwd=ROOT,
            env=environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def tell(self, command: str) -> None:
        """Have a command done; returns when it is durable."""
        self.ask(command)
        assert self._answer() == f"done {command}"

    def ask(self, command: str) -> None:
        """Send a command without waiting."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def place(self, first: int, count: int) -> None:
        """Place orders, and return when the last is durable."""
        for number in range(first, first + count):
            self.ask(f"place o{number} sku{number % 3}")
        for number in range(first, first + count):
            assert self._answer() == f"done place o{number} sku{number % 3}"

    def kill(self) -> None:
        """Kill -9."""
        self._process.kill()
        self.end()

    def end(self) -> int:
        """Stop it, gracefully if it still lives, and return its exit status."""
        self._process.communicate()
        return self._process.returncode


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of the shop's processes."""
    return {**os.environ, "SHOP_DATA": str(folder)}


def start_millrace(folder: Path, command: str) -> subprocess.Popen[str]:
    """Start the command line in a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "millrace.cli", "--app", "tests.sample_shop", *command.split()],
        cwd=ROOT,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def millrace(folder: Path, command: str) -> str:
    """Run the command line and return what it printed, having checked that all was well."""
    process = start_millrace(folder, command)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, (command, out, err)
    return out


def rows(folder: Path, command: str) -> list[dict[str, Any]]:
    """Return the rows that a command prints as JSON."""
    return json.loads(millrace(folder, f"{command} --json"))


def status_view(folder: Path) -> dict[str, Any]:
    """Return the serving build of the view of orders."""
    (row,) = [row for row in rows(folder, "views list") if (row["view"], row["state"]) == ("order-status", "serving")]
    return row


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A server with some orders, stopped at the end."""
    server = Shop(tmp_path)
    server.place(0, ORDERS)
    yield server
    server.end()


def test_rebuild_beside_a_server(shop: Shop) -> None:
    """A view is rebuilt while the server takes orders; afterwards the new build has every order, and the server goes on with it."""
    rebuilding = start_millrace(shop.folder, "views rebuild order-status")
    shop.place(ORDERS, 100)
    out, err = rebuilding.communicate(timeout=60)

    assert rebuilding.returncode == 0, err
    assert out.startswith("order-status: build 2 serves")
    assert err.splitlines()[-1].endswith("100 %")
    shop.place(ORDERS + 100, 50)
    shop.tell("read")
    assert (status_view(shop.folder)["build"], status_view(shop.folder)["documents"]) == (2, ORDERS + 150)
    assert (shop.folder / "starts").read_text() == "started\n"
    assert "balanced" in millrace(shop.folder, "ledger")
    assert shop.end() == 0


def test_two_rebuilds_share_one_build(shop: Shop) -> None:
    """A second rebuild of a view that is being built joins the build, or makes one more; both end well."""
    both = [start_millrace(shop.folder, "views rebuild order-status") for _ in range(2)]
    ends = [process.communicate(timeout=60) for process in both]

    assert [process.returncode for process in both] == [0, 0], ends
    shop.tell("read")
    assert status_view(shop.folder)["documents"] == ORDERS


def test_the_server_finishes_what_a_dead_rebuild_began(shop: Shop) -> None:
    """A rebuild that is killed leaves a build which the server brings to its end."""
    rebuilding = start_millrace(shop.folder, "views rebuild order-status")
    assert rebuilding.stderr is not None
    assert "build 2" in rebuilding.stderr.readline()
    rebuilding.kill()
    rebuilding.communicate()

    while status_view(shop.folder)["build"] != 2:
        shop.tell("read")
    assert status_view(shop.folder)["documents"] == ORDERS


def test_rebuild_after_kill_runs_nothing_else(shop: Shop) -> None:
    """Where the server was killed, the rebuild is done here alone: no handler and no relay of the application moves."""
    shop.kill()
    before = rows(shop.folder, "consumers list")
    millrace(shop.folder, "views rebuild order-status")
    after = rows(shop.folder, "consumers list")

    def others(found: list[dict[str, Any]]) -> list[tuple[str, str, int, int, int]]:
        keep = [row for row in found if not row["processor"].startswith("order-status")]
        return [(row["group"], row["topic"], row["partition"], row["position"], row["end"]) for row in keep]

    assert others(before) == others(after)
    assert status_view(shop.folder)["build"] == 2
    again = Shop(shop.folder)
    again.tell("read")
    assert status_view(shop.folder)["documents"] == ORDERS
    assert again.end() == 0


def test_everything_can_be_read_beside_a_server(shop: Shop) -> None:
    """Figures agree however busy the server is; who reads a partition is named; nothing is taken from the server."""
    for round_ in range(5):
        ledger = start_millrace(shop.folder, "ledger")
        shop.place(ORDERS + 100 * round_, 100)
        out, err = ledger.communicate(timeout=60)
        assert ledger.returncode == 0, out + err
    leases = {path.name: path.stat().st_ino for path in (shop.folder / "leases").iterdir()}
    owners = {row["owner"] for row in rows(shop.folder, "consumers list")}
    for command in ("topics", "dead-letters list", "views list", "doctor"):
        millrace(shop.folder, command)

    assert len(owners) == 1
    assert None not in owners
    assert {path.name: path.stat().st_ino for path in (shop.folder / "leases").iterdir()} == leases


def test_everything_can_be_read_after_kill(shop: Shop) -> None:
    """After kill -9 every command answers from what is durable, at once."""
    shop.tell("read")  # a row that nobody publishes for ten seconds is a finding of `doctor`, and rightly so
    shop.kill()
    for command in ("topics", "consumers list", "dead-letters list", "views list", "ledger", "doctor"):
        millrace(shop.folder, command)


def test_rebuild_can_be_interrupted(shop: Shop) -> None:
    """Ctrl-C ends a rebuild with one line and status 130; the old build serves on until the new one is done."""
    shop.kill()
    rebuilding = start_millrace(shop.folder, "views rebuild order-status")
    assert rebuilding.stderr is not None
    rebuilding.stderr.readline()
    rebuilding.send_signal(signal.SIGINT)
    _, err = rebuilding.communicate(timeout=60)

    assert rebuilding.returncode in (0, 130), err
    assert "Traceback" not in err
    assert status_view(shop.folder)["documents"] > 0


def test_a_reader_that_stops_reading(shop: Shop) -> None:
    """A pipe that is closed early is no error."""
    shop.kill()
    process = start_millrace(shop.folder, "consumers list --json")
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=60)

    assert (process.returncode, err) == (0, "")
