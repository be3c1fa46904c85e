"""Read models: queries, pages, and rebuilding while the old one serves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millrace.application import Application
from millrace.claim import Claim
from millrace.errors import ConfigurationError, NotYet
from millrace.ports import PositionRow, ViewInfo
from millrace.rebuild import BUILDING, SERVING, Abandon, Request, Swap, find_definition, processor_of
from millrace.serialization import encode_json
from millrace.service import Service
from millrace.state import View
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, balanced, foreign, held, put
from millrace.testing.conformance.sample import Added, Board, Ready, counter, teller
from millrace.unit_of_work import UnitOfWork
from millrace.writer import Waiting

NAMES = [f"n{i:02}" for i in range(13)]


class Ledger(View, key="name", kind="board", version=2):
    """The next version of the board."""

    name: str
    total: int = 0
    times: int = 0


def with_ledger() -> Service:
    """Return the counter as its next release has it."""
    service = Service("counter")

    @service.view(Ledger)
    def board(document: Ledger | None, event: Added) -> Any:
        """Sum up and count."""
        before = document or Ledger(name=event.name)
        return Ledger(name=event.name, total=before.total + event.n, times=before.times + 1)

    return service


async def documents(app: Application) -> dict[str, int]:
    """Return every document's total, read page by page."""
    found: dict[str, int] = {}
    page = await app.views(Board).list(limit=4)
    while True:
        for item in page.items:
            assert item.name not in found, "a page repeats an item"
            found[item.name] = item.total
        if page.next is None:
            return found
        page = await app.views(Board).list(limit=4, cursor=page.next)


