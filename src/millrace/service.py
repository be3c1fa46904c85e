"""A service: a named unit with its own store and its own processors. This is where a user declares things.

Nothing here runs: a `Service` collects declarations, `hosting` turns them into processors when an application starts.

Neighbours: users; `application` reads the collected parts.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar, get_args

import msgspec

from millrace.aggregate import Aggregate
from millrace.breaker import Breaker
from millrace.cron import Cron, Every
from millrace.errors import ConfigurationError
from millrace.handler import AsyncHandler, PureHandler, breaker_of, part_failing
from millrace.letter_watch import LetterBounds
from millrace.message import Command, Event, Message, declaration
from millrace.ports import TopicSpec
from millrace.processor import Mode, Processor, annotated_messages, said_messages
from millrace.retry import RetryPolicy
from millrace.schedule import PROCESSOR, CatchUp, Schedule, ScheduleDue, SchedulePattern, Target
from millrace.serialization import Catalogue
from millrace.state import Selector, State, View
from millrace.view import ViewDefinition, define_view, topics_of

Function = TypeVar("Function", bound=Callable[..., Any])
HANDLERS = "handlers"
JOURNAL_KEPT = timedelta(days=7)
COMMANDS_RETENTION_S = 7 * 86_400


class AggregateDefinition(msgspec.Struct, frozen=True):
    """An aggregate as declared."""

    state: type[Any]
    decide: Callable[..., Any]
    evolve: Callable[..., Any]
    snapshot_every: int
    version: int
    patient: tuple[type[Message], ...]
    retry: RetryPolicy | None = None


class Service:
    """A named unit with its own store.

    Args:
        name: lower-case letters, digits and `-`; names the store, the source and the consumer groups.
        rejection: event class published when a command from a topic is refused; fields `command`, `reason` and the key.
        topics: topics whose settings differ from the defaults.
        says: message classes it publishes that no annotation names.
        journal_kept: how long published rows of its journal are kept that belong to no stream; None for ever. Events of streams stay.
        letters: from where on its dead letters are an alarm, and how long closed ones are kept.

    Raises:
        ConfigurationError: the name or the time cannot work.
    """

    def __init__(
        self,
        name: str,
        *,
        rejection: type[Event] | None = None,
        topics: Sequence[TopicSpec] = (),
        says: Iterable[type[Message]] = (),
        journal_kept: timedelta | None = JOURNAL_KEPT,
        letters: LetterBounds | None = None,
    ) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name) or name == "log":
            raise ConfigurationError(f"service name {name!r}: use lower-case letters, digits and '-', and not 'log'")
        if journal_kept is not None and journal_kept < timedelta(0):
            raise ConfigurationError(f"service {name!r}: journal_kept is {journal_kept}; 0 or more, or None to keep everything")
        self.name = name
        self.journal_kept = journal_kept
        self.letter_bounds = letters or LetterBounds()
        self.rejection = rejection
        self.topics = tuple(topics)
        self.said: set[type[Message]] = set(says)
        self.aggregates: list[AggregateDefinition] = []
        self.views: list[ViewDefinition] = []
        self.schedules: dict[str, Schedule] = {}
        self.starters: list[Callable[[Any], Awaitable[None]]] = []
        self._handlers: dict[str, list[PureHandler | AsyncHandler]] = {}
        if rejection is not None:
            self.said.add(rejection)

    def aggregate(
        self,
        state: type[Any],
        *,
        decide: Callable[..., Any],
        evolve: Callable[..., Any],
        snapshot_every: int = 100,
        version: int = 1,
        patient: Iterable[type[Message]] = (),
        retry: RetryPolicy | None = None,
    ) -> None:
        """Declare an event-sourced aggregate.

        Args:
            state: frozen msgspec Struct that folding gives.
            decide: pure (message, state or None, context) -> events, Timer, Cancel; raises Rejected. It receives exactly the types in
                its first annotation: commands, facts of other services, timers.
            evolve: pure (state or None, event) -> state; its second annotation lists the stream's events.
            snapshot_every: events between snapshots; 0 keeps none.
            version: raise it when `evolve` or the state's fields change meaning, so old snapshots are ignored.
            patient: messages whose effect nobody waits for: where the store is busy one may wait up to 100 ms to share a commit, and
                whatever the aggregate takes meanwhile takes it along.
            retry: what becomes of messages that fail; default: the policy of the application.
        """
        self.said.update(annotated_messages(evolve, position=1))
        self.aggregates.append(AggregateDefinition(state, decide, evolve, snapshot_every, version, tuple(patient), retry))

    def handler(
        self,
        function: Any = None,
        /,
        *,
        processor: str | None = None,
        says: Iterable[type[Message]] = (),
        patient: bool = False,
        then: Callable[..., Any] | None = None,
        workers: int | None = None,
        replayable: bool = False,
        **rows: Selector | RetryPolicy | Breaker | None,
    ) -> Any:
        """Declare a handler; see `millrace.handler` for the three ways to write one.

        Args:
            function: when used without arguments, the function itself.
            processor: name of the processor it joins; pure handlers of a service share one, async handlers have one each.
            says: classes it publishes that its return annotation does not name.
            patient: nobody waits for what it does, so where its store is busy a message may wait up to 100 ms to share a commit. What
                promises by its return annotation to say nothing (`-> list[State]`) is patient by itself. For pure handlers.
            then: for activities: a pure function of what the activity returned (nothing follows from None) and of rows. It runs in the
                transaction that notes the message as read, with the rows as they are then; timers it sets fire in the service's pure
                handlers. If it fails, the activity is called again.
            workers: for activities: how many of its calls run at once, 64 unless given. Of a key one runs at a time, in order, and what
                is committed is always everything up to some record of a partition. Activities that share a processor share its workers.
            replayable: when an operator moves its position back, it runs again for what it has handled. Without it such messages are
                dropped and counted as duplicates, so that nothing has effect twice.
            rows: parameter name -> which rows to load for it, or for `then`; named by the message. Beside them:
                `retry=RetryPolicy(...)`: what becomes of messages that fail; default: the policy of the application.
                `breaker=Breaker(...)`: for activities and handlers with a transaction: what it calls; the processor pauses while that is
                down. Handlers that share a processor share its breaker.

        Raises:
            ConfigurationError: something of this cannot work together.
        """
        self.said.update(says)
        failing, selectors = part_failing(rows)

        def declare(function: Function) -> Function:
            self.said.update(said_messages(function))
            if inspect.iscoroutinefunction(function):
                if patient or (selectors and then is None):
                    raise ConfigurationError(f"{function.__name__}: rows and patience are for pure handlers; it reads for itself")
                name = processor or function.__name__.replace("_", "-")
                following = PureHandler(then, selectors, processor=HANDLERS, answers=True) if then is not None else None
                self.said.update(said_messages(then) if then is not None else ())
                handler = AsyncHandler(function, processor=name, then=following, workers=workers, replayable=replayable)
                handler.failing = failing
                self._handlers.setdefault(name, []).append(handler)
            else:
                if failing.breaker is not None:
                    raise ConfigurationError(
                        f"{function.__name__}: a breaker is for what calls the outside world; a pure function calls nothing"
                    )
                if workers is not None:
                    raise ConfigurationError(f"{function.__name__}: workers are for activities; a pure function waits for nothing")
                if then is not None:
                    raise ConfigurationError(f"{function.__name__}: `then` is for activities; let the function return what follows")
                name = processor or HANDLERS
                pure = PureHandler(function, selectors, processor=name, patient=patient, replayable=replayable)
                pure.failing = failing
                self._handlers.setdefault(name, []).append(pure)
            return function

        return declare if function is None else declare(function)

    def view(
        self, view: type[View], *, key: Callable[[Any], str | Iterable[str]] | None = None, retry: RetryPolicy | None = None
    ) -> Callable[[Function], Function]:
        """Declare a read model.

        Args:
            view: the document's class.
            key: which document(s) an event concerns; default: the event's field named like the view's key.
            retry: what becomes of events that fail; default: the policy of the application.
        """

        def declare(function: Function) -> Function:
            self.views.append(msgspec.structs.replace(define_view(view, function, key), retry=retry))
            return function

        return declare

    def schedule(
        self,
        name: str,
        *,
        command: Command | Callable[[datetime], Command],
        every: timedelta | None = None,
        cron: str | None = None,
        catch_up: CatchUp = "once",
    ) -> None:
        """Have a command of this service executed at recurring moments (UTC), once per moment over all instances and restarts.

        `context.time` tells the handler which moment it is. `millrace schedules` lists, pauses and resumes; see `millrace.schedule`.

        Args:
            name: unique in the service.
            command: what is executed by the handler, aggregate or activity here that takes it; or a function that makes it of the moment,
                with a return annotation that names its class.
            every: so often, at multiples of the step since 1970; or
            cron: minute, hour, day of month, month, day of week, as in `0 3 * * mon-fri`.
            catch_up: what to do with moments that passed while nothing ran: `once` for all of them, `all` one by one, `none` of them.

        Raises:
            ConfigurationError: it cannot work.
        """
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name) or name in self.schedules:
            raise ConfigurationError(f"schedule {name!r}: use lower-case letters, digits and '-', and each name once")
        if catch_up not in get_args(CatchUp):
            raise ConfigurationError(f"schedule {name!r}: catch_up is {catch_up!r}; choose from {', '.join(get_args(CatchUp))}")
        if (every is None) == (cron is None):
            raise ConfigurationError(f"schedule {name!r}: give either every= or cron=")
        when = Every(every) if every is not None else Cron(cron or "")
        if isinstance(command, Command):
            made: Command = command
            self.schedules[name] = Schedule(name, when, lambda _: made, type(command), catch_up)
            return
        classes = said_messages(command)
        if len(classes) != 1 or not issubclass(classes[0], Command):
            raise ConfigurationError(f"schedule {name!r}: {command!r} needs a return annotation that names one Command")
        self.schedules[name] = Schedule(name, when, command, classes[0], catch_up)

    def on_start(self, function: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        """Run `function(app)` at every start, after the store is open and before the application is ready."""
        self.starters.append(function)
        return function

    def processors(self, catalogue: Catalogue) -> list[Processor]:
        """Return the processors of handlers and aggregates (views have one per build)."""
        found: list[Processor] = []
        for name, handlers in self._handlers.items():
            breaker = breaker_of(name, handlers)
            processor = Processor(name, mode=handlers[0].mode, workers=_workers_of(name, handlers), breaker=breaker)
            for handler in handlers:
                processor.add(handler, retry=handler.failing.retry)
                if isinstance(handler, AsyncHandler) and handler.then is not None and HANDLERS not in self._handlers:
                    handler.then.processor = name  # there are no pure handlers, so its timers come back to itself
            found.append(processor)
        for definition, aggregate in zip(self.aggregates, self.build_aggregates(catalogue), strict=True):
            processor = Processor(aggregate.name, mode=Mode.PURE)
            processor.add(aggregate, retry=definition.retry)
            found.append(processor)
        if self.schedules:
            found.append(self._ticking(found))
        return found

    def _ticking(self, processors: Iterable[Processor]) -> Processor:
        """Return the processor of the schedules, of which each has somebody among `processors` that takes its command."""
        targets = {cls: Target(each.name, each.topics()) for each in processors for cls in each.routes if issubclass(cls, Command)}
        for schedule in self.schedules.values():
            if schedule.command not in targets:
                raise ConfigurationError(
                    f"schedule {schedule.name!r} of service {self.name!r}: nothing here takes {schedule.command.__name__}; write a handler"
                )
        ticking = Processor(PROCESSOR, mode=Mode.TRANSACTION)
        ticking.add(SchedulePattern(self.schedules, targets))
        return ticking

    def build_aggregates(self, catalogue: Catalogue) -> list[Aggregate]:
        """Return the aggregates as patterns."""
        return [
            Aggregate(
                state=d.state,
                decide=d.decide,
                evolve=d.evolve,
                catalogue=catalogue,
                snapshot_every=d.snapshot_every,
                version=d.version,
                patient=d.patient,
            )
            for d in self.aggregates
        ]

    def processors_of(self, state: type[State]) -> list[str]:
        """Return the names of the processors whose handlers ask for a State class."""
        return [
            name
            for name, handlers in self._handlers.items()
            if any(selector.state is state for handler in handlers for selector in handler.selectors())
        ]

    def reads(self, catalogue: Catalogue) -> set[str]:
        """Return the topics that its processors and views read."""
        found = {topic for processor in self.processors(catalogue) for topic in processor.topics()}
        return found.union(*(topics_of(view) for view in self.views))

    def writes(self) -> set[str]:
        """Return the topics of what it says, as far as annotations and `says` name it."""
        return {topic for cls in self.said if (topic := declaration(cls).topic)}

    def message_classes(self) -> set[type[Message]]:
        """Return every message class that the service's declarations name."""
        found = set(self.said)
        for handlers in self._handlers.values():
            for handler in handlers:
                found.update(handler.messages)
        for aggregate in self.aggregates:
            found.update(annotated_messages(aggregate.decide))
        for view in self.views:
            found.update(annotated_messages(view.function, position=1))
        if self.schedules:
            found.add(ScheduleDue)
        return found


