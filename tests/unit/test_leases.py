"""Leases on partitions by file locks: shared out fairly, free at once when their holder is gone, taken from who is silent."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.engines.sqlite.leases import FileLeases
from millrace.errors import StoreUnavailable
from millrace.leasing import GroupSpec

GROUP = "orders.handlers"
ALL = frozenset(range(4))


class Processes:
    """Leases of several processes in one; each can die."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.leases: list[FileLeases] = []

    async def start(self, name: str, *, groups: tuple[str, ...] = (GROUP,)) -> FileLeases:
        """One more process."""
        leases = FileLeases(self._folder, name, session_s=4.0)
        await leases.join(dict.fromkeys(groups, GroupSpec(4)))
        self.leases.append(leases)
        return leases

    def kill(self, leases: FileLeases) -> None:
        """Close its files, as the kernel does."""
        for handle in (*leases._locks.values(), leases._member):
            os.close(handle)  # type: ignore[arg-type]
        leases._locks, leases._member = {}, None

    def stop_beating(self, name: str) -> None:
        """Let its heartbeat be as old as that of a process that was stopped."""
        os.utime(self._folder / f"instance-{name}", (1, 1))


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Processes on one folder."""
    found = Processes(tmp_path / "leases")
    yield found
    for leases in found.leases:
        if leases._member is not None:
            found.kill(leases)


async def owned(leases: FileLeases, group: str = GROUP) -> frozenset[int]:
    """What it owns after looking again."""
    return (await leases.refresh())[group]


async def test_one_process_owns_all(processes: Processes) -> None:
    """Alone, a process takes every partition at its first look, and keeps them."""
    one = await processes.start("one")
    assert await owned(one) == ALL
    assert await owned(one) == ALL


async def test_partitions_are_shared_out(processes: Processes) -> None:
    """A second process gets its share when the first has looked again; no partition has two owners, none is free."""
    one, two = await processes.start("one"), await processes.start("two")
    await owned(one)
    await owned(two)
    first, second = await owned(one), await owned(two)
    assert len(first) == len(second) == 2
    assert first | second == ALL


async def test_groups_are_shared_by_their_members(processes: Processes) -> None:
    """A process that does not take part in a group takes nothing of it away."""
    one, _ = await processes.start("one"), await processes.start("two", groups=("other",))
    assert await owned(one) == ALL


@pytest.mark.parametrize("end", ["leave", "kill"])
async def test_partitions_of_the_gone_are_free_at_once(processes: Processes, end: str) -> None:
    """Neither a goodbye nor a death leaves anything to wait for."""
    one, two = await processes.start("one"), await processes.start("two")
    await owned(one)
    await (one.leave() if end == "leave" else _killed(processes, one))
    assert await owned(two) == ALL


async def _killed(processes: Processes, leases: FileLeases) -> None:
    processes.kill(leases)


async def test_silent_owners_lose_their_partitions(processes: Processes) -> None:
    """A stopped process keeps its locks, not its partitions; when it goes on it notices and shares again."""
    one = await processes.start("one")
    assert await owned(one) == ALL
    processes.stop_beating("one")
    two = await processes.start("two")
    assert await owned(two) == ALL

    mine = await owned(one)
    theirs = await owned(two)
    assert not mine & theirs
    assert len(mine | await owned(one) | theirs) == 4


async def test_a_partition_can_be_given_back(processes: Processes) -> None:
    """What one process releases another may take."""
    one, two = await processes.start("one"), await processes.start("two")
    await owned(one)
    await one.release(GROUP, 0)
    assert 0 in await owned(two)
    assert 0 not in await owned(one)


async def test_owners_are_named(processes: Processes) -> None:
    """Operators see who holds what, and nobody where the holder is silent or gone."""
    one = await processes.start("one")
    await owned(one)
    assert await one.owners(GROUP) == dict.fromkeys(ALL, "one")
    processes.stop_beating("one")
    assert await one.owners(GROUP) == {}


async def test_names_are_unique(processes: Processes) -> None:
    """A second process of the same name does not start."""
    await processes.start("one")
    with pytest.raises(StoreUnavailable, match="another process uses this instance name"):
        await processes.start("one")


async def test_a_sweep_in_passing_keeps_nobody_out(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that looks whether an instance lives holds its file for a moment; whoever starts then tries again."""
    await processes.start("one")
    flock, refusals = fcntl.flock, iter([BlockingIOError(), BlockingIOError()])

    def refuse_twice(handle: int, operation: int) -> None:
        if (error := next(refusals, None)) is not None:
            raise error
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", refuse_twice)
    assert await owned(await processes.start("two")) <= ALL


async def test_a_file_swept_while_it_is_locked_is_made_again(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of a dead instance may be unlinked between opening and locking it: the lock of a nameless file is none."""
    one = await processes.start("one")
    flock, sweeps = fcntl.flock, iter([True])

    def sweep_once(handle: int, operation: int) -> None:
        flock(handle, operation)
        if next(sweeps, False):
            one._member_path("two").unlink()

    monkeypatch.setattr(fcntl, "flock", sweep_once)
    await processes.start("two")
    assert one._member_path("two").exists()


async def test_groups_that_are_left_are_given_back(processes: Processes) -> None:
    """Who takes part in a group no more has none of its partitions, and others take them at once."""
    first = await processes.start("a", groups=(GROUP, "orders.view"))
    assert await owned(first, "orders.view") == ALL
    await first.join({GROUP: GroupSpec(4)})
    assert await first.refresh() == {GROUP: ALL}
    second = await processes.start("b", groups=("orders.view",))
    assert await owned(second, "orders.view") == ALL


async def test_members_are_who_lives_and_beats(processes: Processes) -> None:
    """Neither a process that died nor one that stands still is a member; asking changes nothing."""
    one, two, three = [await processes.start(name) for name in ("a", "b", "c")]
    assert await one.members() == {"a", "b", "c"}
    processes.kill(two)
    processes.stop_beating("c")
    assert await one.members() == {"a"}
    await three.refresh()
    assert await FileLeases(one._folder, "", session_s=4.0).members() == {"a", "c"}
    assert await owned(one) | await owned(three) == ALL


async def test_a_folder_without_leases_has_no_members(tmp_path: Path) -> None:
    """Where nothing was ever started nobody is asked."""
    assert await FileLeases(tmp_path / "nothing", "").members() == frozenset()
