"""The whole checkout in memory, in either style: every context's pure functions, fed in any order that the log could have.

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

from millrace import Cancel, Command, Context, Delete, Event, NotYet, Rejected, Saga, State, Timer
from millrace.errors import SagaRefused
from millrace.message import declaration, key_of
from millrace.saga_course import Course, advance, advance_deadline
from millrace.saga_instance import SagaInstance
from millrace.saga_progress import Advance, Occasion, next_deadline
from millrace.state import kind_of, row_key
from parcomolo.checkout.saga import table
from parcomolo.configuration import CHOREOGRAPHY, ORCHESTRATION
from parcomolo.contracts.inventory import StockCommandRejected
from parcomolo.contracts.orders import OrderCommandRejected, OrderReviewEnded
from parcomolo.contracts.payments import PaymentCommandRejected
from parcomolo.contracts.shipping import ShippingCommandRejected
from parcomolo.inventory import domain as inventory
from parcomolo.inventory.messages import OpenStock
from parcomolo.inventory.stock import Stock, StockRows
from parcomolo.operations import domain as operations
from parcomolo.orders.domain import decide, decide_as_told
from parcomolo.orders.order import Order, OrderEvent, evolve
from parcomolo.orders.timeline import STORY
from parcomolo.orders.views import OrderStatus, order_status
from parcomolo.payments import domain as payments
from parcomolo.payments.answers import ChargeAnswered, RefundAnswered
from parcomolo.payments.messages import ChargeCard, RefundCard, VoidCard
from parcomolo.payments.provider import Ledger, SimulatedProvider, give_back, leave_nothing, take
from parcomolo.shipping import domain as shipping
from parcomolo.shipping.carrier import REFUSED_NAME, ParcelBooked
from parcomolo.shipping.messages import BookParcel, UnbookParcel

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
TTL = timedelta(minutes=15)
DELAY = timedelta(seconds=3)
LIMIT = timedelta(seconds=30)
GRACE = timedelta(seconds=1)

Function = Callable[..., Any]
OBEYS: dict[str, tuple[tuple[Function, dict[str, Any]], ...]] = {
    "inventory": (
        (inventory.reserve_on_command, {"ttl": TTL}),
        (inventory.note_payment, {"ttl": TTL}),
        (inventory.release_on_command, {}),
        (inventory.commit_on_command, {}),
        (inventory.expire, {}),
        (inventory.open_stock, {}),
        (inventory.adjust, {}),
    ),
    "payments": tuple(
        (function, {})
        for function in (
            payments.charge_on_command,
            payments.stop_on_command,
            payments.charge_again,
            payments.charge_answered,
            payments.refund_again,
            payments.refund_answered,
        )
    ),
    "shipping": (
        (shipping.schedule_on_command, {}),
        (shipping.cancel_on_command, {}),
        (shipping.booked, {"delay": DELAY}),
        (shipping.send, {}),
    ),
    "operations": (
        (operations.watch, {"limit": LIMIT, "grace": GRACE}),
        (operations.judge_delivered, {"limit": LIMIT}),
        (operations.judge_missing, {}),
        (operations.leave, {}),
    ),
}
"""Per context what it always reacts to: in orchestration that is all."""
FOLLOWS: dict[str, tuple[tuple[Function, dict[str, Any]], ...]] = {
    "inventory": (
        (inventory.place, {"ttl": TTL}),
        (inventory.change_content, {}),
        (inventory.end_review, {"ttl": TTL}),
        (inventory.release_unpaid, {}),
        (inventory.stop, {}),
        (inventory.ship, {}),
    ),
    "payments": tuple(
        (function, {})
        for function in (
            payments.remember,
            payments.change_content,
            payments.charge_reserved,
            payments.stop,
            payments.void_expired,
            payments.close,
        )
    ),
    "shipping": (
        (shipping.remember, {}),
        (shipping.schedule_paid, {}),
        (shipping.cancel, {}),
        (shipping.withhold, {}),
    ),
}
"""The facts that it follows besides in choreography."""
REJECTIONS: dict[str, Callable[[str, str, str], Event]] = {
    "orders": lambda key, command, reason: OrderCommandRejected(order_id=key, command=command, reason=reason),
    "inventory": lambda key, command, reason: StockCommandRejected(subject=key, command=command, reason=reason),
    "payments": lambda key, command, reason: PaymentCommandRejected(order_id=key, command=command, reason=reason),
    "shipping": lambda key, command, reason: ShippingCommandRejected(order_id=key, command=command, reason=reason),
}
CHECKOUT = table()
MICROS = timedelta(microseconds=1)


class Deadline(Command, key="id", internal=True):
    """A deadline of a saga has come."""

    id: str


class Said(typing.NamedTuple):
    """A message as it was said, with its envelope."""

    message: Event | Command
    id: str
    cause: str
    service: str
    at: datetime
    due: datetime | None = None

    @property
    def passes_on(self) -> str:
        """What messages made from this one name as their cause."""
        return self.cause if declaration(type(self.message)).internal else self.id


class World:
    """All contexts, their rows, and everything that was said.

    Args:
        seed: of the interleaving.
        stock: opening stock per product.
        style: how the contexts work together.
        saga: the table that orchestrates.
        in_time: timers fire when they are due and nothing is on its way; else whenever chance has it, as if anything could take any time.
    """

    def __init__(  # a world is described by keywords
        self, *, seed: int, stock: Mapping[str, int], style: str = ORCHESTRATION, saga: Saga = CHECKOUT, in_time: bool = False
    ) -> None:
        self.style, self.saga = style, saga
        self.sagas: dict[str, SagaInstance] = {}
        self.random = random.Random(seed)
        self.now = START
        self.facts: list[Said] = []
        self._by_id: dict[str, Said] = {}
        self.orders: dict[str, Order] = {}
        self.views: dict[str, OrderStatus] = {}
        self.rows: dict[tuple[str, type[State], str], State] = {}
        self.provider = SimulatedProvider(":memory:")
        self._queues: dict[tuple[str, str, str], list[Said]] = {}
        self._blocked: set[tuple[str, str, str]] = set()
        self._timers: dict[tuple[str, str, str], Said] = {}
        self._count, self._commands = 0, set[str]()
        self._priorities: dict[tuple[str, str], float] = {}
        self._in_time, self._routes = in_time, dict[type, list[str]]()
        self._impatience = 0.0 if in_time else self.random.choice((0.02, 0.1, 0.3))
        self._readers = _readers(style, saga)
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
        elif self._in_time:
            self._fire(min(timers, key=lambda timer: self._timers[timer].due or self.now))
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
        except Rejected as refusal:
            self._refuse(reader, self._queues[place][0], refusal)
        self._queues[place].pop(0)
        if not self._queues[place]:
            del self._queues[place]
        self._wake(reader, key)

    def _refuse(self, reader: str, said: Said, refusal: Rejected) -> None:
        rejected = REJECTIONS[reader](key_of(said.message), declaration(type(said.message)).name, refusal.reason)
        self._publish(reader, rejected, said)

    def _fire(self, timer: tuple[str, str, str]) -> None:
        said = self._timers.pop(timer)
        self.now = max(self.now + timedelta(milliseconds=1), said.due or self.now)
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
        elif reader == "checkout":
            self._orchestrate(said)
        elif reader in ("provider", "carrier"):
            answer = self._ask(message)
            if answer is not None:
                self._react({"provider": "payments", "carrier": "shipping"}[reader], answer, said)
        else:
            self._react(reader, message, said)

    def _react(self, service: str, given: Any, said: Said) -> None:
        function, extra = self._readers[service][type(given)]
        self._stage(service, function(given, **_rows(self, service, function, given), **extra), said)

    def _decide(self, said: Said) -> None:
        key = key_of(said.message)
        order = self.orders.get(key)
        decided = decide_as_told if self.style == ORCHESTRATION else decide
        items = decided(typing.cast("Any", said.message), order, self._context(said))
        for item in items:
            if isinstance(item, OrderEvent):
                order = evolve(order, item)
        if order is not None:
            self.orders[key] = order
        self._stage("orders", items, said)

    def _orchestrate(self, said: Said) -> None:
        """Move the instance of an order, by a message or because its deadline has come."""
        now = (self.now - EPOCH) // MICROS
        if isinstance(said.message, Deadline):
            key = said.message.id
            after = advance_deadline(self.saga, self.sagas[key], Occasion(now, passed=now))
        else:
            key = self.saga.id_of(said.message)
            after = advance(self.saga, self.sagas.get(key), said.message, occasion=Occasion(now, id=said.id))
        self._moved(key, after, said)

    def _moved(self, key: str, after: Advance, said: Said) -> None:
        if after.instance is None:
            return
        self.sagas[key] = after.instance
        self._stage("checkout", after.items, said)
        if due := next_deadline(after.instance.steps.values()):
            moment = EPOCH + due * MICROS
            self._timers["checkout", key, "due"] = Said(Deadline(id=key), "", "", "checkout", self.now, moment)  # time has no cause
        else:
            self._timers.pop(("checkout", key, "due"), None)

    def operate(self, key: str, act: Callable[[Course], None]) -> bool:
        """Let an operator do something about the saga of an order; return whether it was done."""
        if key not in self.sagas:
            return False
        course = Course(self.saga, self.sagas[key], Occasion((self.now - EPOCH) // MICROS), id=key)
        try:
            act(course)
        except SagaRefused:
            return False
        heard = next((entry.id for entry in reversed(self.sagas[key].timeline) if entry.id and entry.step), "")
        self._moved(key, course.end(), Said(OrderReviewEnded(order_id=key), heard, "", "operator", self.now))
        return True

    def _view(self, said: Said) -> None:
        key = key_of(said.message)
        after = order_status(self.views.get(key), typing.cast("Any", said.message), self._context(said))
        if after is not None:
            known = {entry.id for entry in after.timeline}
            causes = [e.causation for e in after.timeline if e.causation and e.causation not in self._commands]
            assert known.issuperset(causes), "a status without its causes"
            before = self._fact_before(said)
            told = {entry.type for entry in after.timeline}
            assert before is None or STORY[type(before)][0] in told, f"{said.message} is told before {before}"
            self.views[key] = after

    def _fact_before(self, said: Said) -> Event | None:
        """Return the nearest fact of the story that led to a message, through whatever commands."""
        cause = self._by_id.get(said.cause)
        while cause is not None and type(cause.message) not in STORY:
            cause = self._by_id.get(cause.cause)
        return typing.cast("Event", cause.message) if cause is not None else None

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
                    said = Said(item.message, "", cause.passes_on, service, self.now, item.due(self.now))
                    self._timers[service, key, item.name] = said
                case Cancel():
                    self._timers.pop((service, key, item.name), None)
                case Delete():
                    self.rows.pop((service, type(item.state), row_key(item.state)), None)
                case State():
                    assert not isinstance(item, Stock) or 0 <= item.reserved <= item.on_hand, item
                    self.rows[service, type(item), row_key(item)] = item
                case _:
                    self._publish(service, item, cause)

    def _takers(self, cls: type) -> list[str]:
        found = self._routes.get(cls)
        if found is None:
            found = self._routes[cls] = [reader for reader, types in self._readers.items() if cls in types]
        return found

    def _loses(self, reader: str, message: Event | Command) -> bool:
        """Return whether a message does not reach a reader: the log loses nothing."""
        return False

    def _publish(self, service: str, message: Event | Command, cause: Said) -> None:
        self._count += 1
        said = Said(message, f"{service}-1-{self._count}", cause.passes_on, service, self.now)
        self._by_id[said.id] = said
        topic = declaration(type(message)).topic or ""
        if isinstance(message, Command):
            self._commands.add(said.id)
        if not topic.startswith("internal."):
            self.facts.append(said)
        for reader in self._takers(type(message)):
            if not self._loses(reader, message):
                self._queues.setdefault((reader, topic, key_of(message)), []).append(said)


def _readers(style: str, saga: Saga) -> dict[str, dict[type, Any]]:
    """Return what each reader takes, and which function it gives it to; obeying is to follow no facts of others."""
    wired = {service: (*OBEYS.get(service, ()), *(FOLLOWS.get(service, ()) if style == CHOREOGRAPHY else ())) for service in OBEYS}
    readers: dict[str, dict[type, Any]] = {
        service: {
            cls: (function, extra)
            for function, extra in functions
            for cls in _types_of(function, 0)
            if style == CHOREOGRAPHY or service == "operations" or not issubclass(cls, Event)
        }
        for service, functions in wired.items()
    }
    readers["orders"] = dict.fromkeys(_types_of(decide, 0))
    readers["status"] = dict.fromkeys(_types_of(order_status, 1))
    readers["provider"] = dict.fromkeys((ChargeCard, RefundCard, VoidCard))
    readers["carrier"] = dict.fromkeys((BookParcel, UnbookParcel))
    readers["checkout"] = dict.fromkeys(saga.table.messages if style == ORCHESTRATION else ())
    return readers


@functools.cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(function)


def _types_of(function: Callable[..., Any], position: int) -> tuple[type, ...]:
    hint = list(_hints(function).values())[position]
    return typing.get_args(hint) or (hint,)


@functools.cache
def _wanted(function: Callable[..., Any]) -> tuple[tuple[str, type[State] | None], ...]:
    """Return the rows that a function takes by name: of which class, or None for the products that a message or its reservation names."""
    found: list[tuple[str, type[State] | None]] = []
    for name, hint in list(_hints(function).items())[1:]:
        if name != "return" and hint == StockRows:
            found.append((name, None))
        elif name != "return" and typing.get_args(hint) and isinstance(cls := typing.get_args(hint)[0], type) and issubclass(cls, State):
            found.append((name, cls))
    return tuple(found)


def _rows(world: World, service: str, function: Callable[..., Any], message: Any) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, cls in _wanted(function):
        if cls is not None:
            rows[name] = world.rows.get((service, cls, getattr(message, kind_of(cls).key)))
            continue
        names = message if hasattr(message, "lines") else world.rows.get((service, inventory.Reservation, message.order_id))
        skus = {line.sku for line in names.lines} if names else ()
        rows[name] = {sku: world.rows.get((service, Stock, sku)) for sku in skus}
    return rows
