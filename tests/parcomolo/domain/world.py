"""The whole choreography in memory: every context's pure functions, fed in any order that the log could have.

What the runtime promises is kept, and nothing more: order per (topic, key) for each reader, each message once, `NotYet`
puts a message back until another one of its key was handled, timers fire once and may be cancelled. Everything else
(which topic is ahead, when a timer fires, when a person cancels) is drawn at random, so that a run is one of the
interleavings that could happen.

Readers and topics get random priorities, which change now and then: so one of them lags far behind in most runs, and
rare races are met often. (Source: Burckhardt and others, "A randomized scheduler with probabilistic guarantees of
finding bugs", 2010.)
"""

from __future__ import annotations

import functools
import random
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from millrace import Cancel, Command, Context, Delete, Event, NotYet, Rejected, State, Timer
from millrace.message import declaration, key_of
from millrace.state import kind_of, row_key
from parcomolo.inventory import domain as inventory
from parcomolo.inventory.messages import OpenStock
from parcomolo.inventory.stock import Stock, StockRows
from parcomolo.operations import domain as operations
from parcomolo.orders.domain import decide
from parcomolo.orders.order import Order, OrderEvent, evolve
from parcomolo.orders.views import OrderStatus, order_status
from parcomolo.payments import domain as payments
from parcomolo.payments.answers import ChargeAnswered, RefundAnswered
from parcomolo.payments.messages import ChargeCard, RefundCard, VoidCard
from parcomolo.payments.provider import Ledger, SimulatedProvider, give_back, leave_nothing, take
from parcomolo.shipping import domain as shipping
from parcomolo.shipping.carrier import REFUSED_NAME, ParcelBooked
from parcomolo.shipping.messages import BookParcel, UnbookParcel

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
TTL = timedelta(minutes=15)
DELAY = timedelta(seconds=3)
LIMIT = timedelta(seconds=30)
GRACE = timedelta(seconds=1)

PURE: dict[str, tuple[tuple[Callable[..., Any], dict[str, Any]], ...]] = {
    "inventory": (
        (inventory.place, {"ttl": TTL}),
        (inventory.expire, {}),
        (inventory.change_content, {}),
        (inventory.end_review, {"ttl": TTL}),
        (inventory.note_payment, {"ttl": TTL}),
        (inventory.release_unpaid, {}),
        (inventory.stop, {}),
        (inventory.ship, {}),
        (inventory.open_stock, {}),
        (inventory.adjust, {}),
    ),
    "payments": tuple(
        (function, {})
        for function in (
            payments.remember,
            payments.change_content,
            payments.charge_reserved,
            payments.charge_again,
            payments.charge_answered,
            payments.stop,
            payments.void_expired,
            payments.close,
            payments.refund_again,
            payments.refund_answered,
        )
    ),
    "shipping": (
        (shipping.remember, {}),
        (shipping.schedule_paid, {}),
        (shipping.booked, {"delay": DELAY}),
        (shipping.send, {}),
        (shipping.cancel, {}),
        (shipping.withhold, {}),
    ),
    "operations": (
        (operations.watch, {"limit": LIMIT, "grace": GRACE}),
        (operations.judge_delivered, {"limit": LIMIT}),
        (operations.judge_missing, {}),
        (operations.leave, {}),
    ),
}


class Said(typing.NamedTuple):
    """A message as it was said, with its envelope."""

    message: Event | Command
    id: str
    cause: str
    service: str
    at: datetime

    @property
    def passes_on(self) -> str:
        """What messages made from this one name as their cause."""
        return self.cause if declaration(type(self.message)).internal else self.id


