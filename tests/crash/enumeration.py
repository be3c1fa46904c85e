"""All crash points of a path: runs it again and again, killed after its n-th durable operation, until a run ends alive.

Each run has a copy of a freshly opened shop. Several runs go on at once, because most of a run is waiting: for the disk, and on some paths
for timers. Neighbours: `path` and `invariants` say what is done and checked; `golden` compares the steps.
"""

import shutil
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path as Folder

from millrace.testing.crash import Step, Trap, Zygote
from tests.crash.invariants import check_answered, check_files, check_shop
from tests.crash.path import Customer, Path, buy_together, three_customers
from tests.crash.shop import Server

TOGETHER = 4
TOGETHER_WAITING = 10


@dataclass
class Run:
    """One run: where it was to die, whether it did, how far it came, and what was wrong afterwards."""

    path: Path
    at: int | None
    steps: list[Step] = field(default_factory=list)
    killed: bool = False
    failure: str = ""

    @property
    def report(self) -> str:
        """Say what failed and where."""
        step = self.steps[-1].line.strip() if self.steps else "before the first step"
        return f"path {self.path.name}, n = {self.at}, killed: {self.killed}, last step: {step}\n{self.failure}"


class Enumeration:
    """Tries the crash points of one path.

    Args:
        zygote: starts servers.
        path: what customers do.
        opened: a folder of a shop that was opened and stopped.
        folder: where the runs are; what failed stays there.
        early: a service whose steps alone are counted; the process dies before they are durable.
    """

    def __init__(self, zygote: Zygote, path: Path, *, opened: Folder, folder: Folder, early: str | None = None) -> None:
        self._zygote = zygote
        self._path = path
        self._opened = opened
        self._folder = folder
        self._early = early
        self._numbers = count(0 if early is None else 1)
        self._lock = threading.Lock()
        self._done = threading.Event()

    def run_all(self) -> list[Run]:
        """Try every point until one run was not killed, and return all runs in order."""
        together = TOGETHER_WAITING if self._path.waits else TOGETHER
        with ThreadPoolExecutor(together) as threads:
            found = [threads.submit(lambda: list(self._runs())) for _ in range(together)]
            return sorted((run for each in found for run in each.result()), key=lambda run: run.at or 0)

    def _runs(self) -> Iterator[Run]:
        while not self._done.is_set():
            with self._lock:
                at = next(self._numbers)
            run = self.run_at(at)
            if not run.killed:
                self._done.set()
            yield run

    def run_at(self, at: int | None) -> Run:
        """Try one point; None: do not kill."""
        run = Run(self._path, at)
        folder = self._folder / f"{self._path.name}-{at}"
        folder.mkdir(parents=True)
        shutil.copytree(self._opened, folder / "data")
        try:
            self._attempt(run, self._trap(at, folder), folder)
        except Exception:  # noqa: BLE001  # whatever it is, it is this point's failure
            run.failure = f"{traceback.format_exc()}\nfiles and output of the servers: {folder}"
        else:
            shutil.rmtree(folder)
        return run

    def _trap(self, at: int | None, folder: Folder) -> Trap:
        return Trap(steps=folder / "steps", at=at, early=self._early is not None, service=self._early)

    def _attempt(self, run: Run, trap: Trap, folder: Folder) -> None:
        customers = three_customers(self._path)
        try:
            run.killed = self._go_until_killed(trap, customers, folder)
        finally:
            run.steps = trap.read()
        if run.killed:
            assert len(run.steps) == (run.at or 0) - trap.early, "it died elsewhere"
            self._go_on(customers, folder)
        check_files(self._zygote, folder / "data", customers, log=folder / "ledger.log")

    def _go_until_killed(self, trap: Trap, customers: list[Customer], folder: Folder) -> bool:
        with Server(self._zygote, folder / "data", log=folder / "first.log", delay=self._path.delay, trap=trap) as server:
            trap.arm()
            if buy_together(server, customers):
                unless_it_dies(server, lambda: check_shop(server, customers))
            status = server.process.terminate()
        assert status in (0, -signal.SIGKILL), (status, server.process.output)
        return status != 0

    def _go_on(self, customers: list[Customer], folder: Folder) -> None:
        with Server(self._zygote, folder / "data", log=folder / "second.log", delay=self._path.delay) as server:
            check_answered(server, customers)
            assert buy_together(server, customers), server.process.output
            check_shop(server, customers)


def unless_it_dies(server: Server, check: Callable[[], None]) -> None:
    """Check a shop that may die while it is looked at; what is wrong of one that is alive is wrong."""
    try:
        check()
    except Exception:
        if server.process.alive and not _dies(server):
            raise


def _dies(server: Server) -> bool:
    """Return whether the server answers no more."""
    try:
        server.call("GET", "/ready")
    except Exception:  # noqa: BLE001  # it does not answer, for whatever reason
        return True
    return False
