"""Three ways to write a handler: pure, plain (in the transaction), and as an activity (outside it).

- pure: a function of the message and the rows it asked for; returns changed rows and messages.
- plain: an async function with a `Transaction` parameter; its own SQL and what it returns commit together with the read position.
- activity: an async function without one; it calls the outside world before the transaction opens, at least once, with `Context.id` as
  the stable idempotency key; what it returns commits with the read position. With `then`, a pure function of the answer and of rows
  decides in that same transaction what follows from it.

A pure handler's rows are named by the message, or by another row of the same handler (`State.of`): those are loaded in a second step and
looked at again right before the function is called.

Neighbours: `service` makes these from decorated functions; the runtime calls them through `processor.Pattern`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from millrace.breaker import Breaker
from millrace.delivery import Context, Delivery
from millrace.errors import ConfigurationError
from millrace.message import Message
from millrace.processor import Mode, annotated_messages, items_of, parameter_names, parameter_of_type, says_nothing
from millrace.retry import RetryPolicy
from millrace.state import Selector, State
from millrace.unit_of_work import Dependent, UnitOfWork


class Transaction(Protocol):
    """What a plain handler may do inside the service's transaction."""

    async def execute(self, sql: str, /, *values: Any) -> list[tuple[Any, ...]]:
        """Run SQL in the transaction; placeholders as the engine's driver takes them (`?` on SQLite, `%s` on PostgreSQL)."""
        ...


class Failing(msgspec.Struct, frozen=True):
    """What a handler says of its failures."""

    retry: RetryPolicy | None = None
    breaker: Breaker | None = None


def part_failing(options: Mapping[str, Any]) -> tuple[Failing, dict[str, Selector]]:
    """Return what a decorator says of failures, and the rows that it asks for.

    Raises:
        ConfigurationError: an option is none of the two.
    """
    failing = {name: value for name, value in options.items() if not isinstance(value, Selector)}
    retry, breaker = failing.pop("retry", None), failing.pop("breaker", None)
    if failing or not isinstance(retry, RetryPolicy | None) or not isinstance(breaker, Breaker | None):
        said = ", ".join(
            f"{name}={value!r}" for name, value in {"retry": retry, "breaker": breaker, **failing}.items() if value is not None
        )
        raise ConfigurationError(f"{said}: give retry=RetryPolicy(...), breaker=Breaker(...), or rows by a State's `by` or `of`")
    return Failing(retry, breaker), {name: value for name, value in options.items() if isinstance(value, Selector)}


def breaker_of(processor: str, handlers: Iterable[PureHandler | AsyncHandler]) -> Breaker | None:
    """Return the breaker of a processor's handlers.

    Raises:
        ConfigurationError: they name different ones.
    """
    breakers = {handler.failing.breaker for handler in handlers if handler.failing.breaker is not None}
    if len(breakers) > 1:
        raise ConfigurationError(
            f"processor {processor!r}: its handlers name different breakers: {sorted(map(repr, breakers))}; it pauses as a whole, so name "
            "one, or put them into processors of their own"
        )
    return next(iter(breakers), None)


