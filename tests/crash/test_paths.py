"""A shop that dies after any of its durable operations goes on as if nothing had happened: every point of every path.

    pytest tests/crash/test_paths.py -k 'every and orchestration-happy'             all points of one path
    pytest tests/crash/test_paths.py -k 'every and orchestration-happy' --crash-at 17         one point
    pytest tests/crash/test_paths.py -k every --crash-update                            accept the steps as they are now

The path of an order that comes to its good end in the default style is tried each time, the others of that style and the same one in
the other style before a change lands, the rest by `make soak`.

Neighbours: `enumeration` runs, `golden` compares.
"""

import time
from pathlib import Path as Folder

import pytest

from millrace.testing.crash import Zygote
from parcomolo.configuration import CHOREOGRAPHY, STYLES
from tests.crash import golden
from tests.crash.enumeration import Enumeration, Run
from tests.crash.path import PATHS

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]
WHOLE_RUNS_TO_ACCEPT = 6


def _when(style: str, name: str) -> tuple[pytest.MarkDecorator, ...]:
    if name == "happy":
        return () if style == STYLES[0] else (pytest.mark.slow,)
    return (pytest.mark.slow,) if style == STYLES[0] else (pytest.mark.soak,)


_PATHS = [pytest.param(style, name, id=f"{style}-{name}", marks=_when(style, name)) for style in STYLES for name in PATHS]


@pytest.mark.parametrize("style, name", _PATHS)
def test_every_point(
    style: str, name: str, zygote: Zygote, request: pytest.FixtureRequest, tmp_path: Folder, pytestconfig: pytest.Config
) -> None:
    """Killed at any point with three orders in flight: one end per order, nothing lost, nothing twice, and the known steps."""
    opened: Folder = request.getfixturevalue("choreographed" if style == CHOREOGRAPHY else "opened")
    enumeration = Enumeration(zygote, PATHS[name], opened=opened, folder=tmp_path)
    again = f"test_every_point and {style}-{name}"
    at = pytestconfig.getoption("crash_at", None)
    if at is not None:
        _judge(again, [enumeration.run_at(at)])
        return
    began = time.monotonic()
    runs = enumeration.run_all()
    _print(f"{style} {name}", runs, time.monotonic() - began)
    _judge(again, runs)
    if pytestconfig.getoption("crash_update", default=False):
        more = [Enumeration(zygote, PATHS[name], opened=opened, folder=tmp_path / str(i)) for i in range(WHOLE_RUNS_TO_ACCEPT)]
        golden.write(style, name, runs=[*runs, *(each.run_at(None) for each in more)])
    different = golden.differences(style, name, runs=runs)
    assert not different, f"the steps of {style} {name} are not those of its golden file (accept with --crash-update):\n" + "\n".join(
        different
    )


def test_nothing_is_told_too_early(zygote: Zygote, opened: Folder, tmp_path: Folder, pytestconfig: pytest.Config) -> None:
    """Killed while a commit of orders is under way, however long that takes: nobody was answered what is not there afterwards."""
    enumeration = Enumeration(zygote, PATHS["happy"], opened=opened, folder=tmp_path, early="orders")
    at = pytestconfig.getoption("crash_at", None)
    runs = enumeration.run_all() if at is None else [enumeration.run_at(at)]
    print(f"\nkilled before {sum(run.killed for run in runs)} commits of orders")
    _judge("test_nothing_is_told_too_early", runs)


def _print(name: str, runs: list[Run], seconds: float) -> None:
    whole = next(run for run in runs if not run.killed)
    print(f"\n{name}: killed at {sum(run.killed for run in runs)} points, {seconds:.0f} s; the steps of a run that was not:")
    print("".join(step.line for step in whole.steps))


def _judge(test: str, runs: list[Run]) -> None:
    failed = [f"{run.report}\nagain: pytest tests/crash/test_paths.py -k '{test}' --crash-at {run.at}" for run in runs if run.failure]
    assert not failed, f"{len(failed)} of {len(runs)} points failed\n\n" + "\n\n".join(failed)
