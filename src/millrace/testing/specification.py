"""Given, when, then: what deciders, handlers, views and timers do, on values, with no engine and no event loop.

    given(decide, evolve).events(OrderPlaced(...)).when(CancelOrder(...)).then(OrderCancelled(...))
    given(reserve).states(Stock(sku="a", on_hand=3)).when(ReserveStock(...)).then(StockReserved(...), Stock(sku="a", reserved=1))
    given(ship, reservation=Reservation.by("order_id"), stock=Stock.of("reservation", skus_of)).states(...).when(ItemShipped(...)).then(...)
    given(order_status).view(None).when(OrderPlaced(...)).then(OrderStatus(...))
    given(decide, evolve).when(PlaceOrder(...)).timer("expire").fires().then(OrderExpired(...))

A handler gets the rows that were given, by the annotations of its parameters; where `given` is told what the handler's decorator is
told, it gets exactly those that these selectors name.

Messages are compared in order, states by class and key, timers by name and due time. A failure shows what was given, expected and got.

Neighbours: calls users' functions as `aggregate`, `handler` and `view` do; nothing here stores anything.
"""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self

import msgspec

from millrace.delivery import Context
from millrace.errors import ConfigurationError, NotYet, Rejected
from millrace.handler import PureHandler
from millrace.message import Message, key_of
from millrace.processor import items_of, parameter_names, parameter_of_type, type_hints
from millrace.state import Delete, Selector, State, View, row_key
from millrace.timers import Cancel, Timer

START = datetime(2026, 1, 1, tzinfo=UTC)
"""The time at which `when` happens unless it says otherwise; the first time of a `ManualClock`."""


class Specification:
    """What all three kinds share: one message, one result, and what to say about it."""

    def __init__(self) -> None:
        self._given: list[object] = []
        self._message: Message | None = None
        self._now = START
        self._key = ""
        self._got: Sequence[Any] = ()
        self._raised: BaseException | None = None

    def when(self, message: Message, *, now: datetime | None = None, key: str | None = None) -> Self:
        """Hand the message in, at a time, under a key (default: its own)."""
        self._message, self._now = message, now or self._now
        self._key = key_of(message) if key is None else key
        context = Context.example(now=self._now, key=self._key, id="test-1", source="/test/given", correlationid=self._key)
        self._got, self._raised = (), None
        try:
            self._got = items_of(self._call(message, context))
        except ConfigurationError:
            raise
        except (Exception, NotYet) as error:  # noqa: BLE001  # what was raised is the result, `then` judges it
            self._raised = error
        return self

    def then(self, *expected: Any) -> Self:
        """Expect exactly these results.

        Raises:
            AssertionError: they differ; the message shows both.
        """
        self._must_have_run()
        wanted, got = self._comparable(expected), self._comparable(self._got)
        if self._raised is not None or wanted != got:
            raise AssertionError(self._report([*wanted] or ["nothing"], self._shown())) from self._raised
        return self

    def nothing(self) -> Self:
        """Expect that nothing happens."""
        return self.then()

    def rejected(self, reason: str, **detail: object) -> Self:
        """Expect a refusal with this reason, and these details if any are given."""
        self._must_have_run()
        error = self._raised
        fits = isinstance(error, Rejected) and error.reason == reason and (not detail or error.detail == detail)
        if not fits:
            raise AssertionError(self._report([_refusal(Rejected(reason, **detail))], self._shown())) from error
        return self

    def not_yet(self, reason: str | None = None) -> Self:
        """Expect that the message waits."""
        self._must_have_run()
        error = self._raised
        if not isinstance(error, NotYet) or reason not in (None, error.reason):
            raise AssertionError(self._report([f"not yet: {reason or '(any reason)'}"], self._shown())) from error
        return self

    def raises(self, kind: type[BaseException]) -> Self:
        """Expect that the function fails in this way."""
        self._must_have_run()
        error = self._raised
        fits = isinstance(error, kind)
        if not fits:
            raise AssertionError(self._report([kind.__name__], self._shown())) from error
        return self

    def timer(self, name: str) -> Expiry:
        """Return the timer of this name that was set; `.fires()` hands its message in when it is due."""
        self._must_have_run()
        for item in self._got:
            if isinstance(item, Timer) and item.name == name:
                return Expiry(self, item)
        raise AssertionError(self._report([f"timer {name!r}"], self._shown())) from self._raised

    def fire(self, timer: Timer) -> Self:
        """Accept what was got, then hand the timer's message in at its time, under the same key."""
        self._accept()
        return self.when(timer.message, now=timer.due(self._now), key=self._key)

    def _must_have_run(self) -> None:
        if self._message is None:
            raise ConfigurationError("call .when(message) before asking what happened")

    def _call(self, message: Message, context: Context) -> Any:
        raise NotImplementedError

    def _accept(self) -> None:
        raise NotImplementedError

    def _comparable(self, items: Sequence[Any]) -> list[str]:
        """Return one line per item: messages in order, then states, deletions, timers in an order of their own."""
        messages = [item for item in items if isinstance(item, Message)]
        others = {_identity(item): item for item in items if not isinstance(item, Message)}
        return [shown(item) for item in messages] + [self._line(others[name]) for name in sorted(others)]

    def _line(self, item: Any) -> str:
        if isinstance(item, Timer):
            kind = ", event_time=True" if item.event_time else ""
            return f"Timer({item.name!r}, {shown(item.message)}, at={item.due(self._now).isoformat()}{kind})"
        return shown(item)

    def _shown(self) -> list[str]:
        match self._raised:
            case None:
                return self._comparable(self._got) or ["nothing"]
            case Rejected():
                return [_refusal(self._raised)]
            case NotYet():
                return [f"not yet: {self._raised.reason}"]
            case _:
                return [f"{type(self._raised).__name__}: {self._raised}"]

    def _report(self, expected: Sequence[str], got: Sequence[str]) -> str:
        given_lines = [f"  {shown(item)}" for item in self._given] or ["  nothing"]
        difference = [line for line in difflib.ndiff(expected, got) if not line.startswith("  ")]
        return "\n".join(
            [
                *("given", *given_lines),
                *("when", f"  {shown(self._message)} at {self._now.isoformat()}"),
                *("expected", *(f"  {line}" for line in expected)),
                *("got", *(f"  {line}" for line in got)),
                *("difference", *(f"  {line.rstrip()}" for line in difference)),
            ]
        )


