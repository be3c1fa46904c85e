"""The steps of a path as they were looked at and found right: one (service, operation) per line, sorted.

A line that opens with `?` names an operation that some runs do without: which of two facts is read first, and what shares a commit, is
up to the machine. Left out for that reason are `save_held` and `remove_held`, of what waits for a fact that is still on its way, and
`remove_lookups`, of documents that change twice between two commits. Everything else must appear in each whole run, and nothing may
appear that the file does not name.

Neighbours: `enumeration` runs; `test_paths` compares.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path as Folder

from millrace.testing.crash import Step
from tests.crash.enumeration import Run

FOLDER = Folder(__file__).with_name("golden")
UP_TO_CHANCE = ("save_held ", "remove_held ", "remove_lookups")
SOMETIMES = "? "


def named(steps: Iterable[Step]) -> set[str]:
    """Return the distinct operations of steps."""
    found = {f"{step.service}  {operation}" for step in steps for operation in step.operations}
    return {line for line in found if not line.split("  ")[1].startswith(UP_TO_CHANCE)}


def differences(path: str, runs: Sequence[Run]) -> list[str]:
    """Compare runs of a path with its golden file; return one line per difference."""
    lines = (FOLDER / f"{path}.txt").read_text().splitlines()
    always = {line for line in lines if not line.startswith(SOMETIMES)}
    known = {line.removeprefix(SOMETIMES) for line in lines}
    found = set[str]().union(*(named(run.steps) for run in runs))
    whole = [named(run.steps) for run in runs if not run.killed]
    lost = {line for run in whole for line in always - run}
    return [f"+ {line}" for line in sorted(found - known)] + [f"- {line}" for line in sorted(lost)]


def write(path: str, runs: Sequence[Run]) -> None:
    """Make the golden file from runs of which some were not killed."""
    found = set[str]().union(*(named(run.steps) for run in runs))
    whole = [named(run.steps) for run in runs if not run.killed]
    always = set.intersection(*whole)
    lines = [line if line in always else f"{SOMETIMES}{line}" for line in sorted(found)]
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{path}.txt").write_text("\n".join(lines) + "\n")
