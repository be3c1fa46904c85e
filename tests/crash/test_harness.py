"""The crash harness itself: a process dies exactly where it is told to, and the list of steps says exactly what is durable."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from millrace.testing.crash import NotInTime, Process, Step, Trap, Zygote
from tests.crash.counted_program import rows_in

pytestmark = pytest.mark.crash
ENTRY = "tests.crash.counted_program:main"
ROWS = 8


def started(zygote: Zygote, folder: Path, trap: Trap | None, *more: str) -> Process:
    """Start the program, arm the trap when it is ready, and let it write."""
    process = zygote.start(ENTRY, [str(ROWS), str(folder), *more], trap=trap, log=folder / "log")
    assert process.line() == "ready"
    if trap is not None:
        trap.arm()
    process.send(signal.SIGUSR1)
    return process


@pytest.mark.parametrize("at", range(ROWS + 1))
def test_it_dies_right_after_a_step(at: int, zygote: Zygote, tmp_path: Path) -> None:
    """Killed at n, n rows are durable and n steps are listed; killed at 0, none."""
    trap = Trap(steps=tmp_path / "steps", at=at)

    assert started(zygote, tmp_path, trap).wait() == -signal.SIGKILL
    assert rows_in(tmp_path) == list(range(1, at + 1))
    assert [step.number for step in trap.read()] == list(range(1, at + 1))


@pytest.mark.parametrize("at", [1, 2, ROWS])
def test_it_dies_before_a_step(at: int, zygote: Zygote, tmp_path: Path) -> None:
    """Killed early at n, the step n is the first that is not durable."""
    trap = Trap(steps=tmp_path / "steps", at=at, early=True)

    assert started(zygote, tmp_path, trap).wait() == -signal.SIGKILL
    assert rows_in(tmp_path) == [step.number for step in trap.read()] == list(range(1, at))


def test_steps_have_names(zygote: Zygote, tmp_path: Path) -> None:
    """A step names its file and what was written: by the statement's name, else by verb and table; the program ends as it wants to."""
    trap = Trap(steps=tmp_path / "steps")

    assert started(zygote, tmp_path, trap).wait() == ROWS
    assert trap.read()[:2] == [Step(1, "engine", ("append_fact",)), Step(2, "own", ("insert fact",))]
    assert len(trap.read()) == ROWS


def test_steps_of_one_service(zygote: Zygote, tmp_path: Path) -> None:
    """Counting one service, the third step is that service's third."""
    trap = Trap(steps=tmp_path / "steps", at=3, service="own")

    assert started(zygote, tmp_path, trap).wait() == -signal.SIGKILL
    assert rows_in(tmp_path) == [1, 2, 3, 4, 5, 6]
    assert {step.service for step in trap.read()} == {"own"}


def test_nothing_counts_before_it_is_armed(zygote: Zygote, tmp_path: Path) -> None:
    """A trap that nobody arms has no effect."""
    trap = Trap(steps=tmp_path / "steps", at=1)
    process = zygote.start(ENTRY, [str(ROWS), str(tmp_path)], trap=trap, log=tmp_path / "log")
    process.line()
    process.send(signal.SIGUSR1)

    assert process.wait() == ROWS
    assert trap.read() == []


def test_a_stopped_process_can_go_on(zygote: Zygote, tmp_path: Path) -> None:
    """With SIGSTOP the process stands still after the step, and does the rest when it is continued."""
    trap = Trap(steps=tmp_path / "steps", at=3, signal=signal.SIGSTOP)
    process = started(zygote, tmp_path, trap)
    process.until(lambda: len(trap.read()) == 3)
    with pytest.raises(NotInTime):
        process.wait(0.2)

    assert rows_in(tmp_path) == [1, 2, 3]
    process.resume()
    assert process.wait() == ROWS
    assert rows_in(tmp_path) == list(range(1, ROWS + 1))


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """Closing a zygote ends what it has started."""
    with Zygote(folder=Path(__file__).parents[2]) as zygote:
        process = started(zygote, tmp_path, None, "wait")
        assert process.line(1) == "done"

    assert process.wait() == -signal.SIGKILL


def test_a_failing_program(zygote: Zygote, tmp_path: Path) -> None:
    """An entry point that raises ends with status 1, and says why in its output; waiting for it tells."""
    process = zygote.start("tests.crash.counted_program:absent", log=tmp_path / "log")

    assert process.wait() == 1
    assert "absent" in process.output
    with pytest.raises(NotInTime, match="ended with 1"):
        process.until(lambda: False)


WITHOUT_EXTRAS = """
import sys
sys.modules |= dict.fromkeys(["psycopg", "confluent_kafka"])
from millrace.testing.crash.__main__ import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("how", [("-m", "millrace.testing.crash"), ("-c", WITHOUT_EXTRAS)], ids=["as it is", "without extras"])
def test_from_the_command_line(how: tuple[str, str], tmp_path: Path) -> None:
    """`python -m millrace.testing.crash` runs one program to its crash point, or to its end; drivers of servers need not be there."""
    command = [sys.executable, *how, "--steps", str(tmp_path / "steps"), "--at", "4", ENTRY, "6", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=30)

    assert process.returncode == -signal.SIGKILL
    assert [step.service for step in Trap(steps=tmp_path / "steps").read()] == ["engine", "own", "engine", "own"]
