"""Where a specification begins: `given` of a decider, a handler, a view or a saga.

Neighbours: `specification` and `saga_specification` are what comes out.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

from millrace.saga import Saga
from millrace.state import Selector
from millrace.testing import specification
from millrace.testing.saga_specification import SagaSpecification
from millrace.testing.specification import AggregateSpecification


@typing.overload
def given(subject: Saga, /) -> SagaSpecification: ...
@typing.overload
def given(subject: Callable[..., Any], evolve: Callable[..., Any], /) -> AggregateSpecification: ...
@typing.overload
def given(subject: Callable[..., Any], /, **rows: Selector) -> Any: ...
def given(subject: Any, evolve: Callable[..., Any] | None = None, /, **rows: Selector) -> Any:
    """Begin a specification: of a saga, of a decider with its evolve function, of a pure handler, or of a view's function.

    Args:
        subject: the saga, or the user's function.
        evolve: of the decider.
        rows: of the handler, as its decorator is told; without them it is given rows by the annotations of its parameters.

    Raises:
        ConfigurationError: the function is async; run an application on the `millrace_app` fixture for those. Or rows are told of what
            takes none; or the saga's table cannot work.
    """
    if isinstance(subject, Saga):
        return SagaSpecification(subject)
    return specification.given(subject, evolve, **rows) if evolve is not None else specification.given(subject, **rows)


__all__ = ["given"]
