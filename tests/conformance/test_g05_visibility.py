"""Guarantee 5: journal positions become visible in order.

Runs on every engine that `--millrace-engine` names.
"""

from millrace.testing.conformance import EngineKit, Promise, each, g05_visibility


@each(g05_visibility)
async def test_promise(engine_kit: EngineKit, promise: Promise) -> None:
    """The engine keeps the promise that the check's docstring states."""
    await promise(engine_kit)