class World:
    """All contexts, their rows, and everything that was said.

    Args:
        seed: of the interleaving.
        stock: opening stock per product.
    """

    def __init__(self, *, seed: int, stock: Mapping[str, int]) -> None:
        self.random = random.Random(seed)
        self.now = START
        self.facts: list[Said] = []
        self.orders: dict[str, Order] = {}
        self.views: dict[str, OrderStatus] = {}
        self.rows: dict[tuple[str, type[State], str], State] = {}
        self.provider = SimulatedProvider(":memory:")
        self._queues: dict[tuple[str, str, str], list[Said]] = {}
        self._blocked: set[tuple[str, str, str]] = set()
        self._timers: dict[tuple[str, str, str], Said] = {}
        self._count = 0
        self._priorities: dict[tuple[str, str], float] = {}
        self._impatience = self.random.choice((0.02, 0.1, 0.3))
        self._readers = _readers()
        for sku, quantity in stock.items():
            self.tell("inventory", OpenStock(sku=sku, quantity=quantity))

    def tell(self, reader: str, command: Command) -> str | None:
        """Give a command to a context directly, as HTTP does; return the reason when it is refused."""
        try:
            self._handle(reader, Said(command, "", "", "http", self.now))
        except Rejected as refusal:
            return refusal.reason
        return None

    def run(self, *, interrupt: Callable[[World], None] | None = None, steps: int = 5_000) -> None:
        """Let everything happen, in a random order, until nothing is left to happen."""
        for _ in range(steps):
            if interrupt is not None:
                interrupt(self)
            if not self.step():
                return
        raise AssertionError(f"still busy after {steps} steps: {self._queues.keys()} {self._timers.keys()}")

    def step(self) -> bool:
        """Let one thing happen; return whether there was one."""
        ready = [place for place in self._queues if place not in self._blocked]
        timers = list(self._timers)
        if not ready and not timers:
            assert not self._queues, f"waiting for ever: {[(place, q[0].message) for place, q in self._queues.items()]}"
            return False
        if self.random.random() < 0.03:
            self._priorities.clear()
        if ready and (not timers or self.random.random() > self._impatience):
            self._deliver(max(ready, key=self._priority))
        else:
            self._fire(self.random.choice(timers))
        return True

    def stock(self, sku: str) -> Stock:
        """Return a product's row."""
        return typing.cast("Stock", self.rows["inventory", Stock, sku])

    def said(self, *classes: type[Event], order_id: str | None = None) -> list[Event]:
        """Return facts of some classes, in the order they were said."""
        return [
            said.message
            for said in self.facts
            if isinstance(said.message, classes) and order_id in (None, getattr(said.message, "order_id", None))
        ]

    def _priority(self, place: tuple[str, str, str]) -> float:
        reader, topic, _ = place
        if (reader, topic) not in self._priorities:
            self._priorities[reader, topic] = self.random.random()
        return self._priorities[reader, topic]

    def _deliver(self, place: tuple[str, str, str]) -> None:
        reader, _, key = place
        self.now += timedelta(milliseconds=1)
        try:
            self._handle(reader, self._queues[place][0])
        except NotYet:
            self._blocked.add(place)
            return
        self._queues[place].pop(0)
        if not self._queues[place]:
            del self._queues[place]
        self._wake(reader, key)

    def _fire(self, timer: tuple[str, str, str]) -> None:
        said = self._timers.pop(timer)
        self.now += timedelta(milliseconds=1)
        self._handle(timer[0], said)
        self._wake(timer[0], timer[1])

    def _wake(self, reader: str, key: str) -> None:
        self._blocked = {place for place in self._blocked if (place[0], place[2]) != (reader, key)}

    def _handle(self, reader: str, said: Said) -> None:
        message = said.message
        if reader == "orders":
            self._decide(said)
        elif reader == "status":
            self._view(said)
        elif reader in ("provider", "carrier"):
            answer = self._ask(message)
            if answer is not None:
                self._react({"provider": "payments", "carrier": "shipping"}[reader], answer, said)
        else:
            self._react(reader, message, said)
        for row in self.rows.values():
            assert not isinstance(row, Stock) or 0 <= row.reserved <= row.on_hand, row

    def _react(self, service: str, given: Any, said: Said) -> None:
        function, extra = self._readers[service][type(given)]
        self._stage(service, function(given, **_rows(self, service, function, given), **extra), said)

    def _decide(self, said: Said) -> None:
        key = key_of(said.message)
        order = self.orders.get(key)
        items = decide(typing.cast("Any", said.message), order, self._context(said))
        for item in items:
            if isinstance(item, Event):
                order = evolve(order, typing.cast("OrderEvent", item))
        if order is not None:
            self.orders[key] = order
        self._stage("orders", items, said)

    def _view(self, said: Said) -> None:
        key = key_of(said.message)
        after = order_status(self.views.get(key), typing.cast("Any", said.message), self._context(said))
        if after is not None:
            known = {entry.id for entry in after.timeline}
            assert all(e.causation in known for e in after.timeline if e.causation), "a status without its causes"
            self.views[key] = after

    def _context(self, said: Said) -> Context:
        return Context.example(
            now=self.now,
            key=key_of(said.message),
            id=said.id,
            source=f"/parcomolo/{said.service}",
            time=said.at.isoformat(),
            causationid=said.cause,
        )

    def _at_the_provider(self, work: Callable[[Ledger], Any]) -> Any:
        return self.provider.run_now([work])[0]

    def _ask(self, message: Event | Command) -> ChargeAnswered | RefundAnswered | ParcelBooked | None:
        match message:
            case ChargeCard():
                result = self._at_the_provider(lambda ledger: take(ledger, message.payment_id, message.amount, message.token))
                return ChargeAnswered(order_id=message.order_id, attempt=message.attempt, outcome=result.outcome, reason=result.reason)
            case RefundCard():
                refund = self._at_the_provider(lambda ledger: give_back(ledger, message.payment_id, message.amount))
                return RefundAnswered(order_id=message.order_id, attempt=message.attempt, refunded=refund.refunded)
            case VoidCard():
                self._at_the_provider(lambda ledger: leave_nothing(ledger, message.payment_id))
            case BookParcel():
                refused = message.ship_to is not None and message.ship_to.name == REFUSED_NAME
                return ParcelBooked(order_id=message.order_id, refusal="address_unknown" if refused else None)
            case _:
                assert isinstance(message, UnbookParcel)
        return None

    def _stage(self, service: str, items: Iterable[Any], cause: Said) -> None:
        key = key_of(cause.message)
        for item in items or ():
            match item:
                case Timer():
                    said = Said(item.message, "", cause.passes_on, service, self.now)
                    self._timers[service, key, item.name] = said
                case Cancel():
                    self._timers.pop((service, key, item.name), None)
                case Delete():
                    self.rows.pop((service, type(item.state), row_key(item.state)), None)
                case State():
                    self.rows[service, type(item), row_key(item)] = item
                case _:
                    self._publish(service, item, cause)

    def _publish(self, service: str, message: Event | Command, cause: Said) -> None:
        self._count += 1
        said = Said(message, f"{service}-1-{self._count}", cause.passes_on, service, self.now)
        topic = declaration(type(message)).topic or ""
        if not topic.startswith("internal."):
            self.facts.append(said)
        for reader, types in self._readers.items():
            if type(message) in types:
                self._queues.setdefault((reader, topic, key_of(message)), []).append(said)


