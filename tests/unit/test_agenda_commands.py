"""`millrace timers`, `schedules` and `clock`, beside a running application and without one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from millrace.testing import settled
from tests.agenda_app import Remind, Rung, application
from tests.command_line import Millrace, complaint

DAY = 86_400


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the application."""
    monkeypatch.setenv("AGENDA_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def agenda(place: Path, millrace: Millrace) -> Millrace:
    """Run `millrace` on it."""
    return partial(millrace, app="tests.agenda_app")


async def use(*reminders: Remind, then: Callable[[], Any] | None = None) -> dict[str, int]:
    """Run the application, set reminders, and return what has rung when it is settled."""
    async with application() as app:
        for reminder in reminders:
            await app.execute(reminder)
        if then is not None:
            await asyncio.to_thread(then)
        await settled(app, timeout=10)
        return {row.name: row.times for row in (await app.states(Rung).list()).items}


def test_timers_are_paged_by_due_time(agenda: Millrace) -> None:
    """Every page goes on behind the last one; service, processor and key narrow it; a table says how many wait besides."""
    asyncio.run(use(*(Remind(name=f"n{n}/ä", after_s=1000 - n % 7) for n in range(30))))
    assert len(agenda("timers list --json").json) == 31, "the tick of the schedule waits as well"
    seen: list[dict[str, Any]] = []
    while page := agenda("timers list --processor handlers --limit 7 --json" + "".join(f" --after {row['id']}" for row in seen[-1:])).json:
        seen += page
    assert len({row["id"] for row in seen}) == 30
    assert [row["due"] for row in seen] == sorted(row["due"] for row in seen)
    assert [row["key"] for row in agenda("timers list --key n3/ä --json").json] == ["n3/ä"]
    assert agenda("timers list --service other --json").json == []
    assert agenda("timers list --limit 2").out.splitlines()[-1] == "2 of 31 that wait"


def test_a_cancelled_timer_does_not_fire(agenda: Millrace) -> None:
    """Once, and only the one that is meant; a schedule is paused instead."""
    asyncio.run(use(Remind(name="a", after_s=100), Remind(name="b", after_s=100)))
    first, second = agenda("timers list --processor handlers --json").json
    assert agenda(f"timers cancel {first['id']}").status == 0
    assert "no timer" in complaint(agenda(f"timers cancel {first['id']}"))
    asyncio.run(use(Remind(name=second["key"], after_s=200)))
    assert "set anew" in complaint(agenda(f"timers cancel {second['id']}")), "another timer has taken its place"
    assert "is no timer" in complaint(agenda("timers cancel 12"))
    tick = next(row for row in agenda("timers list --json").json if row["processor"] == "schedules")
    assert "pause the schedule" in complaint(agenda(f"timers cancel {tick['id']}"))
    assert agenda("clock advance 300").status == 0
    assert asyncio.run(use()) == {second["key"]: 1}


def test_the_clock_is_moved_with_and_without_processes(agenda: Millrace) -> None:
    """Beside a running process it follows before the command ends; without one it holds from the next start on; never back."""
    told: list[Any] = []
    rung = asyncio.run(use(Remind(name="a", after_s=60), then=lambda: told.append(agenda("clock advance 61 --json").json)))
    assert rung == {"a": 1}
    assert (told[0]["clock"], told[0]["ahead_seconds"]) == ("virtual", 61)
    target = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    assert agenda(f"clock to {target}").status == 0
    assert agenda("clock show --json").json["now"] >= target[:19]
    for wrong in ("clock advance -1", "clock to 2020-01-01T00:00:00Z", "clock to 2020-01-01", "clock advance nan"):
        assert agenda(wrong).status == 2, wrong
    asyncio.run(use())


def test_the_clock_of_the_machine_is_left_alone(agenda: Millrace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line says so; and nobody makes an installation by asking."""
    assert agenda("clock show").status == 2
    monkeypatch.setenv("AGENDA_CLOCK", "system")
    asyncio.run(use())
    assert agenda("clock show --json").json["clock"] == "system"
    moved = agenda("clock advance 1")
    assert (moved.status, "nobody can move it" in complaint(moved)) == (2, True)


@pytest.mark.parametrize(
    "command, wrong",
    [
        ("clock advance soon", "'soon' is no number"),
        ("clock to tomorrow", "'tomorrow' is no moment; write it like 2026-01-31T12:00:00Z"),
        ("timers list --limit x", "'x' is no whole number"),
        ("sagas list --limit 1.5", "'1.5' is no whole number"),
        ("trace some-id --limit x", "'x' is no whole number"),
        ("dead-letters list --limit x", "'x' is no whole number"),
        ("dead-letters redrive --all --rate x", "'x' is no number"),
        ("consumers pause a.b --timeout x", "'x' is no number"),
        ("consumers workers a.b x", "'x' is no whole number"),
    ],
)
def test_what_is_no_number_is_told_in_words(agenda: Millrace, command: str, wrong: str) -> None:
    """Without the names of functions of ours."""
    asked = agenda(command)
    assert (asked.status, wrong in complaint(asked)) == (2, True), asked.err


def test_schedules_are_seen_paused_and_removed(agenda: Millrace, monkeypatch: pytest.MonkeyPatch) -> None:
    """All days that passed while nothing ran are closed; none while it is paused; what another release declared can be removed."""
    asyncio.run(use())
    (row,) = agenda("schedules list --json").json
    assert (row["schedule"], row["when"], row["command"], row["state"], row["fired"]) == (
        "close-day",
        "0 0 * * *",
        "CloseDay",
        "waiting",
        0,
    )
    agenda(f"clock advance {3 * DAY}")
    closed = asyncio.run(use())
    assert list(closed.values()) == [1, 1, 1]
    assert agenda("schedules pause bells/close-day").out == "bells/close-day: paused\n"
    agenda(f"clock advance {DAY}")
    assert asyncio.run(use()) == closed
    assert agenda("schedules resume bells/close-day --json").json["done"] == "resumed"
    assert "pause it instead" in complaint(agenda("schedules remove bells/close-day"))
    assert "no schedule" in complaint(agenda("schedules pause bells/other"))
    assert "no service" in complaint(agenda("schedules pause bell"))
    monkeypatch.setenv("AGENDA_RELEASE", "old")
    assert [row["state"] for row in agenda("schedules list --json").json] == ["undeclared"]
    assert agenda("schedules remove bells/close-day").status == 0
    assert agenda("schedules list --json").json == agenda("timers list --json").json == []
    assert agenda("schedules list").out == "no service declares a schedule\n"
