"""Sagas under random interleavings: whatever comes when, what was caused is wanted, undone, or visibly stuck, and ways out lead to an end.

A model of the log and of three receivers: order per topic is kept, as the log promises, everything else is up to chance - delays between
topics, repeated deliveries, commands that nobody answers for a while, cancels at any moment, refusals, undos that fail.
"""

import random
from collections import deque

import msgspec
import pytest

from millrace import Message, Saga
from millrace.saga_course import Course, advance, advance_deadline
from millrace.saga_instance import SagaInstance
from millrace.saga_progress import Occasion, next_deadline
from millrace.testing.conformance.saga_sample import (
    Book,
    Booked,
    BookingFailed,
    CancelAsked,
    CancelRefused,
    Case,
    Charge,
    Commit,
    Committed,
    Declined,
    Finished,
    OutOfStock,
    Paid,
    Placed,
    Refund,
    Refunded,
    RefundFailed,
    Release,
    Released,
    Reserve,
    Reserved,
    Shipped,
    Unbook,
    Unbooked,
    order_saga,
)

ID = "1"
RUNS = 1500


class World:
    """One order with everything around it; what chance decides comes from a seed."""

    def __init__(self, saga: Saga, seed: int) -> None:
        self.chance = random.Random(seed)
        self.saga = saga
        self.instance: SagaInstance | None = None
        self.now = 1_000_000
        self.log: dict[str, deque[tuple[str, Message]]] = {}
        self.seen: list[tuple[str, Message]] = []
        self.said: list[Message] = []
        self.count = 0
        self.stock = self.money = self.parcel = "none"
        self.mute = {name: self.chance.random() < 0.15 for name in ("stock", "pay", "ship")}
        self.bad = {name for name in ("stock", "pay", "ship", "refund") if self.chance.random() < 0.15}

    def publish(self, *messages: Message) -> None:
        """Append to the topics of messages."""
        for message in messages:
            self.count += 1
            topic = type(message).__declaration__.topic or ""
            self.log.setdefault(topic, deque()).append((f"f-{self.count}", message))

    def move(self) -> None:
        """Let one thing happen."""
        topics = [topic for topic, waiting in self.log.items() if waiting]
        what = self.chance.random()
        if topics and what < 0.8:
            topic = self.chance.choice(topics)
            fact = self.log[topic].popleft()
            self.deliver(topic, *fact)
        elif self.seen and what < 0.85:
            self.react(*self.chance.choice(self.seen))
        elif what < 0.95:
            self.pass_time()
        else:
            self.mute = {name: mute and self.chance.random() < 0.7 for name, mute in self.mute.items()}

    def pass_time(self) -> None:
        """Let the next deadline come."""
        instance = self.instance
        if instance is not None and not instance.ended and (due := next_deadline(instance.steps.values())):
            self.now = max(self.now, due)
            self.instance, items = advance_deadline(self.saga, instance, Occasion(self.now, passed=self.now))
            self.say(items)

    def deliver(self, topic: str, id: str, message: Message) -> None:
        """Hand a message to whoever reads its topic."""
        if topic.endswith(".commands"):
            if not self.mute[topic.removesuffix(".commands")]:
                self.receive(message)
        else:
            self.seen.append((id, message))
            self.react(id, message)

    def react(self, id: str, message: Message) -> None:
        """Hand a fact to the saga, as the store would give the instance back."""
        if type(message) not in self.saga.table.messages:
            return
        advanced = advance(self.saga, self.instance, message, occasion=Occasion(self.now, id))
        if advanced.instance is not None:
            self.instance = msgspec.json.decode(msgspec.json.encode(advanced.instance), type=SagaInstance)
        self.say(advanced.items)

    def say(self, items: object) -> None:
        """Publish what the saga says."""
        for item in list(items):  # type: ignore[call-overload]
            self.said.append(item)
            self.publish(item)

    def receive(self, command: Message) -> None:
        """Do what a receiver does: idempotent, and it answers everything."""
        match command:
            case Reserve() | Release() | Commit():
                self.receive_stock(command)
            case Charge() | Refund():
                self.receive_money(command)
            case Book() | Unbook():
                self.receive_parcel(command)
            case _:
                pass

    def receive_stock(self, command: Reserve | Release | Commit) -> None:
        """What the stock does."""
        match command:
            case Reserve() if "stock" in self.bad or self.stock == "committed":
                self.publish(OutOfStock(order_id=ID))
            case Reserve():
                self.stock = "reserved"
                self.publish(Reserved(order_id=ID))
            case Release():
                self.stock = "none" if self.stock == "reserved" else self.stock
                self.publish(Released(order_id=ID))
            case _:
                self.stock = "committed"
                self.publish(Committed(order_id=ID))

    def receive_money(self, command: Charge | Refund) -> None:
        """What the bank does."""
        if isinstance(command, Charge):
            self.money = self.money if "pay" in self.bad else "paid"
            self.publish(Declined(order_id=ID) if "pay" in self.bad else Paid(order_id=ID))
        elif "refund" in self.bad and self.chance.random() < 0.8:
            self.publish(RefundFailed(order_id=ID))
        else:
            self.money = "none"
            self.publish(Refunded(order_id=ID))

    def receive_parcel(self, command: Book | Unbook) -> None:
        """What the carrier does; a parcel that has left stays so."""
        if self.parcel == "shipped":
            self.publish(Shipped(order_id=ID))
        elif isinstance(command, Unbook):
            self.parcel = "none"
            self.publish(Unbooked(order_id=ID))
        elif "ship" in self.bad:
            self.publish(BookingFailed(order_id=ID))
        else:
            self.parcel = "booked"
            self.publish(Booked(order_id=ID))
            if self.chance.random() < 0.5:
                self.ship()

    def ship(self) -> None:
        """The parcel leaves."""
        if self.parcel == "booked":
            self.parcel = "shipped"
            self.publish(Shipped(order_id=ID))

    def settle(self) -> None:
        """Let everything be well again: receivers answer, undos succeed, operators retry, until nothing is left to do."""
        self.mute, self.bad = dict.fromkeys(self.mute, False), self.bad - {"refund"}
        for _ in range(400):
            for topic, waiting in list(self.log.items()):
                while waiting:
                    self.deliver(topic, *waiting.popleft())
            instance = self.instance
            if instance is None or instance.ended:
                if not any(self.log.values()):
                    return
            elif instance.stuck:
                course = Course(self.saga, instance, Occasion(self.now), id=ID)
                course.retry("tester")
                self.instance, items = course.end()
                self.say(items)
            elif self.parcel == "booked" and instance.status == "running":
                self.ship()
            elif any(self.log.values()):
                continue
            else:
                self.pass_time()
        pytest.fail("it goes on and on")

    def check(self) -> None:
        """See that what was caused fits the end."""
        assert self.instance is not None
        ends = [item.how for item in self.said if isinstance(item, Finished)]
        world = (self.stock, self.money, self.parcel)
        if self.instance.status == "completed":
            assert (world, ends) == (("committed", "paid", "shipped"), ["completed"])
        else:
            assert (self.instance.status, world, len(ends)) == ("undone", ("none", "none", "none"), 1)


