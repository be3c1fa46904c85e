"""The promises of DESIGN as checks that any engine can be held to.

One module per guarantee; each ends in `PROMISES`, a tuple of async functions that take an `EngineKit` and fail with an `AssertionError`
that says what was lost. A test file of an engine is

    from millrace.testing.conformance import each, g04_order

    @each(g04_order)
    async def test_promise(engine_kit, promise): await promise(engine_kit)

and `pytest --millrace-engine mypackage.kit:MyKit` hands an engine over. `millrace.testing.mutants` shows that the checks can fail.

Neighbours: `kit` says what an engine brings, `lab` runs applications on it, `sample` is the application that is run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

import pytest

from millrace.testing.conformance.kit import EngineKit

Promise = Callable[[EngineKit], Awaitable[None]]


def promises_of(module: ModuleType) -> tuple[Promise, ...]:
    """Return the checks of a module."""
    return module.PROMISES


def each(*modules: ModuleType) -> Any:
    """Run a test that takes `promise` once for every check of the modules."""
    found = [promise for module in modules for promise in promises_of(module)]
    return pytest.mark.parametrize("promise", found, ids=[getattr(promise, "__name__", "promise") for promise in found])


__all__ = ["EngineKit", "Promise", "each", "promises_of"]
