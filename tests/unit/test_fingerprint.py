"""Fingerprints: the same for what failed in the same way, another one for what did not."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from millrace.fingerprint import LENGTH, fingerprint_of, fingerprint_of_reason

SOURCE = """
def reach(depth, error):
    if depth:
        return reach(depth - 1, error)
    raise error

def handle(depth, error):
    try:
        reach(depth, error)
    except KeyError as inner:
        raise RuntimeError("outer") from inner

def other(depth, error):
    reach(depth, error)
"""


def module(source: str) -> ModuleType:
    """Return a module of an application."""
    made = ModuleType("app.handlers")
    exec(compile(source, "handlers.py", "exec"), made.__dict__)
    return made


def caught(function: Callable[[int, Exception], None], depth: int, error: Exception) -> str:
    """Return the fingerprint of what a function raises."""
    try:
        function(depth, error)
    except Exception as failure:  # noqa: BLE001  # whatever it is
        return fingerprint_of(failure)
    raise AssertionError("it raised nothing")


def test_values_lines_and_depth_do_not_count() -> None:
    """Another message, a line that moved, a deeper recursion: the same failure."""
    now, later = module(SOURCE), module("\n\n# a comment\n" + SOURCE)
    found = {
        caught(now.handle, 0, ValueError("order 17")),
        caught(later.handle, 0, ValueError("order 18")),
        caught(now.handle, 1, ValueError("")),
        caught(now.handle, 9, ValueError("")),
    }
    assert len(found) == 1
    assert {len(each) for each in found} == {LENGTH}


def test_types_ways_and_causes_count() -> None:
    """Another exception, another function on the way, another cause: another failure."""
    made = module(SOURCE)
    found = [
        caught(made.handle, 0, ValueError()),
        caught(made.handle, 0, TypeError()),
        caught(made.other, 0, ValueError()),
        caught(made.handle, 0, KeyError()),
        caught(made.handle, 0, RuntimeError()),
    ]
    assert len(set(found)) == len(found)


def test_figures_of_what_was_said_do_not_count() -> None:
    """What could not be read is told by its reason and by what was said of it, but for figures."""
    said = fingerprint_of_reason("undecodable", "JSON is malformed: invalid character (byte 17)")
    assert said == fingerprint_of_reason("undecodable", "JSON is malformed: invalid character (byte 4711)")
    assert said != fingerprint_of_reason("undecodable", "Input data was truncated")
    assert said != fingerprint_of_reason("invalid", "JSON is malformed: invalid character (byte 17)")
