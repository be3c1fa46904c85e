"""The conformance suite can fail: on an engine that breaks a guarantee, that guarantee's checks find it."""

import pytest

from millrace.testing.conformance import EngineKit
from millrace.testing.mutants import MUTANTS, Mutant, failure_of


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.guarantee} {mutant.breaks}")
async def test_mutant_is_caught(engine_kit: EngineKit, mutant: Mutant) -> None:
    """The check that a mutant names fails on it with a sentence or a difference, not by accident."""
    failure = await failure_of(mutant.caught_by, mutant.on(engine_kit))
    assert isinstance(failure, (AssertionError, TimeoutError, pytest.fail.Exception)), f"the suite did not notice: {failure!r}"


def test_every_guarantee_has_a_mutant() -> None:
    """No guarantee of an engine is checked by tests that were never seen to fail."""
    assert {mutant.guarantee for mutant in MUTANTS} == {1, 2, 3, 4, 5, 6, 8, 9, 10}
