"""A redrive of many dead letters beside a running application: with progress, interrupted by Ctrl-C, taken up again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from millrace import Application
from millrace.inspection import Inspection
from millrace.ledger import check_ledger
from millrace.operators import DeadLetters
from millrace.testing.settling import eventually, settled
from tests import piled_up

BIN = Path(sys.executable).parent
SECONDS = 600.0
TOGETHER = 5000
ROOT = Path(__file__).resolve().parents[2]


def command(*arguments: str) -> list[str]:
    """Return a command of the family."""
    return [str(BIN / "millrace"), "--app", "tests.piled_up:application", "dead-letters", *arguments, "--json"]


async def pile_up(app: Application, letters: int) -> None:
    """Let so many keys have a dead letter, and every hundredth of them a message behind it."""
    told = [(number, 1) for number in range(letters)] + [(number, 2) for number in range(0, letters, 100)]
    values = [
        b'{"id":"%d-%d","source":"/x","type":"%b","specversion":"1.0","partitionkey":"k%d","data":{"name":"k%d","n":%d}}'
        % (number, n, piled_up.TYPE.encode(), number, number, n)
        for number, n in told
    ]
    for first in range(0, len(values), TOGETHER):
        keys = [f"k{number}" for number, _ in told[first : first + TOGETHER]]
        await app.parts.administration.put("asks", list(zip(keys, values[first : first + TOGETHER], strict=True)))
    loop = app.hosts["clerk"].loops["handlers"]
    await eventually(app, lambda: loop.lag() == 0, timeout=SECONDS)
    await settled(app, timeout=SECONDS)


async def interrupted(letters: int) -> dict[str, Any]:
    """Begin a redrive of everything in a process of its own, stop it when a third is done, and return its last line."""
    slowly = command("redrive", "--reason", "ValueError", "--rate", str(letters // 6))  # so that it cannot be over before it is stopped
    process = subprocess.Popen(slowly, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last: dict[str, Any] = {}
    for line in process.stdout:
        last = json.loads(line)
        if last["redriven"] >= letters // 3:
            process.send_signal(signal.SIGINT)
            break
    lines, said = process.communicate(timeout=SECONDS)
    for line in lines.splitlines():
        last = json.loads(line)
    assert process.returncode == 130, said
    assert f"`dead-letters redrive --resume {last['run']}` goes on" in said
    return last


async def redriven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, letters: int) -> None:
    """Pile up, heal, redrive, interrupt, go on; every message is handled once, in the order of its key, and the ledger is balanced."""
    monkeypatch.setenv(piled_up.FOLDER, str(tmp_path))
    monkeypatch.setattr(piled_up, "clerk", piled_up.Clerk())
    async with piled_up.application() as app:
        await pile_up(app, letters)
        (group,) = await DeadLetters(app).groups()
        assert (group.count, group.reason) == (letters, "ValueError")
        piled_up.clerk.ill = False

        last = await interrupted(letters)
        assert letters // 3 <= last["redriven"] < letters
        (run,) = await DeadLetters(app).runs()
        assert (run.run, run.redriven, run.of) == (last["run"], last["redriven"], letters)
        await eventually(app, lambda: len(piled_up.clerk.answered) >= run.redriven, timeout=SECONDS)
        assert (await DeadLetters(app).groups())[0].count == letters - last["redriven"]

        resume = command("redrive", "--resume", last["run"])
        done = subprocess.run(resume, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
        told = [json.loads(line) for line in done.stdout.splitlines()]
        assert (done.returncode, told[-1]["redriven"], told[-1]["finished"]) == (0, letters, True), done
        assert [line["redriven"] for line in told] == sorted(line["redriven"] for line in told)
        await eventually(app, lambda: len(piled_up.clerk.answered) >= letters + (letters + 99) // 100, timeout=SECONDS)
        await settled(app, timeout=SECONDS)
    assert len(piled_up.clerk.answered) == len(set(piled_up.clerk.answered)) == letters + (letters + 99) // 100
    assert all(n == 1 or (name, 1) in set(piled_up.clerk.answered[:place]) for place, (name, n) in _seconds())
    async with Inspection(piled_up.application()) as inspection:
        lines = await check_ledger([(inspection.source_of("clerk"), inspection.stores["clerk"])], inspection.log)
    assert [line.difference for line in lines if not line.balanced] == []


def _seconds() -> list[tuple[int, tuple[str, int]]]:
    """Return some of the messages that waited behind a letter, with their places among all."""
    return [(place, each) for place, each in enumerate(piled_up.clerk.answered) if each[1] == 2][:20]


async def test_a_redrive_is_interrupted_and_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4,000 letters."""
    await redriven(tmp_path, monkeypatch, 4000)


@pytest.mark.soak
@pytest.mark.timeout(1200)
async def test_a_redrive_of_a_hundred_thousand_is_interrupted_and_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100,000 letters."""
    await redriven(tmp_path, monkeypatch, 100_000)
