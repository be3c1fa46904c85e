"""Prints lines as a table and writes the result file: machine, versions, every round's figures, and the lines."""

import importlib.metadata
import json
import os
import platform
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness import Case, Figures, Line, disturbance

PACKAGES = ("aiosqlite", "apsw", "eventsourcing", "fastapi", "msgspec", "pydantic", "sqlalchemy", "uvicorn", "uvloop")
QUIET_CORES = 0.15
COLUMNS = ("", "against", "theirs", "Millrace", "min - max", "ratio", "promised", "kept")


def table(cases: Sequence[Case], lines: Sequence[Line], rounds: Mapping[str, Sequence[Mapping[str, Figures]]]) -> str:
    """The lines of all cases as aligned text, one block per case; says where other programs disturbed the measurement."""
    rows = {case.name: [_cells(line) for line in lines if line.case == case.name] for case in cases}
    everything = [COLUMNS, *(row for block in rows.values() for row in block)]
    widths = [max(len(row[i]) for row in everything) for i in range(len(COLUMNS))]
    text: list[str] = []
    for case in cases:
        text += ["", case.title, _aligned(COLUMNS, widths)]
        text += [_aligned(row, widths) for row in rows[case.name]]
        if (foreign := disturbance(rounds[case.name])) > QUIET_CORES:
            text.append(f"Disturbed: other programs used {foreign:.2f} cores meanwhile. Repeat it on a quiet machine.")
    return "\n".join(text)


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell.ljust(w) if i in {0, 1, 6, 7} else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
    return "  ".join(cells).rstrip()


def _cells(line: Line) -> tuple[str, ...]:
    def number(value: float | None) -> str:
        return "" if value is None else f"{value:,.{line.digits}f}"

    return (
        line.label,
        line.against or "",
        number(line.theirs),
        number(line.ours),
        f"{number(line.spread[0])} - {number(line.spread[1])}",
        "" if line.ratio is None else f"{line.ratio:.2f}",
        line.wanted,
        {True: "yes", False: "NO", None: ""}[line.met],
    )


def write(path: Path, lines: Sequence[Line], rounds: Mapping[str, Sequence[Mapping[str, Figures]]]) -> None:
    """Write everything that was measured as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine(), "rounds": rounds, "lines": [asdict(line) for line in lines]}
    path.write_text(json.dumps(document, indent=1) + "\n")


def machine() -> dict[str, object]:
    """What the figures depend on, without naming the machine."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
