"""Consumers are looked after: paused, stopped, moved; by every instance, over restarts, repeating no effect and losing nothing.

Runs on every engine that `--millrace-engine` names.
"""

from millrace.testing.conformance import EngineKit, Promise, consumers, each


@each(consumers)
async def test_promise(engine_kit: EngineKit, promise: Promise) -> None:
    """The engine keeps the promise that the check's docstring states."""
    await promise(engine_kit)