class PureHandler:
    """A function (message, rows...) -> rows and messages.

    Args:
        function: as written by the user.
        selectors: parameter name -> which rows.
        processor: name of the processor it belongs to; timers come back there.
        patient: its messages may wait a moment for company.
        answers: its first parameter is not the message but what an activity answered to it.
        replayable: it may be given its messages again.
    """

    mode = Mode.PURE
    failing = Failing()

    def __init__(  # how it is declared, all by keyword
        self,
        function: Callable[..., Any],
        selectors: Mapping[str, Selector],
        *,
        processor: str,
        patient: bool = False,
        answers: bool = False,
        replayable: bool = False,
    ) -> None:
        self.name = function.__name__
        self.messages: tuple[type[Message], ...] = () if answers else annotated_messages(function)
        self.processor = processor
        self.replayable = replayable
        self._answers = answers
        self.quiet = self.messages if patient or says_nothing(function) else ()
        self._function = function
        self._selectors = tuple(selectors.items())
        self._context = parameter_of_type(function, Context)
        self._single = self._single_row()
        self._check()
        self._dependents = self._find_dependents()
        self._sources = tuple(self._selectors[source][1].state for _, _, source in self._dependents)
        self.missing = self._name_dependents if self._dependents else None

    def _single_row(self) -> tuple[type[State], Callable[[Any], str]] | None:
        """Return class and key of the row, for the commonest handler: one row, found by a field of the message."""
        if len(self._selectors) != 1 or not self._selectors[0][1].field:
            return None
        code = self._function.__code__
        if code.co_argcount != 2 or code.co_varnames[1] != self._selectors[0][0]:
            return None  # the row cannot be passed by position
        field = self._selectors[0][1].field
        return self._selectors[0][1].state, lambda message: str(getattr(message, field))

    def _check(self) -> None:
        names = set(parameter_names(self._function)[1:]) - {self._context}
        asked = {name for name, _ in self._selectors}
        if names != asked:
            raise ConfigurationError(
                f"{self.name}: parameters {sorted(names)} and rows asked for in the decorator {sorted(asked)} must be the same"
            )

    def _find_dependents(self) -> tuple[tuple[int, Selector, int], ...]:
        """Return the selectors that depend on a row: their places among all, and the places of those they depend on."""
        selectors = dict(self._selectors)
        places = {name: place for place, name in enumerate(selectors)}
        found: list[tuple[int, Selector, int]] = []
        for name, selector in self._selectors:
            if not selector.source:
                continue
            if selector.source == name or selector.source not in selectors:
                raise ConfigurationError(
                    f"{self.name}: the rows of {name!r} are to be named by {selector.source!r}; name another parameter of it that has rows"
                )
            if selectors[selector.source].source:
                raise ConfigurationError(
                    f"{self.name}: {name!r} depends on {selector.source!r}, which depends on {selectors[selector.source].source!r}; "
                    "let the message name the rows of what others depend on"
                )
            found.append((places[name], selector, places[selector.source]))
        return tuple(found)

    def selectors(self) -> tuple[Selector, ...]:
        """Return which rows it asks for."""
        return tuple(selector for _, selector in self._selectors)

    def wants(self, delivery: Delivery, work: UnitOfWork) -> None:
        """Name the rows."""
        message = delivery.message
        if self._single is not None:
            key = self._single[1](message)
            work.rows(self._single[0]).wanted.add(key)
            delivery.keys = key
            return
        found: list[Any] = []
        for _, selector in self._selectors:
            keys: Any = () if selector.source else selector.keys(message)
            wanted = work.rows(selector.state).wanted
            if isinstance(keys, str):
                wanted.add(keys)
            else:
                keys = tuple(keys)
                wanted.update(keys)
            found.append(keys)
        delivery.keys = found
        if self.missing is not None:
            work.dependents.append(Dependent(delivery, self._sources, self.missing))

    def _name_dependents(self, delivery: Delivery, work: UnitOfWork) -> bool:
        """Name the rows that rows name as they are now; return whether some of them are not loaded."""
        lacking = False
        for place, selector, source in self._dependents:
            row = _given(self._selectors[source][1], delivery.keys[source], work)
            keys = delivery.keys[place] = selector.named_by(row)
            rows = work.rows(selector.state)
            missing = {key for key in ((keys,) if isinstance(keys, str) else keys or ()) if key not in rows.values}
            rows.wanted |= missing
            lacking = lacking or bool(missing)
        return lacking

    def react(self, delivery: Delivery, work: UnitOfWork) -> None:
        """Call the function and stage what it returns."""
        given = delivery.result if self._answers else delivery.message
        if self._single is not None and self._context is None:
            rows = work.rows(self._single[0])
            if rows.broken:
                rows.check((delivery.keys,))
            result = self._function(given, rows.values[delivery.keys])
        else:
            result = self._function(given, **self._arguments(delivery, work))
        if result is not None:
            work.stage(items_of(result), delivery, processor=self.processor)

    def _arguments(self, delivery: Delivery, work: UnitOfWork) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        for (name, selector), keys in zip(self._selectors, [delivery.keys] if self._single is not None else delivery.keys, strict=True):
            arguments[name] = _given(selector, keys, work)
        if self._context is not None:
            arguments[self._context] = delivery
        return arguments

    async def call(self, delivery: Delivery, work: UnitOfWork | None) -> Any:
        """Not for pure handlers."""
        raise NotImplementedError(self.name)


