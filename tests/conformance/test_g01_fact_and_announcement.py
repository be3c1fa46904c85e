"""Guarantee 1: state, facts, timers and positions commit together, and only the relay publishes.

Runs on every engine that `--millrace-engine` names.
"""

from millrace.testing.conformance import EngineKit, Promise, each, g01_fact_and_announcement


@each(g01_fact_and_announcement)
async def test_promise(engine_kit: EngineKit, promise: Promise) -> None:
    """The engine keeps the promise that the check's docstring states."""
    await promise(engine_kit)
