"""Small measuring instruments every side uses: verification, percentiles, peak memory.

Contract: needs the standard library alone, so that a twin stays a program of its own; nothing here knows what is
measured.
"""

import resource
import sys
from collections.abc import Sequence
from typing import NoReturn


class NotVerifiedError(Exception):
    """A run's own check of its result failed; its figures count for nothing."""


def check(condition: bool, message: str) -> None:
    """Fail the run with ``message`` unless ``condition`` holds."""
    if not condition:
        fail(message)


def fail(message: str) -> NoReturn:
    """Fail the run: what was expected of its result does not hold."""
    raise NotVerifiedError(message)


def peak_rss_mib() -> float:
    """Highest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of values that are sorted already, e.g. ``share=0.99``."""
    if not ordered:
        fail("no values were measured")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
