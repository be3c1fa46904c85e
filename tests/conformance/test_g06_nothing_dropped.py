"""Guarantee 6: nothing is silently dropped, and the ledger names what is missing.

Runs on every engine that `--millrace-engine` names.
"""

from millrace.testing.conformance import EngineKit, Promise, each, g06_nothing_dropped


@each(g06_nothing_dropped)
async def test_promise(engine_kit: EngineKit, promise: Promise) -> None:
    """The engine keeps the promise that the check's docstring states."""
    await promise(engine_kit)
