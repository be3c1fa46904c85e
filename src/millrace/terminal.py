"""What people read in a terminal: aligned tables, units, and nothing that a foreign record could do to the terminal.

Neighbours: `cli` prints what is made here; nothing here knows what it shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from millrace.clock import from_micros

COLOURS = {"ok": "32", "balanced": "32", "look": "33", "dead": "31", "wrong": "31", "difference": "31"}
_SPANS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, colour: bool = False) -> str:
    """Return rows under their headings.

    Args:
        columns: headings; one that begins with `>` aligns its column to the right.
        rows: a cell per column; None shows as `-`, whole numbers in groups of three digits.
        colour: paint the words that `COLOURS` knows.
    """
    heads = [column.removeprefix(">").upper() for column in columns]
    cells = [[cell_text(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [heads, *cells]) for i in range(len(heads))]
    lines: list[str] = []
    for number, line in enumerate([heads, *cells]):
        parts = [
            text.rjust(width) if column.startswith(">") else text.ljust(width)
            for column, text, width in zip(columns, line, widths, strict=True)
        ]
        if colour and number:
            parts = [painted(part) for part in parts]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def cell_text(value: object) -> str:
    """Return a value as one printable line."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return printable(str(value))


def printable(text: str) -> str:
    """Return text with every control character spelled out, so that a foreign record cannot write on the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def painted(text: str) -> str:
    """Return a word in its colour, if it has one."""
    code = COLOURS.get(text.strip())
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def span(seconds: float | None) -> str:
    """Return a length of time in its two largest units: `0.4 s`, `12 s`, `3 min 5 s`, `2 d 4 h`; `-` for None."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    left, parts = int(seconds), list[str]()
    for length, unit in _SPANS:
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {unit}")
        if len(parts) == 2 or (parts and not count):
            break
    return " ".join(parts)


def moment(micros: int | None) -> str:
    """Return a time as `2026-01-31 12:00:00Z`; `-` for None or 0."""
    return f"{from_micros(micros):%Y-%m-%d %H:%M:%S}Z" if micros else "-"


def retention(seconds: int | None) -> str:
    """Return how long records are kept."""
    return "for ever" if seconds is None else span(timedelta(seconds=seconds).total_seconds())