def _readers() -> dict[str, dict[type, Any]]:
    readers: dict[str, dict[type, Any]] = {
        service: {cls: (function, extra) for function, extra in functions for cls in _types_of(function, 0)}
        for service, functions in PURE.items()
    }
    readers["orders"] = dict.fromkeys(_types_of(decide, 0))
    readers["status"] = dict.fromkeys(_types_of(order_status, 1))
    readers["provider"] = dict.fromkeys((ChargeCard, RefundCard, VoidCard))
    readers["carrier"] = dict.fromkeys((BookParcel, UnbookParcel))
    return readers


@functools.cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(function)


def _types_of(function: Callable[..., Any], position: int) -> tuple[type, ...]:
    hint = list(_hints(function).values())[position]
    return typing.get_args(hint) or (hint,)


def _rows(world: World, service: str, function: Callable[..., Any], message: Any) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, hint in list(_hints(function).items())[1:]:
        if name == "return":
            continue
        if hint == StockRows:
            names = message if hasattr(message, "lines") else world.rows.get((service, inventory.Reservation, message.order_id))
            skus = {line.sku for line in names.lines} if names else ()
            rows[name] = {sku: world.rows.get((service, Stock, sku)) for sku in skus}
        elif typing.get_args(hint) and isinstance(cls := typing.get_args(hint)[0], type) and issubclass(cls, State):
            rows[name] = world.rows.get((service, cls, getattr(message, kind_of(cls).key)))
    return rows