class Expiry:
    """A timer that was set in a specification."""

    def __init__(self, specification: Specification, timer: Timer) -> None:
        self._specification = specification
        self.timer = timer

    def fires(self) -> Specification:
        """Hand the timer's message in, at the moment it is due; go on with `then` and the others."""
        return self._specification.fire(self.timer)


class AggregateSpecification(Specification):
    """A decider with the function that folds its events."""

    def __init__(self, decide: Callable[..., Any], evolve: Callable[..., Any]) -> None:
        super().__init__()
        self._decide, self._evolve = decide, evolve
        self._events = tuple(_classes_in(type_hints(evolve)[parameter_names(evolve)[1]]))
        self._state: Any = None

    def events(self, *events: Message) -> Self:
        """Fold these events first."""
        self._given += events
        for event in events:
            self._state = self._evolve(self._state, event)
        return self

    def state(self, expected: Any) -> Self:
        """Expect this state after what happened."""
        self._must_have_run()
        after = self._state
        for event in self._own():
            after = self._evolve(after, event)
        if after != expected:
            raise AssertionError(self._report([shown(expected)], [shown(after)])) from self._raised
        return self

    def _own(self) -> list[Message]:
        return [item for item in self._got if isinstance(item, self._events)]

    def _call(self, message: Message, context: Context) -> Any:
        return self._decide(message, self._state, context)

    def _accept(self) -> None:
        self.events(*self._own())


class HandlerSpecification(Specification):
    """A pure handler with the rows it asks for.

    Args:
        function: the handler.
        selectors: which rows its parameters are given; none: by their annotations.
    """

    def __init__(self, function: Callable[..., Any], selectors: Mapping[str, Selector]) -> None:
        super().__init__()
        if selectors:
            PureHandler(function, selectors, processor="given")  # refuses what the runtime refuses
        self._selectors = selectors
        self._function = function
        self._context = parameter_of_type(function, Context)
        hints = type_hints(function)
        self._rows = {name: hints[name] for name in parameter_names(function)[1:] if name != self._context}
        self._states: dict[tuple[type[State], str], State] = {}

    def states(self, *states: State) -> Self:
        """Let these rows be there; a row that is asked for and not given is None."""
        self._given += states
        self._states.update({(type(state), row_key(state)): state for state in states})
        return self

    def _call(self, message: Message, context: Context) -> Any:
        by_hint = {} if self._selectors else {name: self._argument(name, hint) for name, hint in self._rows.items()}
        arguments = self._selected(message) | by_hint
        if self._context is not None:
            arguments[self._context] = context
        return self._function(message, **arguments)

    def _selected(self, message: Message) -> dict[str, Any]:
        """Return what the runtime hands over: rows that the message names, then those that these name."""
        found: dict[str, Any] = {}
        for name, selector in sorted(self._selectors.items(), key=lambda item: bool(item[1].source)):
            keys = selector.named_by(found[selector.source]) if selector.source else selector.keys(message)
            if keys is None or isinstance(keys, str):
                found[name] = self._states.get((selector.state, keys or ""))
            else:
                found[name] = {key: self._states.get((selector.state, key)) for key in keys}
        return found

    def _argument(self, name: str, hint: Any) -> Any:
        classes = _classes_in(hint)
        cls = next((each for each in classes if issubclass(each, State)), None)
        if cls is None:
            raise ConfigurationError(f"{self._function.__name__}: annotate {name!r} with a State class, or a dict of one")
        there = {key: state for (kind, key), state in self._states.items() if kind is cls}
        if isinstance(origin := typing.get_origin(hint), type) and issubclass(origin, Mapping):
            return _Given(there)
        if len(there) > 1:
            raise ConfigurationError(f"{self._function.__name__}: {name!r} takes one {cls.__name__}, {len(there)} were given")
        return next(iter(there.values()), None)

    def _accept(self) -> None:
        for item in self._got:
            if isinstance(item, Delete):
                self._states.pop((type(item.state), row_key(item.state)), None)
            elif isinstance(item, State):
                self._states[type(item), row_key(item)] = item