def run(saga: Saga, seed: int) -> World:
    """One interleaving."""
    world = World(saga, seed)
    start: list[Message] = [Placed(order_id=ID), *[CancelAsked(order_id=ID)] * world.chance.choice((0, 0, 1, 1, 2))]
    if world.chance.random() < 0.1:
        world.chance.shuffle(start)
    for message in start:
        world.publish(message)
        for _ in range(world.chance.randrange(25)):
            world.move()
    for _ in range(world.chance.randrange(60)):
        world.move()
    world.settle()
    return world


def interrupted() -> Saga:
    """The table with undos that are sent at once."""
    saga = order_saga()
    for name, step in saga._rows.items():
        saga._rows[name] = msgspec.structs.replace(step, interrupt=step.undo is not None)
    return saga


@pytest.mark.parametrize("saga", [order_saga(), order_saga(beside=True), interrupted()], ids=["in a row", "beside", "interrupted"])
def test_every_interleaving_ends_well(saga: Saga) -> None:
    """Completed with all effects, or undone with none; the end is said once; each refused cancel is told. A seed reproduces."""
    ends = dict[str, int]()
    for seed in range(RUNS):
        try:
            world = run(saga, seed)
            world.check()
        except (AssertionError, pytest.fail.Exception) as error:
            pytest.fail(f"seed {seed}: {error}")
        assert world.instance is not None
        back = world.instance.back
        end = f"{world.instance.status} {back.reason if back else ''}".strip()
        ends[end] = ends.get(end, 0) + 1
        if world.instance.status == "completed" and any(isinstance(m, CancelRefused) for m in world.said):
            ends["refused"] = ends.get("refused", 0) + 1
    assert {"completed", "undone cancelled", "undone failed", "undone timeout", "refused"} <= ends.keys(), ends
    assert min(ends.values()) > RUNS // 100, ends


def say_nothing(_case: Case, _reason: str) -> None:
    """An undo that was forgotten."""


def test_forgotten_undo_is_found() -> None:
    """The check can fail: a table whose undo says nothing leaves something behind."""
    saga = order_saga()
    saga._rows["pay"] = msgspec.structs.replace(saga._rows["pay"], undo=say_nothing)
    found = [seed for seed in range(100) if not ends_well(run(saga, seed))]
    assert found


def ends_well(world: World) -> bool:
    """Whether the check finds nothing wrong."""
    try:
        world.check()
    except AssertionError:
        return False
    return True
