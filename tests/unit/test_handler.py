"""How a handler's rows reach its parameters."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from millrace import Application, Breaker, Command, Context, Event, RetryPolicy, Service, State, Transaction
from millrace.engines.sqlite import SqliteEngine
from millrace.errors import ConfigurationError
from millrace.ports import TopicSpec
from millrace.serialization import Catalogue
from millrace.state import Selector


class Add(Command, key="name"):
    """Count one."""

    name: str


class Counter(State, key="name"):
    """How many were counted."""

    name: str
    n: int = 0


class Group(State, key="name"):
    """Counters that belong together."""

    name: str
    members: tuple[str, ...] = ()


class Join(Command, key="name"):
    """Begin a group."""

    name: str


class Founded(Event, key="name"):
    """A group has begun."""

    name: str


class Members(msgspec.Struct, frozen=True):
    """A group as an aggregate."""


def join(command: Join) -> Any:
    """Begin it."""
    return Group(name=command.name)


def members_of(group: Any) -> tuple[str, ...]:
    """Return the members of a group."""
    return group.members


def by_position(command: Add, row: Counter | None) -> Counter:
    """Count with the row as second parameter."""
    return Counter(name=command.name, n=(row.n if row else 0) + 1)


def by_keyword(command: Add, *, row: Counter | None) -> Counter:
    """Count with a row that can only be passed by its name."""
    return by_position(command, row)


async def test_patience_is_for_messages_that_are_taken(tmp_path: Path) -> None:
    """An aggregate that is patient with what its decide does not take was meant otherwise."""
    service = Service("groups")

    def found(command: Join, group: Members | None, context: Context) -> Founded:
        return Founded(name=command.name)

    def grow(group: Members | None, event: Founded) -> Members:
        return Members()

    service.aggregate(Members, decide=found, evolve=grow, patient=[Add])
    with pytest.raises(ConfigurationError, match="members: patient with \\['Add'\\], which its decide does not take"):
        await Application("shop", [service], engine=SqliteEngine(tmp_path)).start()


@pytest.mark.parametrize("function", [by_position, by_keyword])
async def test_a_single_row_reaches_its_parameter(function: object, tmp_path: Path) -> None:
    """The commonest handler has a short way of its own; it serves both ways to write the parameter."""
    service = Service("counting")
    service.handler(row=Counter.by("name"))(function)
    async with Application("shop", [service], engine=SqliteEngine(tmp_path)) as app:
        await app.execute(Add(name="a"))
        await app.execute(Add(name="a"))
        assert await app.states(Counter).get("a") == Counter(name="a", n=2)


def count_all(command: Add, group: Group | None, counters: dict[str, Counter | None]) -> list[Counter]:
    """Count all of a group."""
    return [by_position(Add(name=name), row) for name, row in counters.items()]


@pytest.mark.parametrize(
    "rows, message",
    [
        ({"group": Group.by("name"), "counters": Counter.of("groups", members_of)}, "name another parameter"),
        ({"group": Group.by("name"), "counters": Counter.of("counters", members_of)}, "name another parameter"),
        ({"group": Group.by("name"), "counters": Counter.of("command", members_of)}, "name another parameter"),
        ({"group": Group.of("counters", "name"), "counters": Counter.of("group", members_of)}, "let the message name"),
    ],
)
def test_what_cannot_name_rows_is_refused(rows: dict[str, Selector], message: str) -> None:
    """Rows are named by the message, or by another parameter's rows that the message names."""
    with pytest.raises(ConfigurationError, match=message):
        Service("counting").handler(**rows)(count_all)


async def call(command: Add) -> None:
    """Call something."""


async def call_group(command: Join) -> None:
    """Call something else."""


@pytest.mark.parametrize(
    "declare, message",
    [
        (lambda service: service.handler(row=Counter.by("name"), breaker=Breaker("x"))(by_position), "a pure function calls nothing"),
        (lambda service: service.handler(retries=RetryPolicy())(call), "give retry=RetryPolicy"),
        (lambda service: service.handler(retry=Breaker("x"))(call), "give retry=RetryPolicy"),
    ],
)
def test_what_says_nothing_of_failures_is_refused(declare: Any, message: str) -> None:
    """A policy and a breaker have names of their own beside the rows, and a breaker needs something that is called."""
    with pytest.raises(ConfigurationError, match=message):
        declare(Service("counting"))