def _given(selector: Selector, keys: Any, work: UnitOfWork) -> Any:
    """Return what a parameter is given: the row of one key, rows by key of several, None where there is no key.

    Raises:
        DecodeError: a row is there and cannot be read.
    """
    if keys is None:
        return None
    rows = work.rows(selector.state)
    if rows.broken:
        rows.check((keys,) if isinstance(keys, str) else keys)
    values = rows.values
    return values[keys] if isinstance(keys, str) else {key: values[key] for key in keys}


class AsyncHandler:
    """An async function: plain when it has a `Transaction` parameter, an activity when it has none.

    Args:
        function: as written by the user.
        processor: name of the processor it belongs to.
        then: decides what follows from an activity's answer, inside the transaction.
        workers: how many calls of an activity run at once.
        replayable: it may be given its messages again.
    """

    quiet = ()
    failing = Failing()

    def __init__(  # how it is declared, all by keyword
        self,
        function: Callable[..., Any],
        *,
        processor: str,
        then: PureHandler | None = None,
        workers: int | None = None,
        replayable: bool = False,
    ) -> None:
        self.then = then
        self.workers = workers
        self.replayable = replayable
        self.missing = then.missing if then is not None else None
        self.name = function.__name__
        self.messages: tuple[type[Message], ...] = annotated_messages(function)
        self._function = function
        self._context = parameter_of_type(function, Context)
        self._transaction = parameter_of_type(function, Transaction)
        self._processor = processor
        self.mode = Mode.TRANSACTION if self._transaction else Mode.OUTSIDE
        unknown = set(parameter_names(function)[1:]) - {self._context, self._transaction}
        if unknown:
            raise ConfigurationError(
                f"{self.name}: what is {sorted(unknown)}? An async handler takes the message, a Context, a Transaction"
            )

        if workers is not None and self._transaction:
            raise ConfigurationError(
                f"{self.name}: workers are for activities; a handler with a Transaction has its connection, which runs one statement at a "
                "time. Let it call the outside world without one, and decide what follows in `then`"
            )
        if workers is not None and workers < 1:
            raise ConfigurationError(f"{self.name}: {workers} workers; it takes at least 1")
        if then is not None and self._transaction:
            raise ConfigurationError(f"{self.name}: `then` is for activities; a handler with a Transaction is in the transaction already")

    def selectors(self) -> tuple[Selector, ...]:
        """Return which rows `then` asks for."""
        return self.then.selectors() if self.then is not None else ()

    def wants(self, delivery: Delivery, work: UnitOfWork) -> None:
        """Name the rows that `then` needs; the function itself reads for itself."""
        if self.then is not None:
            self.then.wants(delivery, work)

    def react(self, delivery: Delivery, work: UnitOfWork) -> None:
        """Stage what `call` returned, or what follows from it; or raise what it raised."""
        if isinstance(delivery.result, BaseException):
            raise delivery.result
        if self.then is not None:
            if delivery.result is not None:
                self.then.react(delivery, work)
            return
        work.stage(items_of(delivery.result), delivery, processor=self._processor)

    async def call(self, delivery: Delivery, work: UnitOfWork | None) -> Any:
        """Await the function."""
        arguments: dict[str, Any] = {}
        if self._context is not None:
            arguments[self._context] = delivery
        if self._transaction is not None and work is not None:
            arguments[self._transaction] = work.transaction
        return await self._function(delivery.message, **arguments)
