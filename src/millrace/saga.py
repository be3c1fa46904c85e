"""A saga: a long process over several services, written as a table of steps.

    checkout = Saga("checkout", key="order_id", starts=OrderPlaced, begin=begin)
    checkout.step("reserve", send=reserve, done=StockReserved, failed=OutOfStock, undo=release, undone=StockReleased)
    checkout.step("pay", send=pay, done=PaymentSucceeded, failed=PaymentFailed, undo=refund, undone=PaymentRefunded)
    checkout.step("ship", send=ship, done=ItemShipped, pivot=True)
    checkout.cancel(OrderCancelRequested, refused=refuse)
    checkout.ended(completed=complete, undone=reject)
    orders.saga(checkout)

From this one object come what is executed (`advance`, pure), the diagram, the steps that remain, and the tests. The table is checked when
it is handed to a service: a step before the pivot that changes something and cannot be undone, a name used twice, an answer that two steps
claim, a step that is never reached are errors that name it.

Every message of the table names its instance by `key`; facts and replies are read from wherever they are published. Functions of the table
are pure: they get the case (and an answer, a reason, an end) and return values.

Users import the smaller names (`SagaRetry`, `SagaReason`, `SagaEnd`) from here.

Neighbours: `saga_course` says what happens to an instance, `saga_pattern` runs it on the loop, `saga_check` refuses tables that cannot
work, `saga_diagram` draws them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, TypedDict, Unpack, cast

import msgspec

from millrace.errors import ConfigurationError
from millrace.message import Command, Message, MessageMeta, declaration
from millrace.processor import said_messages, type_hints
from millrace.saga_diagram import diagram
from millrace.saga_instance import SagaEnd, SagaInstance, SagaReason
from millrace.saga_table import BEFORE_PIVOT, BEHIND_PIVOT, ROLES, TIMEOUT, Answers, SagaRetry, Step, StepCells, Table
from millrace.serialization import encode_json
from millrace.state import StateMeta

KEPT_FOR = timedelta(days=30)


class Saga:
    """A long process as a table of steps.

    Args:
        name: kebab-case; names the processor, its consumer group and the rows.
        key: the field of every message of the table that names the instance.
        starts: the message, or messages, that begin an instance. A second one of the same id changes nothing.
        begin: pure (message) -> the case, a frozen msgspec Struct; None: no instance begins.
        case: the case's class, where `begin` has no return annotation.
        version: of the table. A running instance finishes under the one it began with.
        keys: message class -> its field that names the instance, where that is not `key`; or a function of the message.
        migrate: pure (version, case as plain data) -> the case of this version: instances of versions that are not registered beside
            this one go on under it. Steps keep their state by name; one that was inserted before what is done counts as passed.
        kept_for: how long an instance is known after its end, so that a late success is undone; None for ever.

    Raises:
        ConfigurationError: the name or a field cannot be right.
    """

    def __init__(
        self,
        name: str,
        *,
        key: str,
        starts: Answers,
        begin: Callable[[Any], Any],
        version: int = 1,
        **more: Unpack[SagaSettings],
    ) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
            raise ConfigurationError(f"saga name {name!r}: use kebab-case")
        self.name = name
        self.key = key
        self.version = version
        self.starts = _classes(starts)
        self.begin = begin
        self.case = more.get("case") or _returned(begin, name)
        self.migrate = more.get("migrate")
        self.kept_for = more.get("kept_for", KEPT_FOR)
        self.cancels: tuple[type[Message], ...] = ()
        self.refused: Callable[[Any], Any] | None = None
        self.completed: Callable[[Any], Any] | None = None
        self.undone: Callable[[Any, Any], Any] | None = None
        self.taken_over: Callable[[Any, Any], Any] | None = None
        self.said: set[type[Message]] = {*more.get("says", ()), *_says(begin)}
        self.decode_case: Callable[[bytes | msgspec.Raw], Any] = msgspec.json.Decoder(self.case).decode
        self.encode_case = encode_json
        self._keys = dict(more.get("keys", {}))
        self._rows: dict[str, Step] = {}
        self._table: Table | None = None

    def step(self, name: str, **cells: Unpack[StepCells]) -> None:
        """Add a row to the table: what is asked for next.

        Args:
            name: unique in the saga; kept in what is stored.
            cells: what it does, all by keyword:

                - `send`: pure (case) -> a Command, or several; returning nothing passes the step. None: somebody else causes the answer.
                - `done`: messages by which it has succeeded. Without any it is done when its command is sent.
                - `failed`: messages by which it has failed, so there is nothing to undo. A rejection (it has a field `command`) concerns
                  whoever sent that command, and counts for the undo's command as well.
                - `needed`: pure (case) -> whether the step is taken at all; it is passed otherwise.
                - `given_up`: messages by which it is not waited for any more though nobody says that it failed: it counts as in doubt and
                  is undone. Where it is not under way they mean nothing.
                - `undo`: pure (case, reason) -> a Command that makes it not have happened; also sent where no answer came in time, so its
                  receiver must remember it. `reason` is a word, with the parts of a `SagaReason`. None needs `nothing_to_undo` before the
                  pivot.
                - `interrupt`: its undo is sent at once even while its command is out. For receivers that get both in order and whose
                  answer to the undo settles the command as well; others are waited for.
                - `undone`: answers to the undo. Without any it is undone when the command is sent.
                - `undo_failed`: answers by which the undo is refused; it is tried again.
                - `kept`: messages that mean its undo came too late. A cancel ends there and the saga goes on; a failure is stuck.
                - `nothing_to_undo`: why a step before the pivot has no undo.
                - `timeout`: how long an answer is waited for, 30 s; None for ever. `undo_timeout` the same of the undo.
                - `retry`, `undo_retry`: `SagaRetry`; by default 3 attempts, 10 behind the pivot, 5 for an undo.
                - `pivot`: when it is done there is no way back: later steps are repeated until they succeed, a cancel is refused.
                - `beside`: name of a step with which it runs at once.
                - `undo_anyway`: a cancel sends its undo though it was never asked for, so that its receiver says that there is nothing.
                - `learn`: pure (case, answer) -> the case, called with what `done` names; `learn_back` with what `failed`, `given_up`
                  and `undone` name.
                - `says`: classes that `send` and `undo` return and their annotations do not name.

        Raises:
            ConfigurationError: the name is used twice, or `beside` names no step.
        """
        if name in self._rows:
            raise ConfigurationError(f"saga {self.name!r} has two steps named {name!r}")
        given = dict(cells)
        self.said.update(cast("Iterable[type[Message]]", given.pop("says", ())))
        for cell in ROLES:
            given[cell] = _classes(cast("Answers", given.get(cell, ())))
        given["undo_timeout"] = given.get("undo_timeout", given.get("timeout", TIMEOUT))
        stage, behind = self._place(name, str(given.get("beside", "")))
        given.setdefault("retry", BEHIND_PIVOT if behind or given.get("pivot") else BEFORE_PIVOT)
        step = Step(name=name, **{"send": None, **given}, stage=stage, behind=behind)  # type: ignore[arg-type]
        self._rows[name] = msgspec.structs.replace(step, repeats_undo=_topics(step.done).isdisjoint(_topics(step.undone)))
        self.said.update(_says(step.send), _says(step.undo))
        self._table = None

    def _place(self, name: str, beside: str) -> tuple[int, bool]:
        """Return the stage of the next step, and whether that is behind the pivot."""
        last = next(reversed(self._rows.values()), None)
        if beside:
            other = self._rows.get(beside)
            if other is None or last is None or other.stage != last.stage:
                raise ConfigurationError(
                    f"saga {self.name!r}: step {name!r} is beside {beside!r}, which is not among the last steps before it"
                )
            return other.stage, other.behind
        return (0, False) if last is None else (last.stage + 1, last.behind or last.pivot)

    def cancel(self, messages: Answers, *, refused: Callable[[Any], Any] | None = None) -> None:
        """Say by what an instance is cancelled: what is done is undone in reverse order, unless the pivot is behind it.

        While it is cancelling nothing new is sent forward. A cancel that comes before the start is remembered.

        Args:
            messages: facts or commands; may be called again with others.
            refused: pure (case) -> what is said when it is too late.
        """
        self.cancels += _classes(messages)
        self.refused = refused or self.refused
        self.said.update(_says(refused))
        self._table = None

    def ended(
        self,
        *,
        completed: Callable[[Any], Any] | None = None,
        undone: Callable[[Any, Any], Any] | None = None,
        taken_over: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        """Say what is said at the end.

        Args:
            completed: pure (case) -> messages, when every step is done.
            undone: pure (case, end) -> messages, when everything is undone; `end` is a `SagaEnd`.
            taken_over: pure (case, reason) -> messages, when a person takes it over, in the same transaction; `reason` is that person's
                text, a `SagaReason` that knows what has answered by then. The instance says nothing after it, so whoever waits for its end
                has to learn here that a person brings it about. One that is taken over before its start has no case and says nothing.
        """
        self.completed, self.undone = completed or self.completed, undone or self.undone
        self.taken_over = taken_over or self.taken_over
        self.said.update(_says(completed), _says(undone), _says(taken_over))

    @property
    def steps(self) -> tuple[Step, ...]:
        """Return the rows in order."""
        return tuple(self._rows.values())

    @property
    def table(self) -> Table:
        """Return what is looked up while it runs."""
        if self._table is None:
            self._table = Table(self.steps, starts=self.starts, cancels=self.cancels, reader=self.key_reader)
        return self._table

    def diagram(self) -> str:
        """Return the table as a state diagram in Mermaid's language.

        Raises:
            ConfigurationError: it has no steps.
        """
        if not self._rows:
            raise ConfigurationError(f"saga {self.name!r} has no steps to draw")
        return diagram(self.table)

    def id_of(self, message: Message) -> str:
        """Return the id of the instance that a message concerns."""
        return self.table.ids[type(message)](message)

    def key_reader(self, cls: type[Message]) -> Callable[[Any], str]:
        """Return what reads an instance's id out of messages of a class.

        Raises:
            ConfigurationError: the class has no such field.
        """
        field = self._keys.get(cls, self.key)
        if callable(field):
            return field
        if not hasattr(cls, field):
            raise ConfigurationError(
                f"saga {self.name!r}: {cls.__name__} has no field {field!r}; name the one that holds the instance's id with keys=..."
            )
        return lambda message: str(getattr(message, field))


class SagaSettings(TypedDict, total=False):
    """What a saga may say besides; see `Saga`."""

    case: type[Any]
    keys: Mapping[type[Message], str | Callable[[Any], str]]
    migrate: Callable[[int, Any], Any]
    kept_for: timedelta | None
    says: Iterable[type[Message]]


def row_class(name: str) -> type[SagaInstance]:
    """Return the class of a saga's rows."""
    return StateMeta("SagaInstance", (SagaInstance,), {"__doc__": SagaInstance.__doc__}, key="id", kind=row_kind(name), omit_defaults=True)


