"""What a failure says about its message: try again, never again, or stop.

    transient   it may go well later: the message waits and is tried again, up to the attempts of its policy
    refused     an answer, no failure: `Rejected` goes to the asker and the message is done with
    poison      it can never go well with this message: a dead letter at the first try
    fatal       it can go well with no message: the processor stops, the message is kept

Which is which by default, and why:

- What the outside world does not answer (`ConnectionError`, `TimeoutError`, any `OSError`), stores, queues and versions: transient.
- Mistakes in code (`TypeError`, `AttributeError`, `NameError`, `ImportError`, `NotImplementedError`, `AssertionError`, `RecursionError`),
  what a function may not return (`ConfigurationError`), bytes that cannot be decoded: poison. The same function fails on the same
  message in the same way however often it is called, so a pause only delays the moment at which somebody looks.
- `Fatal`, raised on purpose: fatal. Nothing else is by itself: a mistake that one message in a thousand meets must not hold up the others,
  and one that every message meets is caught by the limit (`retry.FailureLimit`).
- Everything else is not known to be hopeless and is tried again. `ValueError` and `KeyError` belong here: they often come of an answer of
  somebody else, or of a row that is not there yet. A try costs little, a dead letter costs an operator.

Neighbours: `retry.RetryPolicy` asks here, after the mapping or function that its user gave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from millrace.errors import (
    ConfigurationError,
    DecodeError,
    Fatal,
    Poison,
    Recovery,
    Rejected,
    Transient,
)


class Kind(StrEnum):
    """What becomes of a message whose function raised; see the module."""

    TRANSIENT = "transient"
    REFUSED = "refused"
    POISON = "poison"
    FATAL = "fatal"


DEFAULTS: Mapping[type[BaseException], Kind] = {
    Transient: Kind.TRANSIENT,
    Rejected: Kind.REFUSED,
    Poison: Kind.POISON,
    DecodeError: Kind.POISON,
    Fatal: Kind.FATAL,
    ConfigurationError: Kind.POISON,
    Recovery: Kind.FATAL,
    OSError: Kind.TRANSIENT,
    TypeError: Kind.POISON,
    AttributeError: Kind.POISON,
    NameError: Kind.POISON,
    ImportError: Kind.POISON,
    NotImplementedError: Kind.POISON,
    AssertionError: Kind.POISON,
    RecursionError: Kind.POISON,
}
"""By class; the nearest class in an error's line of ancestors decides, and what none of them knows is transient."""

Classify = Mapping[type[BaseException], str] | Callable[[BaseException], str | None]


def kind_of(error: BaseException, classify: Classify | None = None) -> Kind:
    """Return what an error says about its message.

    Args:
        error: what was raised.
        classify: asked first: kinds by class, or a function that may return None for what it does not know.

    Raises:
        ConfigurationError: `classify` names a kind that there is none of.
    """
    found = None
    if callable(classify):
        found = classify(error)
    elif classify is not None:
        found = _nearest(error, classify)
    return checked(found or _nearest(error, DEFAULTS) or Kind.TRANSIENT)


def checked(kind: str) -> Kind:
    """Return the kind of that name.

    Raises:
        ConfigurationError: there is none.
    """
    try:
        return Kind(kind)
    except ValueError:
        raise ConfigurationError(f"{kind!r} is no kind of failure; choose from {', '.join(Kind)}") from None


def _nearest(error: BaseException, kinds: Mapping[type[BaseException], str]) -> str | None:
    return next((kinds[cls] for cls in type(error).__mro__ if cls in kinds), None)


__all__ = ["Classify", "Kind", "checked", "kind_of"]
