"""The orchestrated checkout among faults: answers lost, said twice, late or out of order, processes that die, deadlines at any moment.

    lost       an answer does not reach the saga; only what a repeated command brings again (the log itself loses nothing)
    twice      a message is handled once more, as after a redelivery; the provider is asked twice by what follows
    dead       what was decided on a message is gone, though the provider and the carrier were asked; it is handled again
    reloaded   an instance is what its stored bytes say
    late       a deadline comes although the answer lies there already; topics and readers lag as in `World`

Then the faults end, and an operator repeats what is stuck, or takes it over, and settles the orders that are on hold then: after that
everything must be at its end. The alerts are left out, the view as well unless it is asked for, and the provider keeps its ledger in
memory, because tens of thousands of runs have to fit into a minute.

Neighbours: `test_interleavings` says what must hold.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec

from millrace import Event
from millrace.saga_course import Course
from millrace.saga_instance import SagaInstance
from parcomolo.contracts.inventory import ReservationExpired
from parcomolo.contracts.orders import OrderCancellationRequested, OrderPlaced, OrderReviewEnded
from parcomolo.contracts.shipping import ItemShipped
from parcomolo.orders.messages import SettleOrder
from parcomolo.payments.provider import Charge
from tests.parcomolo.domain.world import Said, World

NEVER_LOST = (OrderPlaced, OrderReviewEnded, OrderCancellationRequested, ItemShipped, ReservationExpired)
"""What no command repeats."""
OUTSIDE = ("provider", "carrier")
LEFT_OUT = ("status", "operations")
LOST, TWICE, DEAD, RELOADED = 0.04, 0.06, 0.06, 0.3
TAKEN_OVER = 0.2
"""The share of stuck checkouts that an operator takes over at once."""
RETRIES_MAX = 20
SETTLED_MAX = 2
"""So often an order has to be settled at most: what was refused once is known by then."""
_decode = msgspec.json.Decoder(SagaInstance).decode


class MemoryLedger:
    """What a provider keeps, in memory."""

    def __init__(self) -> None:
        self.charges: dict[str, Charge] = {}

    def find(self, key: str) -> Charge | None:
        """Return a charge."""
        return self.charges.get(key)

    def save(self, charge: Charge) -> None:
        """Keep a charge."""
        self.charges[charge.key] = charge


class FaultyWorld(World):
    """See the module. `faulty` ends with the faults; with `told`, orders have their stories."""

    def __init__(self, *, told: bool = False, **world: Any) -> None:
        self.faulty = True
        self.ledger = MemoryLedger()
        self.stuck = self.settled_early = 0
        self.operator = random.Random(f"operator {world['seed']}")
        super().__init__(**world)
        for reader in LEFT_OUT:
            if reader != "status" or not told:
                del self._readers[reader]

    def settle(self) -> None:
        """End the faults, and let an operator see to what is stuck or on hold until everything is at its end."""
        self.faulty, self._in_time, self._impatience = False, True, 0.0
        self.run()
        for _ in range(RETRIES_MAX):
            stuck = [key for key, instance in self.sagas.items() if instance.status == "stuck"]
            if not stuck:
                self.settle_held()
                return
            for key in stuck:
                self.stuck += 1
                self.operate(key, self.take_over if self.operator.random() < TAKEN_OVER else lambda course: course.retry("operator"))
            self.run()

    def take_over(self, course: Course) -> None:
        """Let an operator take a checkout over."""
        course.take_over("no more patience", "operator")

    def settle_held(self) -> None:
        """Let the operator say how each order ends that is on hold, again where that was refused; there is one way at least."""
        for _ in range(SETTLED_MAX):
            held = [order_id for order_id, order in self.orders.items() if order.status == "on_hold"]
            for order_id in held:
                assert self.settle_order(order_id), order_id
            self.run()

    def settle_order(self, order_id: str) -> bool:
        """Let the operator say how an order ends, one way or the other; return whether one was taken."""
        ways = self.operator.sample(("cancelled", "completed"), 2)
        done = any(self.tell("orders", SettleOrder(order_id=order_id, outcome=way, reason="by hand")) is None for way in ways)
        self.settled_early += done and self.faulty
        return done

    def _deliver(self, place: tuple[str, str, str]) -> None:
        if self.faulty:
            chance = self.random.random()
            if chance < DEAD:
                self._die(place)
                return
            if chance < DEAD + TWICE and place[0] not in OUTSIDE:
                self._queues[place].insert(0, self._queues[place][0])
        super()._deliver(place)

    def _die(self, place: tuple[str, str, str]) -> None:
        if place[0] in OUTSIDE:
            self._ask(self._queues[place][0].message)

    def _moved(self, key: str, after: Any, said: Said) -> None:
        super()._moved(key, after, said)
        if self.faulty and key in self.sagas and self.random.random() < RELOADED:
            self.sagas[key] = _decode(msgspec.json.encode(self.sagas[key]))

    def _loses(self, reader: str, message: Any) -> bool:
        lossy = self.faulty and reader == "checkout" and isinstance(message, Event) and not isinstance(message, NEVER_LOST)
        return lossy and self.random.random() < LOST

    def _at_the_provider(self, work: Callable[[Any], Any]) -> Any:
        return work(self.ledger)