class ViewSpecification(Specification):
    """A view's function with its document."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function
        self._context = parameter_of_type(function, Context)
        self._document: Any = None

    def view(self, document: View | None) -> Self:
        """Let this document be there, or none."""
        self._given = [] if document is None else [document]
        self._document = document
        return self

    def _call(self, message: Message, context: Context) -> Any:
        extra = {self._context: context} if self._context is not None else {}
        return self._function(self._document, message, **extra)

    def _accept(self) -> None:
        for item in self._got:
            self._document = None if isinstance(item, Delete) else item


class _Given(dict[str, Any]):
    """Rows by key; one that was not given is None, as the runtime hands it over."""

    def __missing__(self, key: str) -> None:
        return None


@typing.overload
def given(function: Callable[..., Any], evolve: Callable[..., Any], /) -> AggregateSpecification: ...
@typing.overload
def given(function: Callable[..., Any], /, **rows: Selector) -> Any: ...
def given(function: Callable[..., Any], evolve: Callable[..., Any] | None = None, /, **rows: Selector) -> Any:
    """Begin a specification: of a decider with its evolve function, of a pure handler, or of a view's function.

    Args:
        function: of the user.
        evolve: of the decider.
        rows: of the handler, as its decorator is told; without them it is given rows by the annotations of its parameters.

    Raises:
        ConfigurationError: the function is async; run an application on the `millrace_app` fixture for those. Or rows are told of what
            takes none.
    """
    if inspect.iscoroutinefunction(function):
        raise ConfigurationError(f"{function.__name__} is async: it needs a transaction or the outside world; test it in an application")
    if evolve is not None and not rows:
        return AggregateSpecification(function, evolve)
    names, hints = parameter_names(function), type_hints(function)
    first = _classes_in(hints.get(names[0])) if names else []
    if evolve is None and first and all(issubclass(cls, Message) for cls in first):
        return HandlerSpecification(function, rows)
    if rows:
        raise ConfigurationError(f"{function.__name__}: rows are for handlers")
    if any(issubclass(cls, View) for cls in first):
        return ViewSpecification(function)
    raise ConfigurationError(f"{function.__name__}: annotate its first parameter with the messages it handles, or with the view it folds")


def shown(value: object) -> str:
    """Return a value as a test would write it, fields at their defaults left out."""
    if not isinstance(value, msgspec.Struct):
        return repr(value)
    fields = msgspec.structs.fields(value)
    parts = [f"{field.name}={shown(got)}" for field in fields if (got := getattr(value, field.name)) != field.default]
    return f"{type(value).__name__}({', '.join(parts)})"


def _refusal(error: Rejected) -> str:
    detail = ", ".join(f"{name}={value!r}" for name, value in error.detail.items())
    return f"rejected: {error.reason}" + (f" ({detail})" if detail else "")


def _identity(item: Any) -> tuple[str, str]:
    if isinstance(item, Timer | Cancel):
        return "Timer", item.name
    row = item.state if isinstance(item, Delete) else item
    return type(row).__name__, row_key(row) if isinstance(row, State) else repr(row)


def _classes_in(hint: Any) -> list[type]:
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        return [] if hint is types.NoneType else [hint]
    parts: Iterable[Any] = typing.get_args(hint)
    return [cls for part in parts for cls in _classes_in(part) if cls is not str]


__all__ = ["AggregateSpecification", "Expiry", "HandlerSpecification", "Specification", "ViewSpecification", "given", "shown"]
