"""The one idea: (batch of messages, keyed state) -> (new state, new messages), committed together with "read up to here".

A `Pattern` is one way to write that function: a handler, an aggregate, a view, a plain handler, an activity. A `Processor` is a named
group of patterns that read with one set of positions, so order per (topic, key) holds among them. Whoever adds a pattern writes
`wants` (which rows) and `react` (what happens), and no loop.

Neighbours: patterns stage what they decide on a `UnitOfWork`; the runtime drives processors and nothing else.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import Enum
from typing import Any, Protocol, Union, get_args, get_origin

from millrace.breaker import Breaker
from millrace.delivery import Delivery
from millrace.errors import ConfigurationError
from millrace.message import Message, declaration
from millrace.retry import RetryPolicy
from millrace.state import Delete, State
from millrace.timers import Cancel, Timer
from millrace.unit_of_work import UnitOfWork


class Mode(Enum):
    """Where a pattern's function runs."""

    PURE = "pure"
    TRANSACTION = "transaction"
    OUTSIDE = "outside"


class Pattern(Protocol):
    """One way to write a processor's function."""

    name: str
    mode: Mode
    messages: tuple[type[Message], ...]
    replayable: bool
    """Its messages may be delivered again when an operator moves its position back; others are dropped as duplicates then."""

    @property
    def quiet(self) -> Collection[type[Message]]:
        """Messages that nobody waits for but who asks for what it keeps: they may wait a moment for company."""
        ...

    @property
    def missing(self) -> Callable[[Delivery, UnitOfWork], bool] | None:
        """Names the rows that rows name, as these are now; returns whether they must be loaded. None: the message names all.

        Asked when the naming rows were loaded, and again right before `react`, because an earlier message may have changed them.
        """
        ...

    def wants(self, delivery: Delivery, work: UnitOfWork) -> None:
        """Name the rows that the function needs for this message."""
        ...

    def react(self, delivery: Delivery, work: UnitOfWork) -> None:
        """Run the function and stage what it decides; raises before anything is staged, or not at all."""
        ...

    async def call(self, delivery: Delivery, work: UnitOfWork | None) -> Any:
        """Run an async function: in the transaction (`work` given) or outside it (`work` None)."""
        ...


class Processor:
    """Patterns that share positions.

    Args:
        name: unique in its service; part of the consumer group.
        mode: where its functions run.
        workers: how many activities are called at once; None: as many as by default.
        breaker: of what its functions call; it pauses the processor.
    """

    def __init__(self, name: str, *, mode: Mode = Mode.PURE, workers: int | None = None, breaker: Breaker | None = None) -> None:
        self.name = name
        self.mode = mode
        self.workers = workers
        self.breaker = breaker
        self.routes: dict[type[Message], Pattern] = {}
        self.retries: dict[type[Message], RetryPolicy | None] = {}

    def add(self, pattern: Pattern, *, retry: RetryPolicy | None = None) -> None:
        """Add a pattern, with a retry policy of its own if it has one.

        Raises:
            ConfigurationError: a message type is handled twice, or the pattern runs elsewhere than its neighbours.
        """
        if pattern.mode is not self.mode:
            raise ConfigurationError(f"{pattern.name}: a {pattern.mode.value} function cannot join processor {self.name!r}")
        for cls in pattern.messages:
            if cls in self.routes:
                raise ConfigurationError(
                    f"{cls.__name__} is handled by {self.routes[cls].name} and {pattern.name} in processor {self.name!r}; "
                    "merge them, or put one into a processor of its own with processor='...'"
                )
            self.routes[cls], self.retries[cls] = pattern, retry

    def topics(self) -> tuple[str, ...]:
        """Return the topics it reads."""
        return tuple(sorted({topic for cls in self.routes if (topic := declaration(cls).topic)}))


def annotated_messages(function: Callable[..., Any], *, position: int = 0) -> tuple[type[Message], ...]:
    """Return the message classes in the annotation of a function's parameter.

    Raises:
        ConfigurationError: there is no such annotation, or it names something else than messages.
    """
    hints = type_hints(function)
    names = parameter_names(function)
    if len(names) <= position or names[position] not in hints:
        raise ConfigurationError(f"{function.__qualname__}: annotate parameter {position + 1} with the message types it takes")
    found = tuple(_members(hints[names[position]]))
    for cls in found:
        if not (isinstance(cls, type) and issubclass(cls, Message)):
            raise ConfigurationError(f"{function.__qualname__}: {cls!r} in the annotation is no Event or Command")
        declaration(cls)
    return found


def said_messages(function: Callable[..., Any]) -> tuple[type[Message], ...]:
    """Return the message classes that a function's return annotation names, as far as it names any."""
    try:
        hint = type_hints(function).get("return")
    except ConfigurationError:
        return ()
    return tuple(cls for cls in _members(hint) if isinstance(cls, type) and issubclass(cls, Message) and hasattr(cls, "__declaration__"))


def says_nothing(function: Callable[..., Any]) -> bool:
    """Return whether a function's return annotation promises that it changes rows and sets timers at most."""
    try:
        hints = type_hints(function)
    except ConfigurationError:
        return False
    returned = _members(hints["return"]) if "return" in hints else (object,)
    return all(isinstance(cls, type) and issubclass(cls, State | Delete | Timer | Cancel) for cls in returned)


def parameter_names(function: Callable[..., Any]) -> Sequence[str]:
    """Return the names of a function's parameters in order."""
    code = getattr(function, "__code__", None)
    if code is None:
        raise ConfigurationError(f"{function!r} is no plain function")
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def parameter_of_type(function: Callable[..., Any], wanted: type) -> str | None:
    """Return the name of the parameter annotated with a type."""
    hints = type_hints(function)
    return next((name for name in parameter_names(function) if hints.get(name) is wanted), None)


def type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return resolved annotations.

    Raises:
        ConfigurationError: one cannot be resolved.
    """
    try:
        return typing.get_type_hints(function)
    except NameError as error:
        raise ConfigurationError(
            f"{function.__qualname__}: {error}; annotations are read at run time, so import the type outside TYPE_CHECKING"
        ) from error


def _members(hint: Any) -> Iterable[Any]:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType) or (isinstance(origin, type) and origin is not type):
        for part in get_args(hint):
            if part is not types.NoneType and part is not Ellipsis:
                yield from _members(part)
    elif hint is not None and hint is not types.NoneType:
        yield hint


def items_of(result: Any) -> Sequence[Any]:
    """Return what a function returned as a sequence: None, one item, or several."""
    if result is None:
        return ()
    if isinstance(result, tuple | list):
        return result  # type: ignore[no-any-return]
    if isinstance(result, Iterable) and not isinstance(result, str | bytes):
        return tuple(result)  # type: ignore[arg-type]
    return (result,)
