"""What a run has shown, and the table of all runs that is printed and written at the end.

Neighbours: `run` fills a `Row`; `conftest` collects them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

COLUMNS = ("fault", "runs", "failed", "orders", "in flight", "tries in vain", "repeats on the log", "fenced", "recovered s", "pause s")


class Row(msgspec.Struct):
    """One run.

    Attributes:
        fault: its kind.
        seed: from which it can be repeated.
        rate: customers per second.
        outcome: `ok`, or why it failed.
        orders: how many were placed.
        in_flight: how many had been answered and had not ended when the fault began.
        in_vain: tries of customers that got no good answer; each of them tried again and got one.
        slowest_s: the longest time from a customer's arrival to the good answer.
        repeats: records that were on the log a second time.
        fenced: commits that were refused because partitions had another owner.
        recovered_s: from the fault, or the end of an outage, to the end of the last order that had been answered before.
        pause_s: the longest time from the fault on in which no order ended.
        evidence: what else shows that the fault was one.
    """

    fault: str
    seed: int
    rate: float
    outcome: str = "did not end"
    orders: int = 0
    in_flight: int = 0
    in_vain: int = 0
    slowest_s: float = 0.0
    repeats: int = 0
    fenced: int = 0
    recovered_s: float = 0.0
    pause_s: float = 0.0
    evidence: str = ""

    @property
    def words(self) -> str:
        """Return it as a line."""
        figures = f"{self.orders} orders, {self.in_flight} in flight, {self.in_vain} tries in vain, slowest answer {self.slowest_s:.2f} s"
        seen = f"{self.repeats} repeats, {self.fenced} fenced, recovered {self.recovered_s:.2f} s, pause {self.pause_s:.2f} s"
        return f"{self.fault} seed {self.seed} at {self.rate:g}/s: {self.outcome}; {figures}, {seen}; {self.evidence}"


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.1f} / {median(values):.1f} / {max(values):.1f}" if values else "-"


def _total(values: Sequence[int]) -> str:
    return f"{sum(values)} ({min(values)}-{max(values)})" if values else "-"


def _line(fault: str, rows: Sequence[Row]) -> tuple[str, ...]:
    sound = [row for row in rows if row.outcome == "ok"]
    return (
        fault,
        str(len(rows)),
        str(len(rows) - len(sound)),
        str(sum(row.orders for row in rows)),
        _total([row.in_flight for row in sound]),
        _total([row.in_vain for row in sound]),
        _total([row.repeats for row in sound]),
        _total([row.fenced for row in sound]),
        _spread([row.recovered_s for row in sound]),
        _spread([row.pause_s for row in sound]),
    )


def table(rows: Iterable[Row]) -> list[str]:
    """Return the table: a line per kind; totals with the least and the most of a run, times as least / median / most."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(row.fault, []).append(row)
    lines = [COLUMNS, *(_line(fault, found) for fault, found in kinds.items())]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return [*text, "", *(f"seeds of {fault}: {' '.join(str(row.seed) for row in found)}" for fault, found in kinds.items())]


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write every run as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([msgspec.to_builtins(row) for row in rows], indent=1) + "\n")


def row_of(value: Any) -> Row:
    """Return a row that was handed over as plain values."""
    return msgspec.convert(value, Row)
