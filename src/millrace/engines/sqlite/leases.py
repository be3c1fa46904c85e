"""Who owns which partition, among processes that share a folder: operating-system file locks.

Theory. One lock file per (group, partition), locked with `flock` by its owner. A dead process's locks are released by the kernel, so
its partitions are free at once, with no lease to wait out. A stopped process (SIGSTOP, a laptop that sleeps) keeps its locks; its
heartbeat - the modification time of its instance file - goes stale after `session_s`, and whoever finds it so replaces the lock
file by one of its own (rename is atomic). The stopped owner's lock is then on a file that has no name any more; it notices at its next
refresh by comparing inodes, and before that the fencing token in the store refuses its commits: safety never rests on these locks,
only liveness does.

Fair shares: every process counts the live instances of a group and holds at most ceil(partitions / instances) of it.
Rejected: leases with a time to live in a table (a restart after kill -9 would wait for them), and one lock per service (partitions
could not be shared out).

Neighbours: implements `Leases` of `leasing`; the runtime calls `refresh` twice a second.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Mapping
from pathlib import Path

from millrace.errors import StoreUnavailable
from millrace.leasing import GroupSpec

SESSION_S = 4.0


class FileLeases:
    """The leases of one process.

    Args:
        folder: where lock files lie; shared by all processes of the installation.
        instance: a name that no other process has.
        session_s: how long an owner may be silent before its partitions are taken.
    """

    def __init__(self, folder: Path, instance: str, *, session_s: float = SESSION_S) -> None:
        self._folder = folder
        self._instance = self.instance = instance
        self._session_s = session_s
        self._groups: dict[str, int] = {}
        self._locks: dict[tuple[str, int], int] = {}
        self._member: int | None = None

    async def join(self, groups: Mapping[str, GroupSpec]) -> None:
        """Take part in groups, and in those only."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._groups = {name: spec.partitions for name, spec in groups.items()}
        for group, partition in [place for place in self._locks if place[0] not in groups]:
            self._unlock(group, partition)
        path = self._member_path(self._instance)
        if self._member is None:
            for _ in range(5):  # another process that sweeps the dead may hold or unlink the file for a moment
                self._member = _lock(path)
                if self._member is not None:
                    break
            if self._member is None:
                raise StoreUnavailable(str(path), reason="locked", detail="another process uses this instance name")
        os.ftruncate(self._member, 0)
        os.pwrite(self._member, "\n".join(sorted(self._groups)).encode(), 0)

    def _member_path(self, instance: str) -> Path:
        return self._folder / f"instance-{instance}"

    async def refresh(self) -> Mapping[str, frozenset[int]]:
        """Beat, drop what was taken from us or is above our share, take what is free."""
        if self._member is not None:
            os.utime(self._member)
        self._drop_stolen()
        members = self._members()
        for group, partitions in self._groups.items():
            share = -(-partitions // max(1, sum(group in groups for groups in members.values())))
            self._settle(group, partitions, share, members)
        return {group: frozenset(p for g, p in self._locks if g == group) for group in self._groups}

    def _settle(self, group: str, partitions: int, share: int, members: Mapping[str, frozenset[str]]) -> None:
        mine = [p for g, p in self._locks if g == group]
        for partition in sorted(mine)[share:]:
            self._unlock(group, partition)
        for partition in range(partitions):
            if len(mine) >= share:
                return
            if partition not in mine and self._take(group, partition, members):
                mine.append(partition)

    def _take(self, group: str, partition: int, members: Mapping[str, frozenset[str]]) -> bool:
        path = self._lock_path(group, partition)
        handle = _lock(path)
        if handle is None and self._owner_is_silent(path, members):
            handle = self._replace(path)
        if handle is None:
            return False
        os.ftruncate(handle, 0)
        os.pwrite(handle, self._instance.encode(), 0)
        self._locks[group, partition] = handle
        return True

    def _lock_path(self, group: str, partition: int) -> Path:
        return self._folder / f"lease-{group}-{partition}"

    def _owner_is_silent(self, path: Path, members: Mapping[str, frozenset[str]]) -> bool:
        try:
            owner = path.read_text()
        except OSError:
            return False
        return bool(owner) and owner not in members

    def _replace(self, path: Path) -> int | None:
        fresh = path.with_name(f"{path.name}.{self._instance}")
        handle = _lock(fresh)
        if handle is None:
            return None
        fresh.rename(path)
        if _is_named(handle, path):
            return handle
        os.close(handle)
        return None

    def _members(self) -> dict[str, frozenset[str]]:
        """Return the groups of every instance that lives and beats; sweep the dead."""
        members: dict[str, frozenset[str]] = {}
        for path in self._folder.glob("instance-*"):
            name = path.name.removeprefix("instance-")
            try:
                if name != self._instance and self._is_gone(path):
                    continue
                members[name] = frozenset(path.read_text().splitlines())
            except OSError:
                continue
        return members

    def _is_gone(self, path: Path) -> bool:
        handle = _lock(path)
        if handle is not None:
            path.unlink(missing_ok=True)
            os.close(handle)
            return True
        return time.time() - path.stat().st_mtime > self._session_s

    def _drop_stolen(self) -> None:
        for (group, partition), handle in list(self._locks.items()):
            if not _is_named(handle, self._lock_path(group, partition)):
                self._unlock(group, partition)

    def _unlock(self, group: str, partition: int) -> None:
        handle = self._locks.pop((group, partition), None)
        if handle is not None:
            os.close(handle)

    async def release(self, group: str, partition: int) -> None:
        """Give one partition back."""
        self._unlock(group, partition)

    async def owners(self, group: str) -> Mapping[int, str]:
        """Return the instance that holds each partition of a group; who was silent for a session counts as gone."""
        owners: dict[int, str] = {}
        for path in self._folder.glob(f"lease-{group}-*"):
            number = path.name.removeprefix(f"lease-{group}-")
            try:
                owner = path.read_text()
                beat = self._member_path(owner).stat().st_mtime if owner else 0.0
            except OSError:
                continue
            if number.isdigit() and time.time() - beat <= self._session_s:
                owners[int(number)] = owner
        return owners

    async def members(self) -> frozenset[str]:
        """Return every instance that lives; who was silent for a session, or left its file unlocked, counts as gone."""
        found: set[str] = set()
        for path in self._folder.glob("instance-*"):
            try:
                if time.time() - path.stat().st_mtime <= self._session_s and _is_locked(path):
                    found.add(path.name.removeprefix("instance-"))
            except OSError:
                continue
        return frozenset(found)

    async def leave(self) -> None:
        """Give everything back."""
        for group, partition in list(self._locks):
            self._unlock(group, partition)
        if self._member is not None:
            self._member_path(self._instance).unlink(missing_ok=True)
            os.close(self._member)
            self._member = None


def _lock(path: Path) -> int | None:
    """Open and lock a file; None when another process holds it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    if _is_named(handle, path):
        return handle
    os.close(handle)
    return None


def _is_locked(path: Path) -> bool:
    """Return whether a process holds a file's lock; asks for a shared one, for a moment."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _is_named(handle: int, path: Path) -> bool:
    """Return whether `path` still names the open file."""
    try:
        named = path.stat()
    except OSError:
        return False
    mine = os.fstat(handle)
    return (named.st_ino, named.st_dev) == (mine.st_ino, mine.st_dev)
