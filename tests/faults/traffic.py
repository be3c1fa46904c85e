"""Customers who arrive at a steady rate whatever the shop does, and come back until they are answered.

Arrivals do not wait for answers, so a shop that stands still has a queue in front of it, and how long an answer took is counted from the
moment the customer came. Who gets no answer, or one that asks to come again, tries the next server with the same order, as a client
behind a load balancer does; a server that gave no answer is left alone for a while.

Neighbours: `run` sends them; `tests.crash.path` says what one customer does.
"""

from __future__ import annotations

import heapq
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Self

from tests.crash.crowd import ORDINARY
from tests.crash.path import PATHS, Customer
from tests.crash.shop import Gone, Server

TOGETHER = 48
PATIENCE_S = 4.0
AVOIDED_S = 1.0
AGAIN_S = 0.1
GIVE_UP_S = 180.0
GOODS = ("bland", "cheese", "fries", "cola", "lemonade", "water")
SHARES = ((ORDINARY, 90), (PATHS["declined"], 6), (PATHS["shipping_failed"], 4))


class Traffic:
    """See the module; customers come from the start of its block to the end, which returns when everybody was answered.

    Args:
        rate: customers per second; 0: each as soon as one before has been answered.
        seed: of what they buy.
        servers: who may be asked now.
    """

    def __init__(self, rate: float, *, seed: int, servers: Callable[[], Sequence[Server]]) -> None:
        self.rate = rate
        self._chance = random.Random(seed)
        self._servers = servers
        self._avoided: dict[int, float] = {}
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._given_up = False
        self._queue: list[tuple[float, int, float, Customer]] = []  # from when on, in which turn, come when, who
        self._arrived = 0
        self._served = 0
        self._asked = 0
        self._threads = [threading.Thread(target=self._serve, name="customer", daemon=True) for _ in range(TOGETHER)]
        self._threads.append(threading.Thread(target=self._arrive, name="arrivals", daemon=True))
        self.answered: list[tuple[float, float, Customer]] = []
        """Of everybody who was answered: when, after how long, who."""
        self.refused: list[tuple[float, str]] = []
        """When a try was in vain, and why."""
        self.wrong: list[str] = []
        """Answers that no customer should ever get, and customers who were never answered."""

    def __enter__(self) -> Self:
        """Let them come."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let nobody in any more and serve who is there; give everybody up at once when the run has failed."""
        self._closing.set()
        with self._changed:
            self._given_up = self._given_up or kind is not None
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        if kind is None:
            assert not self.wrong, (self.wrong[:3], self.reasons())

    def reasons(self, since: float = 0.0) -> Counter[str]:
        """Return why tries were in vain."""
        with self._changed:
            return Counter(why for at, why in self.refused if at > since)

    def customers(self, until: float = float("inf")) -> list[Customer]:
        """Return everybody who was answered by a moment."""
        with self._changed:
            return [customer for at, _, customer in self.answered if at <= until]

    def newcomers(self, after: float) -> list[Customer]:
        """Return everybody who came after a moment and was answered."""
        with self._changed:
            return [customer for at, seconds, customer in self.answered if at - seconds > after]

    def slowest(self, since: float = 0.0) -> float:
        """Return how long the slowest answer after a moment took."""
        with self._changed:
            return max((seconds for at, seconds, _ in self.answered if at > since), default=0.0)

    def wait(self, seconds: float) -> None:
        """Return when as many customers have come as do in so many seconds."""
        with self._changed:
            wanted = self._arrived + round(seconds * self.rate)
            met = self._changed.wait_for(lambda: self._arrived >= wanted, seconds + GIVE_UP_S)
        assert met, "no customer comes any more"

    def until_answered(self, count: int) -> None:
        """Return when so many customers have been answered."""
        with self._changed:
            met = self._changed.wait_for(lambda: len(self.answered) >= count, GIVE_UP_S)
        assert met, f"{len(self.answered)} of {count} customers were answered within {GIVE_UP_S:g} s"

    def _arrive(self) -> None:
        """Let customers in when they are due, whatever the others wait for."""
        began, count = time.monotonic(), 0
        while self.rate and not self._closing.wait(max(0.0, began + count / self.rate - time.monotonic())):
            with self._changed:
                self._enter(began + count / self.rate)
            count += 1

    def _enter(self, came: float) -> None:
        """Put a new customer at the end of the queue."""
        [path] = self._chance.choices([path for path, _ in SHARES], weights=[share for _, share in SHARES])
        skus = self._chance.sample(GOODS, self._chance.randint(1, 2))
        customer = Customer(path, tuple((sku, self._chance.randint(1, 2)) for sku in skus))
        self._arrived += 1
        heapq.heappush(self._queue, (came, self._arrived, came, customer))
        self._changed.notify_all()

    def _serve(self) -> None:
        while (turn := self._next()) is not None:
            _, number, came, customer = turn
            why = self._try(customer)
            now = time.monotonic()
            with self._changed:
                if not why:
                    self.answered.append((now, now - came, customer))
                    self._served += 1
                elif now - came < GIVE_UP_S:
                    self.refused.append((now, why))
                    heapq.heappush(self._queue, (now + AGAIN_S, number, came, customer))
                else:
                    self.wrong.append(f"{customer.order_id} got no answer within {GIVE_UP_S:g} s: {why}")
                    self._given_up = True
                self._changed.notify_all()

    def _next(self) -> tuple[float, int, float, Customer] | None:
        """Return the next customer whose turn it is; None when nobody is left and nobody will come."""
        with self._changed:
            while not self._given_up:
                now = time.monotonic()
                if self._queue and self._queue[0][0] <= now:
                    return heapq.heappop(self._queue)
                if self._closing.is_set() and self._served == self._arrived:
                    return None
                if not self.rate and not self._closing.is_set():
                    self._enter(now)
                    continue
                self._changed.wait(min(AGAIN_S, self._queue[0][0] - now) if self._queue else AGAIN_S)
            return None

    def _try(self, customer: Customer) -> str:
        """Try once; return why it was in vain, nothing when it was not."""
        server = self._choose()
        if server is None:
            return "no server"
        try:
            status = customer.try_to_place(server, patience=PATIENCE_S)
        except Gone:
            self._avoided[id(server)] = time.monotonic() + AVOIDED_S
            return "no answer"
        except AssertionError as error:
            self.wrong.append(str(error))
            self._given_up = True
            return "a wrong answer"
        return "" if "place" in customer.answers else str(status)

    def _choose(self) -> Server | None:
        servers, now = self._servers(), time.monotonic()
        sound = [server for server in servers if self._avoided.get(id(server), 0.0) < now] or list(servers)
        self._asked += 1
        return sound[self._asked % len(sound)] if sound else None
