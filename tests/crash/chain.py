"""Crash points one after the other on one shop that lives on: each server that dies has brought the orders of the last death to their end.

A shop on servers takes seconds to open, so what `enumeration` does with a copy of a folder for each point is done here with new customers
for each point. A link of the chain: three customers come, the server dies after its n-th durable step, the next one is started, the
customers go on, everything is looked at; then its own steps are counted, and new customers come.

Neighbours: `enumeration` has the runs; `path` and `invariants` say what is done and checked.
"""

from __future__ import annotations

import shutil
import signal
import threading
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path as Folder

from millrace.testing.crash import Trap, Zygote
from tests.crash.enumeration import Run, unless_it_dies
from tests.crash.invariants import check_answered, check_files, check_shop
from tests.crash.path import BASKETS, Customer, Path, buy_together, three_customers
from tests.crash.shop import Server

TOGETHER = 2
LINKS = 25
"""So many points a shop goes through before another one is opened: what it publishes is read anew by each of its servers."""
LIVES = 3
RECEIVED = dict.fromkeys({sku for basket in BASKETS for sku, _ in basket}, 10_000)


class Points:
    """Numbers of steps, each handed out once, until enough runs have ended alive: one alone may have been among the short ones.

    Args:
        numbers: the numbers; default: all from 0 on.
    """

    def __init__(self, numbers: Iterable[int] | None = None) -> None:
        self._numbers = count() if numbers is None else iter(numbers)
        self._returned: list[int] = []
        self._lock = threading.Lock()
        self._lives = 0

    def take(self) -> int | None:
        """Return a number that nobody has, None when there is no more."""
        with self._lock:
            if self._returned:
                return self._returned.pop()
            return None if self._lives >= LIVES else next(self._numbers, None)

    def give_back(self, number: int | None) -> None:
        """Leave a number to others."""
        with self._lock:
            self._returned += [] if number is None else [number]

    def lived(self) -> None:
        """Hear that a run has ended alive."""
        with self._lock:
            self._lives += 1


class Chain:
    """One shop that is killed again and again.

    Args:
        zygote: starts servers.
        path: what customers do.
        folder: of its files; stays where a point failed.
    """

    def __init__(self, zygote: Zygote, path: Path, folder: Folder) -> None:
        self._zygote = zygote
        self._path = path
        self._folder = folder
        self._data = folder / "data"
        self._customers: list[Customer] = []
        self._servers = ExitStack()
        folder.mkdir(parents=True)

    def runs(self, points: Points) -> Iterator[Run]:
        """Try points until a run was not killed or something was wrong; the last one ends with a look at all that the shop has left."""
        at = points.take()
        if at is None:
            return
        with self._servers:
            self._open(at)
            for left in range(LINKS, 0, -1):
                run, following = Run(self._path, at), points.take() if left > 1 else None
                try:
                    self._link(run, following)
                    if following is None or not run.killed:
                        self._end(alive=run.killed)
                except Exception:  # noqa: BLE001  # whatever it is, it is this point's failure
                    run.failure = f"{traceback.format_exc()}\noutput of the servers: {self._folder}"
                    points.give_back(following)
                yield run
                if run.failure:
                    return
                if not run.killed:
                    points.lived()
                    points.give_back(following)
                if following is None or not run.killed:
                    break
                at = following
        shutil.rmtree(self._folder)

    def _open(self, at: int) -> None:
        """Start the first server, which is to die at a point, and have enough of everything."""
        self._start(at)
        for sku, pieces in RECEIVED.items():
            adjustment = {"delta": pieces, "reason": "many customers"}
            assert self._server.call("POST", f"/api/stock/{sku}/adjust", adjustment).status == 200
        self._server.settle()

    def _start(self, at: int | None) -> None:
        self._trap = Trap(steps=self._folder / f"steps-{at}", at=at)
        server = Server(self._zygote, self._data, log=self._folder / f"before-{at}.log", delay=self._path.delay, trap=self._trap)
        self._server = self._servers.enter_context(server)

    def _link(self, run: Run, following: int | None) -> None:
        """Try one point, and start the server that is to die at the one that follows."""
        customers, trap, server = three_customers(self._path), self._trap, self._server
        trap.arm()
        try:
            if buy_together(server, customers):
                unless_it_dies(server, lambda: self._check(customers))
            status = server.process.terminate()
        finally:
            run.steps = trap.read()
        assert status in (0, -signal.SIGKILL), (status, server.process.output)
        run.killed = status != 0
        if run.killed:
            assert len(run.steps) == run.at, "it died elsewhere"
            self._start(following)
            check_answered(self._server, customers)
            assert buy_together(self._server, customers), self._server.process.output
            self._check(customers)
        self._customers += customers

    def _check(self, customers: list[Customer]) -> None:
        check_shop(self._server, customers, before=self._customers, received=RECEIVED)

    def _end(self, *, alive: bool) -> None:
        if alive:
            assert self._server.process.terminate() == 0, self._server.process.output
        check_files(self._zygote, self._data, self._customers, log=self._folder / "ledger.log")


def try_points(zygote: Zygote, path: Path, folder: Folder, *, points: Points) -> list[Run]:
    """Try points of a path on several shops at once, and return all runs in order."""
    shops = count()

    def work() -> list[Run]:
        found: list[Run] = []
        while runs := list(Chain(zygote, path, folder / f"shop-{next(shops)}").runs(points)):
            found += runs
        return found

    with ThreadPoolExecutor(TOGETHER) as threads:
        working = [threads.submit(work) for _ in range(TOGETHER)]
        return sorted((run for each in working for run in each.result()), key=lambda run: run.at or 0)
