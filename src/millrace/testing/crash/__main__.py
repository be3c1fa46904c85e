"""Runs one entry point with a trap, to look at a crash point by hand.

    python -m millrace.testing.crash --at 17 --steps steps.txt parcomolo.cli:main serve --data ./data

Neighbours: `forking.run` does it.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from millrace.testing.crash.counting import Trap
from millrace.testing.crash.forking import run


def parser() -> argparse.ArgumentParser:
    """Return the grammar of the command line."""
    top = argparse.ArgumentParser(prog="python -m millrace.testing.crash", description="Run a program until its n-th durable operation.")
    top.add_argument("--steps", type=Path, default=Path("steps.txt"), metavar="FILE", help="where steps are noted (default: steps.txt)")
    top.add_argument("--at", type=int, metavar="N", help="send the signal right after this step, 0: before the first (default: never)")
    top.add_argument("--early", action="store_true", help="not after but shortly before that step")
    top.add_argument("--service", metavar="NAME", help="count the steps of one service only")
    top.add_argument("--signal", default="KILL", metavar="NAME", help="which signal (default: KILL)")
    top.add_argument("--later", action="store_true", help="count from the moment on at which FILE is created by somebody else")
    top.add_argument("entry", metavar="MODULE:FUNCTION", help="what to run; the function gets the arguments as a list")
    top.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="its arguments")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status, if it lives to have one."""
    options = parser().parse_args(argv)
    number = signal.Signals[f"SIG{options.signal.removeprefix('SIG')}"]
    trap = Trap(steps=options.steps.absolute(), at=options.at, early=options.early, service=options.service, signal=number)
    options.steps.unlink(missing_ok=True)
    if not options.later:
        trap.arm()
    return run(options.entry, options.arguments, trap=trap)


if __name__ == "__main__":
    sys.exit(main())
