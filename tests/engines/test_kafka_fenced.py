"""A broker that knows of none that is alive; needs no server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("confluent_kafka")

ROOT = Path(__file__).parents[2]


def test_a_fenced_broker_ends_nobody() -> None:
    """Asked who the brokers are it names none, which is told as `unreachable`; the library's own `describe_cluster` ends the process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.engines.fenced_broker"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "unreachable\n"), done
