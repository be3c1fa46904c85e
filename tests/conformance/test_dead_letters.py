"""Dead letters are redriven, edited and discarded in their place, once, and in the order of their keys.

Runs on every engine that `--millrace-engine` names.
"""

from millrace.testing.conformance import EngineKit, Promise, dead_letters, each


@each(dead_letters)
async def test_promise(engine_kit: EngineKit, promise: Promise) -> None:
    """The engine keeps the promise that the check's docstring states."""
    await promise(engine_kit)