def test_a_processor_has_one_breaker() -> None:
    """A processor pauses as a whole, so its handlers name one dependency."""
    service = Service("counting")
    service.handler(processor="outside", breaker=Breaker("x"))(call)
    service.handler(processor="outside", breaker=Breaker("y"))(call_group)
    with pytest.raises(ConfigurationError, match="its handlers name different breakers"):
        service.processors(Catalogue("shop", services=["counting"]))


async def test_a_function_that_names_rows_returns_several(tmp_path: Path) -> None:
    """A text is no list of one-letter keys: it is refused when the message is handled."""
    service = Service("counting")
    service.handler(group=Group.by("name"), counters=Counter.of("group", lambda group: group.name))(count_all)
    service.handler(processor="groups")(join)
    async with Application("shop", [service], engine=SqliteEngine(tmp_path)) as app:
        await app.execute(Join(name="a"))
        with pytest.raises(ConfigurationError, match="return a list, or name the attribute"):
            await app.execute(Add(name="a"))


async def ask(command: Add) -> Add:
    """Ask the outside world."""
    return command


async def write(command: Add, tx: Transaction) -> None:
    """Write with SQL."""


@pytest.mark.parametrize(
    "function, then, message",
    [(by_position, by_position, "is for activities"), (write, by_position, "in the transaction already"), (ask, None, "reads for itself")],
)
def test_what_follows_is_for_activities(function: object, then: object, message: str) -> None:
    """A pure function returns what follows itself, and one with a transaction is inside it; rows belong to what follows."""
    with pytest.raises(ConfigurationError, match=message):
        Service("counting").handler(then=then, row=Counter.by("name"))(function)


async def ask_as_well(command: Join) -> Join:
    """Ask the outside world something else."""
    return command


@pytest.mark.parametrize(
    "function, workers, message",
    [
        (ask, 0, "ask: 0 workers; it takes at least 1"),
        (write, 2, "write: workers are for activities; a handler with a Transaction"),
        (by_position, 2, "by_position: workers are for activities; a pure function"),
    ],
)
def test_workers_are_for_activities(function: object, workers: int, message: str) -> None:
    """What waits for nothing, or has one connection, is not told that it would run beside itself."""
    with pytest.raises(ConfigurationError, match=message):
        Service("counting").handler(workers=workers)(function)


def test_activities_of_a_processor_share_its_workers() -> None:
    """They may leave the number to each other; two numbers are refused."""
    service = Service("counting")
    service.handler(processor="asking", workers=3)(ask)
    service.handler(processor="asking")(ask_as_well)
    assert [processor.workers for processor in service.processors(Catalogue("shop", services=["counting"]))] == [3]

    service = Service("counting")
    service.handler(processor="asking", workers=3)(ask)
    service.handler(processor="asking", workers=4)(ask_as_well)
    with pytest.raises(ConfigurationError, match=r"'asking': its activities ask for \[3, 4\] workers"):
        service.processors(Catalogue("shop", services=["counting"]))


class Many(Command, topic="counting.many", key="name"):
    """Comes in many partitions."""

    name: str


class Few(Command, topic="counting.few", key="name"):
    """Comes in few."""

    name: str


async def ask_many(command: Many) -> Many:
    """Ask the outside world."""
    return command


def after_many(answer: Many) -> None:
    """Nothing follows."""


def count_few(command: Few) -> None:
    """Nothing."""


async def test_timers_of_what_follows_have_owners(tmp_path: Path) -> None:
    """Timers are set in the partitions of the activity and fire in the pure handlers, which must own as many."""
    service = Service("counting", topics=[TopicSpec("counting.many", partitions=8), TopicSpec("counting.few", partitions=2)])
    service.handler(processor="asking", then=after_many)(ask_many)
    service.handler(count_few)
    with pytest.raises(ConfigurationError, match="give their topics the same number"):
        await Application("shop", [service], engine=SqliteEngine(tmp_path)).start()
