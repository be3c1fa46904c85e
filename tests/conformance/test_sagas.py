"""Sagas: each step once, a way back from everywhere, deadlines, versions, ways out of what is stuck.

Runs on every engine that `--millrace-engine` names.
"""

import msgspec
import pytest

from millrace.testing.conformance import EngineKit, Promise, each, sagas
from millrace.testing.conformance.saga_sample import order_saga


@each(sagas)
async def test_promise(engine_kit: EngineKit, promise: Promise) -> None:
    """The engine keeps the promise that the check's docstring states."""
    await promise(engine_kit)


async def test_forgotten_undo_is_found(engine_kit: EngineKit) -> None:
    """The check of what is undone fails for a table in which one undo was forgotten."""
    saga = order_saga()
    forgetful = msgspec.structs.replace(saga._rows["pay"], undo=None, undone=(), undo_failed=(), nothing_to_undo="forgotten")
    saga._rows["pay"] = forgetful
    with pytest.raises(AssertionError, match="refunded"):
        await sagas.what_was_done_is_undone(engine_kit, saga=saga)
