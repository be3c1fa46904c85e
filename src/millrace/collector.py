"""The interpreter's garbage collector, as programs that work in batches want it.

Neighbours: `application` calls this once everything has started.
"""

from __future__ import annotations

import gc


def calm_the_collector() -> None:
    """Keep what start-up made out of every collection, and collect less often, unless the program has set its own thresholds.

    A batch keeps some ten thousand small objects alive until its commit, none of them in cycles; with the interpreter's default
    the youngest generation is scanned hundreds of times for nothing (a fifth of a message's cost, measured).
    """
    if gc.get_threshold()[0] in {700, 2000}:
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)


__all__ = ["calm_the_collector"]