async def pages_cover_everything_once(kit: EngineKit) -> None:
    """Pages in the order of the sort field, newest first, by look-up or all; a wrong cursor or field is refused."""
    async with Lab(kit) as lab:
        app = await lab.start()
        for number, name in enumerate(NAMES):
            await add(app, name, times=number + 1)
        await lab.settled()
        expected = {name: (i + 1) * (i + 2) // 2 for i, name in enumerate(NAMES)}
        found = await documents(app)
        assert list(found.items()) == list(reversed(expected.items()))
        even = await app.views(Board).list(even=True)
        assert {item.name for item in even.items} == {name for name, total in expected.items() if total % 2 == 0}
        with pytest.raises(ValueError, match="cursor"):
            await app.views(Board).list(cursor="no cursor!")
        with pytest.raises(ConfigurationError):
            await app.views(Board).list(total=1)


async def rebuilt_view_is_equal(kit: EngineKit) -> None:
    """A rebuilt view has the documents of the old one, which answers queries until the swap, and nothing of the old one is left."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, *NAMES, times=3)
        await lab.settled()
        before, host = await documents(app), app.hosts["counter"]
        (old,) = await host.store.reader.views.list()
        request = Request(find_definition(host.service.views, "board"))
        async with lab.faults.held("counter") as reached:
            host.writer.submit(request)
            await reached.wait()
            assert await documents(app) == before
        await request.finished
        await add(app, "later")
        await lab.eventually(app, lambda: _served_by_another(app, old.id))
        await lab.settled()

        assert await documents(app) == {**before, "later": 1}
        assert [build.id for build in await host.store.reader.views.list()] != [old.id]
        assert f"board@{old.id}" not in await host.store.reader.positions.processors()
        assert await host.store.reader.documents.load(old.id, NAMES) == {}
        await balanced(app)


async def _served_by_another(app: Application, old: int) -> bool:
    builds = await app.hosts["counter"].store.reader.views.list()
    return [build.state for build in builds] == ["serving"] and builds[0].id != old


async def old_view_answers_while_the_new_one_reads(kit: EngineKit) -> None:
    """While a build is far behind, every query is answered by the one that serves, and that one goes on reading."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, *NAMES, times=2)
        await lab.settled()
        blocked = {"on": True}

        def stop_the_build(event: Added, context: Any) -> None:
            if blocked["on"] and event.n == 1 and event.name == NAMES[0] and context.now is not None:
                raise NotYet("the check lets it go")

        before, host = await documents(app), app.hosts["counter"]
        lab.behaviour.fold = stop_the_build
        request = Request(find_definition(host.service.views, "board"))
        host.writer.submit(request)
        await request.finished
        await add(app, *NAMES[1:])
        await lab.settled()
        builds = {build.state for build in await host.store.reader.views.list()}
        assert builds == {"serving", "building"}
        assert await documents(app) == {name: total + (name != NAMES[0]) for name, total in before.items()}

        blocked["on"] = False
        await add(app, NAMES[0])
        await lab.advance(app, 2)
        await lab.eventually(app, lambda: _served_by_another(app, 1))
        assert await documents(app) == {name: total + 1 for name, total in before.items()}


async def new_definition_is_built_beside_the_old(kit: EngineKit) -> None:
    """A release with another version of a view reads the log from its start and then serves."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, *NAMES, times=3)
        await lab.settled()
        await lab.stop(app)

        app = await lab.start([teller(), with_ledger()])
        await lab.eventually(app, lambda: _serving_version(app, 2))
        assert await app.views(Ledger).get(NAMES[0]) == Ledger(name=NAMES[0], total=6, times=3)


async def _serving_version(app: Application, version: int) -> bool:
    builds = await app.hosts["counter"].store.reader.views.list()
    return [(build.version, build.state) for build in builds] == [(version, "serving")]


def pairs() -> Service:
    """Return a service whose view reads two topics and counts nothing before Ready."""
    service = Service("pairs")

    @service.view(Board)
    def board(document: Board | None, event: Added | Ready) -> Any:
        """Wait for Ready."""
        if isinstance(event, Ready):
            return document or Board(name=event.name)
        if document is None:
            raise NotYet("for Ready")
        return Board(name=event.name, total=document.total + event.n)

    return service


async def waiting_folds_go_on(kit: EngineKit) -> None:
    """A view that reads several topics may say NotYet; the fact waits for the other topic's."""
    async with Lab(kit) as lab:
        app = await lab.start([teller(), pairs()])
        await add(app, "a", "b", times=3)
        await lab.settled()
        assert await app.views(Board).get("a") is None
        await put(app, "ready", ("a", foreign(app, Ready(name="a"))))
        await lab.settled()
        assert await app.views(Board).get("a") == Board(name="a", total=6)
        await lab.advance(app, 301)
        assert {(row.key, row.state, row.reason) for row in await held(app, "pairs", state="dead")} == {("b", "dead", "deadline")}
        await balanced(app)


async def what_waits_is_told(kit: EngineKit) -> None:
    """A feed that goes on behind a document tells what the view has read and does not show yet; what a document shows is not told."""
    async with Lab(kit) as lab:
        app = await lab.start([teller(), pairs()])
        await put(app, "ready", ("b", foreign(app, Ready(name="b"))))
        await add(app, "a", "b", times=2)
        await lab.settled()
        for key, waiting in ((None, 2), ("a", 2), ("b", 0)):
            cursor = await app.cursor_behind(Board, ["tally", "ready"], key=key)
            assert [name async for name in _told(app, cursor)].count("a") == waiting, key
        await lab.advance(app, 301)
        assert [row.state for row in await held(app, "pairs")] == ["dead", "behind"]
        cursor = await app.cursor_behind(Board, ["tally", "ready"], key="a")
        assert [name async for name in _told(app, cursor)] == [], "what waits behind a dead letter is not gone back for"


async def _told(app: Application, cursor: str) -> AsyncIterator[str]:
    """Yield the key of each record that is there."""
    async for batch in app.tail(["tally", "ready"], after=cursor).batches(idle_s=0.05):
        if not batch:
            return
        for record in batch:
            yield json.loads(record.value)["partitionkey"]


async def views_follow_other_processes(kit: EngineKit) -> None:
    """A process that owns no partition of a view answers queries with what the owner has committed."""
    async with Lab(kit) as lab:
        one, two = await lab.start(), await lab.start()
        await add(one, *NAMES)
        await lab.settled()
        assert await documents(one) == await documents(two) == dict.fromkeys(NAMES, 1)
        await lab.stop(one)
        service = [teller(), counter(lab.behaviour)]
        three = await lab.start(service)
        await add(three, *NAMES)
        await lab.settled()
        assert await documents(two) == dict.fromkeys(NAMES, 2)


class LateWriting(Waiting):
    """Writes for builds what a turn of them writes that was collected before they went."""

    def __init__(self, builds: list[ViewInfo]) -> None:
        super().__init__()
        self._builds = builds

    async def prepare(self, unit: UnitOfWork) -> None:
        """Ask for the document."""
        for build in self._builds:
            unit.documents(Board, build.id).want(["late"])

    async def run(self, unit: UnitOfWork) -> None:
        """Write it, with the position."""
        for build in self._builds:
            unit.documents(Board, build.id).put("late", Board(name="late"), encode_json(Board(name="late")))
            unit.positions.append(PositionRow(processor_of(build), "tally", 0, offset=1))


async def _two_builds(app: Application) -> list[ViewInfo]:
    """Make a serving build and a new one, without running either."""
    host = app.hosts["counter"]
    host.writer.start()
    transaction = await host.store.begin()
    builds = [await transaction.views.add("board", 1, state) for state in (SERVING, BUILDING)]
    await transaction.commit()
    return builds


async def _nothing_is_left_of(app: Application, build: ViewInfo) -> None:
    reader = app.hosts["counter"].store.reader
    assert build.id not in {each.id for each in await reader.views.list()}
    assert processor_of(build) not in await reader.positions.processors()
    assert await reader.documents.load(build.id, ["late"]) == {}


async def swap_follows_what_the_old_build_writes(kit: EngineKit) -> None:
    """A turn of the old build that shares the transaction of the swap leaves nothing behind, and is not overtaken."""
    async with Lab(kit) as lab:
        app = await lab.open()
        old, new = await _two_builds(app)
        writer = app.hosts["counter"].writer
        ahead, swap = LateWriting([old]), Swap(new)
        for work in (ahead, swap):
            writer.submit(work)
        await swap.finished
        assert not swap.swapped, "the old build is ahead of the new one"

        both, swap = LateWriting([old, new]), Swap(new)
        for work in (swap, both):
            writer.submit(work)
        await both.finished
        assert swap.swapped
        await _nothing_is_left_of(app, old)


async def abandoned_builds_leave_nothing(kit: EngineKit) -> None:
    """A turn of a build that shares the transaction in which it is abandoned, and a claim that comes after it, leave nothing behind."""
    async with Lab(kit) as lab:
        app = await lab.open()
        _, build = await _two_builds(app)
        writer = app.hosts["counter"].writer
        claim = Claim(processor_of(build), [("tally", 0, 0, "identity")])
        for work in (Abandon(build), LateWriting([build])):
            writer.submit(work)
        writer.submit(claim)
        await claim.finished
        await _nothing_is_left_of(app, build)
        again = Claim(processor_of(build), [("tally", 0, 0, "identity")])
        writer.submit(again)
        await again.finished
        assert again.rows == []
        await _nothing_is_left_of(app, build)


PROMISES = (
    pages_cover_everything_once,
    rebuilt_view_is_equal,
    old_view_answers_while_the_new_one_reads,
    new_definition_is_built_beside_the_old,
    waiting_folds_go_on,
    what_waits_is_told,
    views_follow_other_processes,
    swap_follows_what_the_old_build_writes,
    abandoned_builds_leave_nothing,
)
