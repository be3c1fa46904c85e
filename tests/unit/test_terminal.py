"""Tables and units for people."""

from __future__ import annotations

import pytest

from millrace.terminal import moment, retention, span, table


@pytest.mark.parametrize(
    "seconds,text",
    [
        (None, "-"),
        (-1.0, "0.0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (12.7, "12 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (90_000, "1 d 1 h"),
        (7 * 86_400, "7 d"),
    ],
)
def test_spans(seconds: float | None, text: str) -> None:
    """A length of time is told in the units that matter at its size."""
    assert span(seconds) == text


def test_times() -> None:
    """Times are UTC and say so; what never happened is a dash; what is kept for ever says so."""
    assert moment(1_700_000_000_000_000) == "2023-11-14 22:13:20Z"
    assert moment(None) == moment(0) == "-"
    assert retention(None) == "for ever"
    assert retention(3600) == "1 h"


def test_tables_align() -> None:
    """Columns are as wide as their widest cell, numbers stand to the right, nothing trails."""
    lines = table(("name", ">count", "note"), [("a", 1, None), ("longer", 12_345, "x")]).splitlines()

    assert lines == [
        "NAME     COUNT  NOTE",
        "a            1  -",
        "longer  12,345  x",
    ]


def test_tables_are_harmless() -> None:
    """What a foreign record says cannot write on the terminal."""
    text = table(("key",), [("\x1b[2J\n\u202egone",)])

    assert text == "KEY\n\\x1b[2J\\n\\u202egone"


def test_tables_are_coloured_on_request() -> None:
    """Known words are painted where colour is asked for; widths stay the same without it."""
    assert table(("state",), [("wrong",)], colour=True) == "STATE\n\x1b[31mwrong\x1b[0m"