def _workers_of(processor: str, handlers: Iterable[PureHandler | AsyncHandler]) -> int | None:
    """Return how many workers the activities of a processor ask for.

    Raises:
        ConfigurationError: they ask for different numbers.
    """
    found = {handler.workers for handler in handlers if isinstance(handler, AsyncHandler) and handler.workers is not None}
    if len(found) > 1:
        raise ConfigurationError(
            f"processor {processor!r}: its activities ask for {sorted(found)} workers; they share them, so name one number"
        )
    return next(iter(found), None)


def choose_services(services: tuple[Service, ...], hosted: Iterable[str] | None) -> tuple[Service, ...]:
    """Return the services of these names; None names all.

    Raises:
        ConfigurationError: two services have one name; none is named, or one that is not there.
    """
    names = [service.name for service in services]
    if len(set(names)) != len(names):
        raise ConfigurationError(f"two services have one name: {sorted(names)}")
    if hosted is None:
        return services
    wanted = list(hosted)
    unknown = sorted(set(wanted) - set(names))
    if unknown or not wanted:
        raise ConfigurationError(f"services {unknown or wanted}: choose from {', '.join(names)}")
    return tuple(service for service in services if service.name in wanted)


def retention_of(topic: str) -> int | None:
    """Return for how many seconds a topic keeps its records unless a service says so; None: for ever, because views are built from it."""
    return COMMANDS_RETENTION_S if topic.endswith(".commands") or topic.startswith("internal.") else None
