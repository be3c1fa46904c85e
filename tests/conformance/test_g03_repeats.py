"""Guarantee 3: a repeated publication is recognised, and nothing new is taken for one.

Runs on every engine that `--millrace-engine` names.
"""

from millrace.testing.conformance import EngineKit, Promise, each, g03_repeats


@each(g03_repeats)
async def test_promise(engine_kit: EngineKit, promise: Promise) -> None:
    """The engine keeps the promise that the check's docstring states."""
    await promise(engine_kit)
