"""The conformance suite can fail: on an engine that breaks a guarantee, that guarantee's checks find it."""

import importlib
import pkgutil

import pytest

from millrace.testing import conformance
from millrace.testing.conformance import EngineKit
from millrace.testing.mutants import MUTANTS, Mutant, failure_of


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.guarantee} {mutant.breaks}")
async def test_mutant_is_caught(engine_kit: EngineKit, mutant: Mutant) -> None:
    """The check that a mutant names fails on it with a sentence or a difference, not by accident."""
    failure = await failure_of(mutant.caught_by, mutant.on(engine_kit))
    assert isinstance(failure, (AssertionError, TimeoutError, pytest.fail.Exception)), f"the suite did not notice: {failure!r}"


def test_every_suite_has_a_mutant() -> None:
    """No promise of an engine is checked by a suite that was never seen to fail."""
    modules = [importlib.import_module(f"{conformance.__name__}.{found.name}") for found in pkgutil.iter_modules(conformance.__path__)]
    suites = {module.__name__ for module in modules if hasattr(module, "PROMISES")}
    assert {mutant.caught_by.__module__ for mutant in MUTANTS} == suites
    assert {mutant.guarantee for mutant in MUTANTS if isinstance(mutant.guarantee, int)} == {1, 2, 3, 4, 5, 6, 8, 9, 10}