def row_kind(name: str) -> str:
    """Return the kind of a saga's rows."""
    return f"@saga:{name}"


class SagaDue(Command, key="id"):
    """A deadline of a saga's instance has come."""

    id: str


def due_class(name: str) -> type[SagaDue]:
    """Return the class of the message that a saga's timer fires; each saga has its own, so a service may have several."""
    return MessageMeta("SagaDue", (SagaDue,), {"__doc__": SagaDue.__doc__, "__module__": __name__}, name=f"saga-{name}-due", key="id")


def _classes(given: Answers) -> tuple[type[Message], ...]:
    return (given,) if isinstance(given, type) else tuple(given)


def _topics(classes: Iterable[type[Message]]) -> set[str | None]:
    return {declaration(cls).topic for cls in classes}


def _says(function: Callable[..., Any] | None) -> Iterable[type[Message]]:
    return () if function is None or not hasattr(function, "__code__") else said_messages(function)


def _returned(begin: Callable[..., Any], name: str) -> type[Any]:
    """Return the struct in the return annotation of `begin`."""
    hint = type_hints(begin).get("return") if hasattr(begin, "__code__") else None
    found = [each for each in (hint, *getattr(hint, "__args__", ())) if isinstance(each, type) and issubclass(each, msgspec.Struct)]
    if len(found) != 1:
        raise ConfigurationError(f"saga {name!r}: annotate what `begin` returns with the case's class, or name it with case=...")
    return found[0]


__all__ = ["Saga", "SagaDue", "SagaEnd", "SagaReason", "SagaRetry", "due_class", "row_class", "row_kind"]
