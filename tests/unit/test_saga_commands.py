"""`millrace sagas` on an application whose processes are all stopped: decisions are durable and acted upon at the next start."""

from __future__ import annotations

import asyncio
import getpass
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import Millrace, Ran, complaint
from tests.saga_shop import run_until_settled, run_until_stuck


@pytest.fixture
def sagas(millrace: Millrace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`millrace sagas` on three sagas that are stuck and one that runs."""
    monkeypatch.setenv("SHOP_DATA", str(tmp_path / "data"))
    asyncio.run(run_until_stuck("a", "b", "c"))

    def run(command: str) -> Ran:
        return millrace(f"sagas {command}", app="tests.saga_shop:application")

    return run


def test_list_and_show(sagas: Any) -> None:
    """Lists by status, and shows where one stands."""
    rows = sagas("list --status stuck --json").json
    assert [(row["id"], row["stuck"], row["service"], row["saga"]) for row in rows] == [(id, ["pay"], "desk", "order") for id in "abc"]
    assert [row["id"] for row in sagas("list --limit 2 --json").json] == ["a", "b"]
    assert sagas("list --status completed").out == "there are no such sagas\n"
    line = next(line for line in sagas("list").out.splitlines() if " running " in line)
    assert line.split()[:4] == ["order", "running", "running", "ship"]
    shown = sagas("show a --json").json
    assert (shown["summary"]["status"], shown["done"], shown["current"], shown["remaining"]) == ("stuck", [], ["pay"], ["reserve"])
    steps = {step["name"]: step for step in shown["steps"]}
    assert (steps["pay"]["attempts"], steps["pay"]["stuck"], steps["ship"]["pivot"]) == (5, True, True)
    assert (shown["back"]["reason"], shown["back"]["step"], shown["case"]["amount"]) == ("failed", "book", 10)


def test_doctor_finds_stuck_ones(sagas: Any, millrace: Millrace) -> None:
    """How many, which, and what to do: something has to change."""
    ran = millrace("doctor --json", app="tests.saga_shop:application")
    [finding] = [each for each in ran.json if each["what"] == "stuck"]
    assert (ran.status, finding["where"], finding["state"]) == (1, "saga order", "wrong")
    assert (finding["found"][:26], finding["found"][-9:]) == ("3 stuck, the oldest since ", ": a, b, c")
    assert "sagas list --status stuck" in finding["advice"]


def test_timers_that_only_forget_say_so(sagas: Any, millrace: Millrace) -> None:
    """In the list and in the trace of one that has ended; the trace does not count it among what waits."""
    sagas("take-over a --reason lawyer")
    listed = millrace("timers list --service desk --json", app="tests.saga_shop:application").json
    assert {row["key"]: row["kind"] for row in listed}["a"] == "forget"
    lines = millrace("timers list --service desk", app="tests.saga_shop:application").out.splitlines()
    (line,) = [line for line in lines if " forget " in line]
    assert (line.split()[-4], lines[-1]) == ("a", "1 of these only forgets a saga that has ended")
    told = millrace("trace a", app="tests.saga_shop:application").out
    assert ", 0 timers wait" in told
    assert "timer forgets a of desk.order, which waits for nothing, at " in told


def test_three_ways_out(sagas: Any) -> None:
    """What an operator decides is kept with name and reason, and carried out by whoever runs next."""
    assert sagas("retry a --json").json["summary"]["status"] == "compensating"
    ran = sagas("skip b --reason cash")
    assert (ran.status, ran.out.splitlines()[0]) == (0, "order b: compensating, version 1 of the saga, in desk")
    assert [word for word in ran.out.split() if word in {"skipped", "cash", getpass.getuser()}] == ["skipped", "cash", getpass.getuser()]
    assert sagas("take-over c --reason lawyer --json").json["summary"]["status"] == "taken_over"
    asyncio.run(run_until_settled())
    found = {row["id"]: row["status"] for row in sagas("list --json").json}
    assert found == {"a": "undone", "b": "undone", "c": "taken_over", "running": "running"}


@pytest.mark.parametrize(
    "command, status, says",
    [
        ("show nobody", 2, "there is no saga instance 'nobody'"),
        ("show a --saga nothing", 2, "there is no saga 'nothing'; there are order"),
        ("retry running", 1, "instance 'running' is running; nothing of it is stuck"),
        ("skip a --step book --reason why", 1, "step 'book' is not stuck; stuck are pay"),
        ("retry nobody", 2, "there is no saga instance 'nobody'"),
        (f"take-over a --reason {'long' * 51}", 2, "reason: one line of at most 200 characters"),
        ("skip a --reason one\x07two", 2, "reason: one line of at most 200 characters"),
    ],
)
def test_what_does_not_fit_is_refused(sagas: Any, command: str, status: int, says: str) -> None:
    """In one line that names the instance, with the status that tells a wrong name from a refusal; nothing changes."""
    ran = sagas(command)
    assert ran.status == status
    assert says in complaint(ran)
    assert len(sagas("list --status stuck --json").json) == 3
