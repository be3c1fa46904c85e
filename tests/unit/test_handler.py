"""How a handler's rows reach its parameters."""

from pathlib import Path

import pytest

from millrace import Application, Command, Service, State
from millrace.engines.sqlite import SqliteEngine


class Add(Command, key="name"):
    """Count one."""

    name: str


class Counter(State, key="name"):
    """How many were counted."""

    name: str
    n: int = 0


def by_position(command: Add, row: Counter | None) -> Counter:
    """Count with the row as second parameter."""
    return Counter(name=command.name, n=(row.n if row else 0) + 1)


def by_keyword(command: Add, *, row: Counter | None) -> Counter:
    """Count with a row that can only be passed by its name."""
    return by_position(command, row)


@pytest.mark.parametrize("function", [by_position, by_keyword])
async def test_a_single_row_reaches_its_parameter(function: object, tmp_path: Path) -> None:
    """The commonest handler has a short way of its own; it serves both ways to write the parameter."""
    service = Service("counting")
    service.handler(row=Counter.by("name"))(function)
    async with Application("shop", [service], engine=SqliteEngine(tmp_path)) as app:
        await app.execute(Add(name="a"))
        await app.execute(Add(name="a"))
        assert await app.states(Counter).get("a") == Counter(name="a", n=2)
