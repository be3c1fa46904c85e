"""The pytest plugin as a user meets it: in a folder of its own, with nothing of this repository's settings."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

TESTS = """
from datetime import timedelta
from typing import Any

import pytest

from millrace import Command, Event, Service, State, Timer
from millrace.testing import NotSettled, advance, eventually, settled


class Add(Command, topic="tally.commands", key="name"):
    name: str

class Added(Event, topic="tally", key="name"):
    name: str

class Total(State, key="name"):
    name: str
    n: int = 0

def tally() -> Service:
    service = Service("tally", says=[Added])

    @service.handler
    def add(command: Add) -> Any:
        return [Added(name=command.name), Timer("again", Add(name="later"), after=timedelta(hours=1))] if command.name != "later" else None

    @service.handler(total=Total.by("name"))
    def count(event: Added, total: Total | None) -> Any:
        return Total(name=event.name, n=(total.n if total else 0) + 1)

    return service

async def test_an_application_starts_and_settles(millrace_app, millrace_clock):
    app = await millrace_app(tally())
    await app.execute(Add(name="a"))
    await settled(app)
    assert await app.states(Total).get("a") == Total(name="a", n=1)
    await advance(app, millrace_clock, timedelta(hours=2))
    assert await app.hosts["tally"].store.reader.timers.count() == 0

async def test_a_restart_is_a_second_call(millrace_app):
    one = await millrace_app(tally())
    await one.execute(Add(name="a"))
    await one.stop()
    two = await millrace_app(tally(), name="test")
    await settled(two)
    assert (await two.states(Total).get("a")).n == 1

async def test_what_does_not_happen_is_told(millrace_app):
    app = await millrace_app(tally())
    with pytest.raises(NotSettled, match="it did not happen within 0.05 s"):
        await eventually(app, lambda: False, timeout=0.05)

def test_an_engine_is_fresh(millrace_engine):
    assert not millrace_engine.folder.exists()

def test_a_kit_is_named(engine_kit):
    assert engine_kit.name == "sqlite"
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *arguments],
        cwd=folder,
        capture_output=True,
        check=False,
        text=True,
    )


def test_users_get_an_application_in_a_line(tmp_path: Path) -> None:
    """Fixtures start and stop applications, waiting needs no sleeping, and the suite finds its engine."""
    (tmp_path / "test_tally.py").write_text(textwrap.dedent(TESTS))
    ran = run(tmp_path, "-o", "asyncio_mode=auto", "test_tally.py")
    assert "5 passed" in ran.stdout, ran.stdout + ran.stderr


def test_an_engine_is_handed_over_by_name(tmp_path: Path) -> None:
    """A kit of one's own runs the conformance suite with one option, and a test file of a few lines."""
    (tmp_path / "mine.py").write_text(
        "from millrace.testing.conformance.sqlite_kit import SqliteKit\nclass MyKit(SqliteKit):\n    name = 'mine'\n"
    )
    (tmp_path / "test_mine.py").write_text(
        "from millrace.testing.conformance import each, g05_visibility\n"
        "@each(g05_visibility)\n"
        "async def test_promise(engine_kit, promise):\n"
        "    assert engine_kit.name == 'mine'\n"
        "    await promise(engine_kit)\n"
    )
    ran = run(tmp_path, "-o", "asyncio_mode=auto", "-o", "pythonpath=.", "--millrace-engine", "mine:MyKit", "test_mine.py")
    assert "3 passed" in ran.stdout, ran.stdout + ran.stderr
