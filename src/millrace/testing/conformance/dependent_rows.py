"""Rows that are named by a row: the right ones are there when the handler runs, whatever came before it in the same transaction.

The application is `shelves`: a `Basket` says what is in it, `Take` puts the basket's name on the `Shelf` of each thing. The message
names the basket alone.

Neighbours: `State.of` declares it, `unit_of_work` loads such rows with their kind, `turn` and `execution` look again before they react.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

from millrace.application import Application
from millrace.errors import NotYet
from millrace.message import Command
from millrace.retry import RetryPolicy
from millrace.service import Service
from millrace.state import Delete, State
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, foreign, held, put
from millrace.testing.wrapping import Wrapped, WrappedEngine
from millrace.timers import Timer

UNNAMEABLE = "unnameable"
ONCE = RetryPolicy(attempts=1)
"""What fails at first is not tried again, so that a second try cannot hide it."""


class Fill(Command, topic="baskets", key="basket"):
    """Replace what is in a basket; with no things, remove it. `take` sets a timer that takes it at once."""

    basket: str
    things: tuple[str, ...] = ()
    take: bool = False


class Refill(Command, topic="refills", key="basket"):
    """Like `Fill`, from another topic."""

    basket: str
    things: tuple[str, ...] = ()


class Take(Command, topic="baskets", key="basket"):
    """Note the basket on the shelf of each thing in it. `wait`: for the basket to be there."""

    basket: str
    wait: bool = False


class Basket(State, key="basket"):
    """What is in it; `first` is one of it."""

    basket: str
    things: tuple[str, ...] = ()
    first: str | None = None


class Shelf(State, key="thing"):
    """Who took from it, in order."""

    thing: str
    takers: tuple[str, ...] = ()


class Seen:
    """What the handler of `Take` was given."""

    def __init__(self) -> None:
        self.named: list[tuple[str, tuple[str, ...], Any]] = []
        """(basket, keys of the shelves, the first shelf)."""


def things_of(basket: Basket) -> Iterable[str]:
    """Return the keys of shelves; fails for a basket with what is unnameable."""
    if UNNAMEABLE in basket.things:
        raise LookupError(UNNAMEABLE)
    return basket.things


def shelves(seen: Seen) -> Service:
    """Return the service."""
    service = Service("shelves")
    basket = Basket.by("basket")

    @service.handler(basket=basket)
    def fill(command: Fill | Refill, basket: Basket | None) -> Any:
        """Replace, or remove."""
        if not command.things:
            return Delete(basket) if basket else None
        row = Basket(basket=command.basket, things=command.things, first=command.things[0])
        if isinstance(command, Fill) and command.take:
            return [row, Timer("take", Take(basket=command.basket), after=timedelta(0))]
        return row

    @service.handler(rows=Shelf.of("basket", things_of), first=Shelf.of("basket", "first"), basket=basket)
    def take(command: Take, basket: Basket | None, rows: dict[str, Shelf | None], first: Shelf | None) -> Any:
        """Note the basket on each shelf."""
        if basket is None and command.wait:
            raise NotYet("the basket")
        seen.named.append((command.basket, tuple(rows), first))
        return [Shelf(thing=thing, takers=(*(row.takers if row else ()), command.basket)) for thing, row in rows.items()]

    return service


class Loads(Wrapped):
    """States that note how many rows of which kind were loaded at once."""

    def __init__(self, inner: Any, noted: list[tuple[str, int]]) -> None:
        super().__init__(inner)
        self._noted = noted

    async def load(self, kind: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Note it and load."""
        self._noted.append((kind, len(keys)))
        return await self.inner.load(kind, keys)


def noting(noted: list[tuple[str, int]]) -> Callable[[Any], Any]:
    """Return what wraps a store's tables so that loads of states are noted."""

    def wrap(tables: Any) -> Any:
        changed: Any = Wrapped(tables)
        changed.states = Loads(tables.states, noted)
        return changed

    return wrap


async def takers(app: Application) -> dict[str, tuple[str, ...]]:
    """Return who took from which shelf."""
    return {row.thing: row.takers for row in (await app.states(Shelf).list(limit=1000)).items}


async def together(app: Application, *commands: Command) -> list[Any]:
    """Execute commands that share a commit."""
    before = app.hosts["shelves"].writer.commits
    answers = await asyncio.gather(*(app.execute(command) for command in commands), return_exceptions=True)
    assert app.hosts["shelves"].writer.commits == before + 1, "they did not share a commit"
    return answers


async def from_log(lab: Lab, app: Application, *messages: Fill | Take) -> None:
    """Let messages come from a topic in one batch, and wait until they are handled."""
    values = [(message.basket, foreign(app, message, id=str(number))) for number, message in enumerate(messages)]
    await put(app, "baskets", *values)
    await lab.settled()


STORY = (
    Fill(basket="a", things=("x",)),
    Take(basket="a"),
    Fill(basket="a", things=("y", "z")),
    Take(basket="a"),
    Fill(basket="b", things=("z", "w")),
    Take(basket="b"),
)
TOLD = {"w": ("b",), "x": ("a",), "y": ("a",), "z": ("a", "b")}


