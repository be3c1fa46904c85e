"""Guarantee 2: effects in the store happen once.

Runs on every engine that `--millrace-engine` names.
"""

from millrace.testing.conformance import EngineKit, Promise, each, g02_effects_once


@each(g02_effects_once)
async def test_promise(engine_kit: EngineKit, promise: Promise) -> None:
    """The engine keeps the promise that the check's docstring states."""
    await promise(engine_kit)
