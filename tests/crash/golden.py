"""The steps of a path as they were looked at and found right, for each checkout style: one (service, operation) per line, sorted.

Every operation of the file must appear in some run of an enumeration, and nothing may appear that the file does not name. A line that
opens with `?` names an operation that may be absent, because which of two facts is read first is up to the machine. Left out for that
reason are `save_held` and `remove_held`, of what waits for a fact that is still on its way, and `remove_lookups`, of documents that
change twice between two commits.

Neighbours: `enumeration` runs; `test_paths` compares.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path as Folder

from millrace.testing.crash import Step
from tests.crash.enumeration import Run

FOLDER = Folder(__file__).with_name("golden")
UP_TO_CHANCE = ("save_held ", "remove_held ", "remove_lookups")
SOMETIMES = "? "
OFTEN = 0.1


def named(steps: Iterable[Step]) -> set[str]:
    """Return the distinct operations of steps."""
    found = {f"{step.service}  {operation}" for step in steps for operation in step.operations}
    return {line for line in found if not line.split("  ")[1].startswith(UP_TO_CHANCE)}


def differences(style: str, path: str, *, runs: Sequence[Run]) -> list[str]:
    """Compare runs of a path with its golden file; return one line per difference."""
    lines = (FOLDER / style / f"{path}.txt").read_text().splitlines()
    always = {line for line in lines if not line.startswith(SOMETIMES)}
    known = {line.removeprefix(SOMETIMES) for line in lines}
    found = set[str]().union(*(named(run.steps) for run in runs))
    return [f"+ {line}" for line in sorted(found - known)] + [f"- {line}" for line in sorted(always - found)]


def write(style: str, path: str, *, runs: Sequence[Run]) -> None:
    """Make the golden file from runs of which some were not killed.

    What is not in every whole run, and in few others, is up to the machine.
    """
    often = Counter(line for run in runs for line in named(run.steps))
    always = set.intersection(*(named(run.steps) for run in runs if not run.killed))
    always |= {line for line, times in often.items() if times >= OFTEN * len(runs)}
    lines = [line if line in always else f"{SOMETIMES}{line}" for line in sorted(often)]
    (FOLDER / style).mkdir(exist_ok=True, parents=True)
    (FOLDER / style / f"{path}.txt").write_text("\n".join(lines) + "\n")