async def rows_come_by_what_a_row_names(kit: EngineKit) -> None:
    """One transaction after the other: the rows are those that the stored row names, by a function and by an attribute."""
    async with Lab(kit) as lab:
        seen = Seen()
        app = await lab.start([shelves(seen)])
        for command in (*STORY, Take(basket="b")):
            await app.execute(command)
        assert await takers(app) == TOLD | {"w": ("b", "b"), "z": ("a", "b", "b")}
        assert seen.named[-1] == ("b", ("z", "w"), Shelf(thing="z", takers=("a", "b")))


async def rows_follow_changes_within_a_commit(kit: EngineKit) -> None:
    """Commands that share a commit: each sees the rows that the row names after those before it, created or changed just now."""
    async with Lab(kit) as lab:
        app = await lab.start([shelves(Seen())])
        await together(app, *STORY)
        assert await takers(app) == TOLD


async def rows_follow_changes_within_a_batch(kit: EngineKit) -> None:
    """The same for messages that come from a topic together."""
    async with Lab(kit) as lab:
        app = await lab.start([shelves(Seen())], policy=ONCE)
        await from_log(lab, app, *STORY)
        assert await held(app, "shelves") == []
        assert {thing: tuple(sorted(names)) for thing, names in (await takers(app)).items()} == TOLD


async def many_rows_are_named_at_once(kit: EngineKit) -> None:
    """A batch over many baskets that share shelves takes one query per kind, and every taker is on its shelves once."""
    async with Lab(kit) as lab:
        noted: list[tuple[str, int]] = []
        app = await lab.start([shelves(Seen())], engine=WrappedEngine(kit.new_engine(), tables=noting(noted)), policy=ONCE)
        things = {f"b{n}": tuple(f"t{(n + i) % 40}" for i in range(3)) for n in range(60)}
        await together(app, *(Fill(basket=name, things=inside) for name, inside in things.items()))
        noted.clear()
        await together(app, *(Take(basket=name) for name in things))
        assert [each for each in noted if each[0] in {"basket", "shelf"}] == [("basket", 60), ("shelf", 40)]  # a loop may begin now
        await from_log(lab, app, *(Take(basket=name) for name in things))
        assert await held(app, "shelves") == []
        for thing, names in (await takers(app)).items():
            assert sorted(names) == sorted(2 * [name for name, inside in things.items() if thing in inside]), thing


async def an_absent_row_names_nothing(kit: EngineKit) -> None:
    """Where the row is not there, or was removed within the commit, there are no rows: an empty dict, and None."""
    async with Lab(kit) as lab:
        seen = Seen()
        app = await lab.start([shelves(seen)])
        await app.execute(Take(basket="a"))
        await app.execute(Fill(basket="a", things=("x",)))
        await together(app, Fill(basket="a"), Take(basket="a"))
        assert seen.named == [("a", (), None)] * 2
        assert await takers(app) == {}


async def timers_have_their_rows(kit: EngineKit) -> None:
    """A timer that is due in the turn that set it finds the rows that its own turn has named."""
    async with Lab(kit) as lab:
        app = await lab.start([shelves(Seen())], policy=ONCE)
        await from_log(lab, app, Fill(basket="a", things=("x", "y"), take=True), Fill(basket="b", things=("y",), take=True))
        assert {thing: sorted(names) for thing, names in (await takers(app)).items()} == {"x": ["a"], "y": ["a", "b"]}


async def held_messages_have_their_rows(kit: EngineKit) -> None:
    """A message that waited finds the rows that were named meanwhile."""
    async with Lab(kit) as lab:
        app = await lab.start([shelves(Seen())])
        await from_log(lab, app, Take(basket="a", wait=True))
        assert len(await held(app, "shelves")) == 1
        await put(app, "refills", ("a", foreign(app, Refill(basket="a", things=("x",)))))
        await lab.settled()
        assert await held(app, "shelves") == []
        assert await takers(app) == {"x": ("a",)}


async def rows_that_cannot_be_named_fail_their_message(kit: EngineKit) -> None:
    """A function that raises on the row as it is when the message is handled fails that message alone."""
    async with Lab(kit) as lab:
        app = await lab.start([shelves(Seen())])
        bad = Fill(basket="a", things=(UNNAMEABLE,))
        answers = await together(app, bad, Take(basket="a"), Fill(basket="b", things=("x",)), Take(basket="b"))
        assert [isinstance(answer, LookupError) for answer in answers] == [False, True, False, False]
        await together(app, Fill(basket="a", things=("y",)), Take(basket="a"))  # what was stored before could not be named
        await from_log(lab, app, bad, Take(basket="a"), Take(basket="b"))
        assert [(row.key, row.reason) for row in await held(app, "shelves")] == [("a", "LookupError")]
        assert await takers(app) == {"x": ("b", "b"), "y": ("a",)}


PROMISES = (
    rows_come_by_what_a_row_names,
    rows_follow_changes_within_a_commit,
    rows_follow_changes_within_a_batch,
    many_rows_are_named_at_once,
    an_absent_row_names_nothing,
    timers_have_their_rows,
    held_messages_have_their_rows,
    rows_that_cannot_be_named_fail_their_message,
)
