"""Runs the sides of a case alternately and turns their figures into medians and ratios.

A *side* is a program that does one piece of work, verifies its own result and prints one JSON object as its last
line; one that fails or does not say ``"verified": true`` ends the benchmark with an error. Every run is a process of
its own with an empty directory of its own on the disk of this repository. Sides alternate (A B A B ...), so that a
machine that becomes faster or slower meanwhile does so for both; a ratio is the median of the ratios of neighbouring
runs, not a ratio of medians. The CPU other programs used meanwhile is noted, because it is the first suspect when
figures differ.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import fail
from benchmarks.process import children_cpu, machine_time

HERE = Path(__file__).parent
RESULTS = HERE / "results"
RUN_LIMIT = 600.0

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Side:
    """A program under measurement: its name in the table, its module and the arguments of a full and of a quick run."""

    name: str
    module: str
    full: Sequence[str] = ()
    quick: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure both sides print.

    ``ratio`` is what Millrace's figure divided by the first side's must at least be (turned round where lower is
    better), ``beside`` the same for other sides by name; ``limit`` is what Millrace's own figure must keep to.
    ``digits`` are those of the table.
    """

    key: str
    label: str
    lower_is_better: bool = False
    ratio: float | None = None
    limit: float | None = None
    digits: int = 0
    beside: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """What is compared: Millrace's side last, what it is measured against first; one side alone has limits only.

    A ``long`` case takes minutes a run; it runs when it is named.
    """

    name: str
    title: str
    sides: tuple[Side, ...]
    metrics: tuple[Metric, ...]
    long: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One metric's result against one other side (or none)."""

    case: str
    label: str
    against: str | None
    theirs: float | None
    ours: float
    spread: tuple[float, float]
    ratio: float | None
    wanted: str
    met: bool | None
    digits: int


def measure(case: Case, *, runs: int, quick: bool, say: Callable[[str], None]) -> list[dict[str, Figures]]:
    """Run every side ``runs`` times, alternately; answer one mapping side -> figures per round."""
    rounds: list[dict[str, Figures]] = []
    for number in range(1, runs + 1):
        figures: dict[str, Figures] = {}
        for side in case.sides:
            figures[side.name] = run_side(side, quick=quick)
            say(f"{case.name} {number}/{runs} {side.name}: {_shown(case, figures[side.name])}")
        rounds.append(figures)
    return rounds


def _shown(case: Case, figures: Figures) -> str:
    shown = [f"{metric.label} {figures[metric.key]:,.{metric.digits}f}" for metric in case.metrics if metric.key in figures]
    return ", ".join([*shown, f"others used {figures['foreign_cores']:.2f} cores"])


def disturbance(rounds: Sequence[Mapping[str, Figures]]) -> float:
    """Cores that other programs used in the median run of a case; above 0.15 its figures are not to be quoted."""
    return statistics.median(figures["foreign_cores"] for sides in rounds for figures in sides.values())


def run_side(side: Side, *, quick: bool) -> Figures:
    """One verified run of one side."""
    work = HERE / "results" / "work"
    work.mkdir(parents=True, exist_ok=True)
    directory = tempfile.mkdtemp(dir=work, prefix=side.module.rsplit(".", 1)[-1] + "-")
    command = [sys.executable, "-m", side.module, "--dir", directory, *(side.quick if quick else side.full)]
    before, own = machine_time(), children_cpu()
    try:
        done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, timeout=RUN_LIMIT, check=False)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    after = machine_time()
    if done.returncode:
        fail(f"{' '.join(command[1:])} failed with {done.returncode}:\n{done.stderr[-3000:]}")
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    if figures.pop("verified", None) is not True:
        fail(f"{' '.join(command[1:])} did not verify its result")
    foreign = (after[1] - before[1] - (children_cpu() - own)) / (after[0] - before[0])
    return {**figures, "foreign_cores": max(round(foreign, 2), 0.0)}


def judge(case: Case, rounds: Sequence[Mapping[str, Figures]]) -> list[Line]:
    """Medians over the rounds, ratios per round, and whether each figure keeps what was promised."""
    ours = case.sides[-1].name
    lines: list[Line] = []
    for metric in case.metrics:
        others = [side.name for side in case.sides[:-1] if metric.key in rounds[0][side.name]]
        if metric.key in rounds[0][ours]:
            lines += [_line(case, metric, rounds, ours, other) for other in others or [None]]
    return lines


def _line(case: Case, metric: Metric, rounds: Sequence[Mapping[str, Figures]], ours: str, other: str | None) -> Line:
    own = [r[ours][metric.key] for r in rounds]
    theirs = [r[other][metric.key] for r in rounds] if other else []
    ratio = statistics.median(_ratio(metric, a, b) for a, b in zip(own, theirs, strict=True)) if theirs else None
    median = statistics.median(own)
    wanted, met = "", None
    if metric.limit is not None:
        wanted = f"{'at most' if metric.lower_is_better else 'at least'} {metric.limit:g}"
        met = median <= metric.limit if metric.lower_is_better else median >= metric.limit
    elif ratio is not None and (promised := metric.beside.get(other or "", metric.ratio if other == case.sides[0].name else None)):
        wanted, met = f"{promised:g} times", ratio >= promised
    return Line(
        case=case.name,
        label=metric.label,
        against=other,
        theirs=statistics.median(theirs) if theirs else None,
        ours=median,
        spread=(min(own), max(own)),
        ratio=ratio,
        wanted=wanted,
        met=met,
        digits=metric.digits,
    )


def _ratio(metric: Metric, ours: float, theirs: float) -> float:
    return theirs / ours if metric.lower_is_better else ours / theirs
