"""How builds of views come and go.

A build is a set of documents with positions of its own. States:

    building   reads the log from its start while another build serves
    serving    answers queries; there is exactly one per view, from the first start on
    (gone)     retired builds are removed in the transaction of the swap

The swap is one transaction: when every position of the new build has reached the old one's and nothing more is held in it, the new one is
marked serving, the old one's documents, positions and row go. A loop that still works for the old build finds its position row
missing at its next commit, which is a fence, and ends.

A definition whose version differs from the serving build's starts a build by itself; `millrace views rebuild` asks for one. Any number of
processes may work on one build: its partitions are leased like all others.

Neighbours: `hosting` runs a loop per build and calls `try_swap` after its commits; the command line calls `request`.
"""

from __future__ import annotations

from millrace.consumer_state import Wish, save_wish
from millrace.errors import UnknownMessage
from millrace.ports import PositionRow, StoreReader, StoreTransaction, ViewInfo
from millrace.unit_of_work import UnitOfWork
from millrace.view import ViewDefinition
from millrace.writer import Waiting

BUILDING, SERVING = "building", "serving"


def processor_of(build: ViewInfo) -> str:
    """Return the name under which a build keeps its positions."""
    return f"{build.name}@{build.id}"


class EnsureBuilds(Waiting):
    """Makes sure that each declared view has a serving build, and a new one where the definition has changed."""

    def __init__(self, definitions: list[ViewDefinition]) -> None:
        super().__init__()
        self._definitions = definitions

    async def run(self, unit: UnitOfWork) -> None:
        """Add what is missing; drop builds of an older definition that were never finished."""
        views = unit.transaction.views
        builds = await views.list()
        for definition in self._definitions:
            mine = [build for build in builds if build.name == definition.name]
            serving = [build for build in mine if build.state == SERVING]
            if not serving:
                await views.add(definition.name, definition.kind.version, SERVING)
            current = {build.version for build in mine}
            for build in mine:
                if build.state == BUILDING and build.version != definition.kind.version:
                    await _drop(unit.transaction, build)
            if serving and definition.kind.version not in current:
                await views.add(definition.name, definition.kind.version, BUILDING)


class Request(Waiting):
    """Asks for a new build of a view; a build that is under way is kept."""

    def __init__(self, definition: ViewDefinition) -> None:
        super().__init__()
        self._definition = definition
        self.build: ViewInfo | None = None

    async def run(self, unit: UnitOfWork) -> None:
        """Add the build."""
        views = unit.transaction.views
        version = self._definition.kind.version
        for build in await views.list():
            if build.name == self._definition.name and build.state == BUILDING and build.version == version:
                self.build = build
                return
        self.build = await views.add(self._definition.name, version, BUILDING)


class Abandon(Waiting):
    """Drops a build that does not serve."""

    def __init__(self, build: ViewInfo) -> None:
        super().__init__()
        self._build = build

    async def run(self, unit: UnitOfWork) -> None:
        """Nothing yet: what others staged in this transaction for the build that goes must be written before it is removed."""

    async def settle(self, unit: UnitOfWork) -> None:
        """Drop it, unless it has come to serve meanwhile."""
        for build in await unit.transaction.views.list():
            if build.id == self._build.id and build.state == BUILDING:
                await _drop(unit.transaction, build)


class Swap(Waiting):
    """Makes a build serve when it has caught up."""

    def __init__(self, build: ViewInfo) -> None:
        super().__init__()
        self._build = build
        self.swapped = False

    async def run(self, unit: UnitOfWork) -> None:
        """Nothing yet: what others staged in this transaction for the build that goes must be written before it is removed."""
        self.swapped = False  # in a try that was undone it may have been

    async def settle(self, unit: UnitOfWork) -> None:
        """Compare positions and swap, in one transaction."""
        transaction = unit.transaction
        builds = {build.id: build for build in await transaction.views.list()}
        mine = builds.get(self._build.id)
        if mine is None or mine.state != BUILDING:
            return
        old = next((b for b in builds.values() if b.name == mine.name and b.state == SERVING), None)
        if old is not None:
            if not await _caught_up(transaction, old, mine):
                return
            await _drop(transaction, old)
        await transaction.views.mark(mine.id, SERVING)
        self.swapped = True


async def _drop(transaction: StoreTransaction, build: ViewInfo) -> None:
    await transaction.positions.forget(processor_of(build))
    await save_wish(transaction, processor_of(build), Wish())
    await transaction.views.drop(build.id)


async def _caught_up(tables: StoreReader, old: ViewInfo, new: ViewInfo) -> bool:
    before, now = await progress(tables, old), await progress(tables, new)
    return all(place in now and now[place].offset >= row.offset and now[place].waiting <= row.waiting for place, row in before.items())


async def progress(tables: StoreReader, build: ViewInfo) -> dict[tuple[str, int], PositionRow]:
    """Return how far a build has read, per (topic, partition)."""
    return {(row.topic, row.partition): row for row in await tables.positions.load(processor_of(build))}


def find_definition(definitions: list[ViewDefinition], name: str) -> ViewDefinition:
    """Return the definition of a view by name.

    Raises:
        UnknownMessage: there is none; the error lists what there is.
    """
    for definition in definitions:
        if definition.name == name:
            return definition
    raise UnknownMessage(f"there is no view {name!r}; there are {sorted(d.name for d in definitions)}")
