"""What becomes of failures: kinds, retries, breakers, consumers that stop themselves; and that order survives all of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from millrace.alarm import AlarmCleared, AlarmRaised, Raise, consumer_alarm
from millrace.application import Application
from millrace.breaker import Breaker
from millrace.consumers import Consumers
from millrace.delivery import Context
from millrace.errors import ConfigurationError, Fatal, Poison, Transient
from millrace.handler import Transaction
from millrace.health import BREAKER_OPEN, Entry
from millrace.held import HeldRow
from millrace.partitioning import partition_of
from millrace.rebuild import Request, find_definition, processor_of
from millrace.retry import DEAD, RETRY, FailureLimit, RetryPolicy
from millrace.service import Service
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import AT_ONCE, Lab, balanced, foreign, held, put, totals
from millrace.testing.conformance.sample import Added, Called, Remind, Reminded, Ring, counter, teller
from millrace.timers import Timer
from millrace.unit_of_work import UnitOfWork
from millrace.writer import Waiting

OUTSIDE = Breaker("outside", failures=3, first_s=10.0, factor=2.0, most_s=40.0)
ENDLESS = RetryPolicy(attempts=1000, first_s=1.0, factor=1.0, limit=None)


class Outside:
    """Something that handlers call, and that can be down; it knows who called."""

    def __init__(self) -> None:
        self.down = False
        self.calls: list[tuple[str, int]] = []
        self.answered: list[tuple[str, int]] = []

    def __call__(self, event: Added) -> None:
        """Answer, or not."""
        self.calls.append((event.name, event.n))
        if self.down:
            raise ConnectionError("nobody there")
        self.answered.append((event.name, event.n))


def _activity(outside: Outside, *, workers: int = 1) -> Service:
    service = Service("caller", says=[Called])

    @service.handler(workers=workers, breaker=OUTSIDE)
    async def call(event: Added, context: Context) -> Called:
        outside(event)
        return Called(name=event.name, n=event.n, id=context.id)

    return service


def _plain(outside: Outside) -> Service:
    service = Service("caller", says=[Called])

    @service.handler(breaker=OUTSIDE)
    async def call(event: Added, tx: Transaction, context: Context) -> Called:
        outside(event)
        return Called(name=event.name, n=event.n, id=context.id)

    return service


async def _outage(kit: EngineKit, service: Callable[[Outside], Service]) -> None:
    outside, names = Outside(), [f"n{i}" for i in range(12)]
    outside.down = True
    async with Lab(kit) as lab:
        app = await lab.start([teller(), service(outside)])
        await add(app, *names, times=2)
        await lab.settled()
        assert len(outside.calls) == OUTSIDE.failures, "it is not called any more once the breaker is open"
        for wait, calls in ((9, 0), (2, 1), (15, 0), (6, 1), (39, 0), (2, 1), (39, 0), (2, 1)):
            before = len(outside.calls)
            await lab.advance(app, wait)
            assert len(outside.calls) - before == calls, f"{calls} probes were expected after {wait} s"
        assert all(row.state in {RETRY, "behind"} and row.attempts < AT_ONCE.attempts for row in await held(app, "caller"))
        await lab.kill(app)

        app = await lab.start([teller(), service(outside)])
        await lab.settled()
        assert _entry(app).state == BREAKER_OPEN
        assert len(outside.calls) == OUTSIDE.failures + 4, "a restart does not forget that the breaker is open"
        outside.down = False
        await lab.advance(app, OUTSIDE.most_s + 1)
        await lab.advance(app, 1)
        assert _entry(app).state == "ok"
        assert {name: [n for each, n in outside.answered if each == name] for name in names} == {name: [1, 2] for name in names}
        assert await held(app, "caller") == []
        await balanced(app)


def _entry(app: Application) -> Entry:
    return next(entry for entry in app.health().entries if entry.name == "caller.call")


async def dead_dependency_costs_one_probe_at_a_time(kit: EngineKit) -> None:
    """While what an activity calls is down one call at a time looks for it, ever later, over a restart too; no message dies of it."""
    await _outage(kit, _activity)


async def handlers_with_a_transaction_have_breakers(kit: EngineKit) -> None:
    """What is said of activities holds for handlers that run inside the transaction: the batch in hand is cut when the breaker opens."""
    await _outage(kit, _plain)


async def calls_under_way_end_and_use_up_nothing(kit: EngineKit) -> None:
    """However many workers there are, no call begins after the one that opens the breaker, and none that fails with it counts."""
    outside = Outside()
    outside.down = True
    async with Lab(kit) as lab:
        app = await lab.start([teller(), _activity(outside, workers=8)], policy=RetryPolicy(attempts=1))
        await add(app, *(f"n{i}" for i in range(40)))
        await lab.settled()
        assert len(outside.calls) <= OUTSIDE.failures + 7
        assert {row.state for row in await held(app, "caller")} == {RETRY}
        await balanced(app)


async def instances_probe_one_at_a_time(kit: EngineKit) -> None:
    """Of two processes one probes, even where both have opened the breaker; the other follows what it finds."""
    outside = Outside()
    outside.down = True
    async with Lab(kit) as lab:
        first = await lab.start([teller(), _activity(outside)], policy=ENDLESS)
        second = await lab.start([teller(), _activity(outside)], policy=ENDLESS)
        await lab.eventually(second, lambda: bool(_loops(first) and _loops(second)))
        await add(first, *(f"n{i}" for i in range(30)))
        await lab.eventually(first, lambda: _entry(first).state == _entry(second).state == BREAKER_OPEN)
        await lab.settled()  # a call that one instance had begun when the other opened the breaker is no probe
        before = len(outside.calls)
        lab.clock.advance(timedelta(seconds=11))
        await lab.settled()
        assert len(outside.calls) - before == 1
        outside.down = False
        lab.clock.advance(timedelta(seconds=21))
        await lab.eventually(first, lambda: _entry(first).state == _entry(second).state == "ok")
        lab.clock.advance(timedelta(seconds=2))
        await lab.eventually(first, lambda: len(set(outside.answered)) == 30)


def _loops(app: Application) -> list[int]:
    return app.hosts["caller"].loops["call"].state().partitions


async def operator_closes_a_breaker(kit: EngineKit) -> None:
    """An operator who knows better has everything tried at once; the list of consumers says why nothing happened before."""
    outside = Outside()
    outside.down = True
    async with Lab(kit) as lab:
        app = await lab.start([teller(), _activity(outside)], policy=RetryPolicy(attempts=9, first_s=0.0))
        await add(app, *(f"n{i}" for i in range(9)))
        await lab.settled()
        row = next(row for row in await Consumers(app).list() if row.group == "caller.call")
        assert (row.state, row.breaker) == (BREAKER_OPEN, "outside")
        assert "3 calls in a row failed; ConnectionError: nobody there" in row.reason
        outside.down = False
        closed = await Consumers(app).close_breaker("caller.call", timeout=kit.patience)
        assert (closed.breaker, closed.reason) == ("outside", row.reason)
        await lab.settled()
        assert len(outside.answered) == 9
        assert await held(app, "caller") == []


async def one_bad_message_is_not_every_probe(kit: EngineKit) -> None:
    """A message that can never be answered does not keep a breaker open: what is held and what is new take turns in probing."""
    outside = Outside()
    async with Lab(kit) as lab:
        service = Service("caller")

        @service.handler(workers=1, breaker=OUTSIDE, retry=ENDLESS)
        async def call(event: Added) -> None:
            outside.down = event.name == "bad"
            outside(event)

        app = await lab.start([teller(), service])
        await add(app, "bad")
        for _ in range(4):
            await lab.advance(app, 1.1)
        assert _entry(app).state == BREAKER_OPEN
        await add(app, *(f"n{i}" for i in range(5)))
        await lab.advance(app, 21)
        await lab.advance(app, 41)
        assert len(outside.answered) == 5
        await balanced(app)


async def kinds_of_failures_have_their_ways(kit: EngineKit) -> None:
    """Poison is dead at the first try, what passes is tried again, and a handler's own policy says what is what."""
    wrong: dict[str, BaseException] = {
        "poison": Poison("never"),
        "mistake": TypeError("a mistake"),
        "mapped": KeyError("this handler knows it"),
        "passing": Transient("not now"),
        "unknown": ValueError("who knows"),
    }
    async with Lab(kit) as lab:
        service = Service("caller")

        @service.handler(retry=RetryPolicy(attempts=4, first_s=0.0, classify={KeyError: "poison"}))
        def call(event: Added) -> None:
            lab.behaviour.order.append((event.name, event.n))
            raise wrong[event.name]

        app = await lab.start([teller(), service])
        await add(app, *wrong)
        await lab.settled()
        tries = {name: lab.behaviour.order.count((name, 1)) for name in wrong}
        assert tries == {"poison": 1, "mistake": 1, "mapped": 1, "passing": 4, "unknown": 4}
        assert {row.key: (row.state, row.attempts) for row in await held(app, "caller")} == {name: (DEAD, tries[name]) for name in wrong}
        await balanced(app)


async def fatal_failures_stop_and_keep(kit: EngineKit) -> None:
    """A fatal failure stops the consumer over restarts, says why, and keeps the message, which comes first when it is started again."""
    mended = False
    async with Lab(kit) as lab:

        def need_setting(event: Added, context: Context) -> None:
            if not mended:
                raise Fatal("PAYMENT_KEY is not set")

        lab.behaviour.count = need_setting
        app = await lab.start()
        async with lab.faults.held("log"):
            await add(app, "a", "b", "c", times=3)
        await lab.eventually(app, lambda: bool(app.hosts["counter"].gave_up("handlers")))
        assert len(lab.behaviour.order) == 1, "nothing else is tried"
        await lab.stop(app)
        app = await lab.start()
        await lab.settled()
        (entry,) = [entry for entry in app.health().entries if entry.name == "counter.handlers"]
        assert entry.state == "failing"
        assert "PAYMENT_KEY is not set" in str(entry.last_error)
        assert [(row.state, row.attempts) for row in await held(app, "counter")] == [(RETRY, 0)]
        mended = True
        await Consumers(app).start("counter.handlers", timeout=kit.patience)
        await lab.eventually(app, lambda: len(lab.behaviour.order) == 10)
        await lab.settled()
        assert await totals(app) == dict.fromkeys("abc", (1, 2, 3))
        await balanced(app)


async def consumers_stop_before_the_topic_is_dead(kit: EngineKit) -> None:
    """Too many records in a row that cannot be read stop the consumer at the very limit, over restarts; started, it goes on from there."""
    policy = RetryPolicy(attempts=1, limit=FailureLimit(run=20))
    async with Lab(kit) as lab:
        app = await lab.start(policy=policy)
        bad = [("k", b"no CloudEvent") for _ in range(90)]
        good = [("k", foreign(app, Added(name=name, n=1), id=name)) for name in "abc"]
        await put(app, "tally", *bad[:15], good[0], *bad[15:50])
        await lab.eventually(app, lambda: bool(app.hosts["counter"].gave_up("handlers")))
        assert await _dead(app) == 15 + 20
        await lab.kill(app)
        app = await lab.start(policy=policy)
        await lab.settled()
        assert await _dead(app) == 15 + 20
        (row,) = {row.reason for row in await Consumers(app).list() if row.group == "counter.handlers"}
        assert row.startswith("20 messages in a row became dead letters; the last one with undecodable")
        await Consumers(app).start("counter.handlers", timeout=kit.patience)
        await put(app, "tally", *good[1:])
        await lab.settled()
        assert await totals(app) == dict.fromkeys("abc", (1,))
        assert await _dead(app) == 50
        await balanced(app)


async def _dead(app: Application) -> int:
    return len([row for row in await held(app, "counter", state=DEAD) if row.processor == "handlers"])


async def share_of_dead_letters_stops_too(kit: EngineKit) -> None:
    """Where every other message dies none is the last of a long row; their share stops the consumer."""

    def fail_every_other(event: Added, context: Context) -> None:
        if int(event.name[1:]) % 2:
            raise Poison("odd")

    async with Lab(kit) as lab:
        lab.behaviour.count = fail_every_other
        app = await lab.start(policy=RetryPolicy(limit=FailureLimit(run=1000, share=0.4, of=40)))
        async with lab.faults.held("log"):
            await add(app, *(f"n{i}" for i in range(200)))
        await lab.eventually(app, lambda: bool(app.hosts["counter"].gave_up("handlers")))
        assert 16 <= await _dead(app) <= 60
        await lab.settled()
        await balanced(app)


def _pager(heard: list[AlarmRaised | AlarmCleared]) -> Service:
    """Return a service that wants to know of alarms."""
    service = Service("pager")

    @service.handler
    def page(event: AlarmRaised | AlarmCleared) -> None:
        """Keep what was said."""
        heard.append(event)

    return service


def _told(heard: list[AlarmRaised | AlarmCleared]) -> list[tuple[str, ...]]:
    return [(type(event).__name__, event.service, event.about, event.what, event.where) for event in heard]


async def openings_are_alarms(kit: EngineKit) -> None:
    """A breaker that opens is told as an event, once over instances, probes and restarts; so is that it closed, by itself or by hand."""
    outside, heard = Outside(), list[AlarmRaised | AlarmCleared]()
    outside.down = True
    raised, cleared = ((name, "caller", "breaker", "open", "outside") for name in ("AlarmRaised", "AlarmCleared"))
    services = [teller(), _activity(outside), _pager(heard)]
    async with Lab(kit) as lab:
        first = await lab.start(services, policy=ENDLESS)
        second = await lab.start([teller(), _activity(outside)], policy=ENDLESS)
        await lab.eventually(second, lambda: bool(_loops(first) and _loops(second)))
        await add(first, *(f"n{i}" for i in range(30)))
        await lab.eventually(first, lambda: _entry(first).state == _entry(second).state == BREAKER_OPEN)
        lab.clock.advance(timedelta(seconds=11))
        await lab.settled()
        await lab.kill(second)
        await lab.kill(first)
        app = await lab.start(services, policy=ENDLESS)
        await lab.settled()
        assert _told(heard) == [raised]
        assert isinstance(heard[0], AlarmRaised)
        assert heard[0].text.startswith("breaker outside is open: 3 calls in a row failed; ConnectionError; calls are held back")
        outside.down = False
        await lab.advance(app, OUTSIDE.most_s + 1)
        await lab.settled()
        assert _told(heard) == [raised, cleared]
        outside.down = True
        await add(app, *(f"n{i}" for i in range(9)))
        await lab.settled()
        assert _told(heard) == [raised, cleared, raised]
        outside.down = False
        await Consumers(app).close_breaker("caller.call", timeout=kit.patience)
        await lab.settled()
        assert _told(heard) == [raised, cleared, raised, cleared]
        await balanced(app)


async def stops_are_alarms(kit: EngineKit) -> None:
    """A consumer that stops itself is told as an event, once over restarts, without the text of the error; so is that it was started."""
    heard = list[AlarmRaised | AlarmCleared]()
    async with Lab(kit) as lab:

        def need_setting(event: Added, context: Context) -> None:
            if len(lab.behaviour.order) < 2:
                raise Fatal("PAYMENT_KEY of Ada is not set")

        lab.behaviour.count = need_setting
        services = [teller(), counter(lab.behaviour), _pager(heard)]
        raised, cleared = ((name, "counter", "consumer", "stopped", "handlers") for name in ("AlarmRaised", "AlarmCleared"))
        app = await lab.start(services)
        await add(app, "a")
        await lab.eventually(app, lambda: bool(app.hosts["counter"].gave_up("handlers")))
        await lab.kill(app)
        app = await lab.start(services)
        await lab.settled()
        assert _told(heard) == [raised]
        assert isinstance(heard[0], AlarmRaised)
        assert "counter.handlers has stopped itself: handlers cannot handle sample.tally.added.v1 teller-1-1: Fatal; " in heard[0].text
        assert "Ada" not in heard[0].text
        await Consumers(app).stop("counter.handlers", timeout=kit.patience)
        await lab.settled()
        assert _told(heard) == [raised], "it is stopped as before, and nobody has seen to it"
        await Consumers(app).start("counter.handlers", timeout=kit.patience)
        await lab.settled()
        assert _told(heard) == [raised, cleared]
        assert await totals(app) == {"a": (1,)}
        await balanced(app)


async def alarms_of_builds_that_go_are_over(kit: EngineKit) -> None:
    """A view that has stopped itself is rebuilt, not started: with the build its alarm goes, at the next start at the latest."""
    heard = list[AlarmRaised | AlarmCleared]()
    mended = False
    async with Lab(kit) as lab:

        def need_setting(event: Added, context: Context) -> None:
            if not mended:
                raise Fatal("a setting is missing")

        lab.behaviour.fold = need_setting
        services = [teller(), counter(lab.behaviour), _pager(heard)]
        app = await lab.start(services)
        host = app.hosts["counter"]
        await add(app, "a")
        (old,) = [processor_of(build) for build in await host.store.reader.views.list()]
        await lab.eventually(app, lambda: bool(host.gave_up(old)))
        mended = True
        request = Request(find_definition(host.service.views, "board"))
        host.writer.submit(request)
        await request.finished
        await lab.eventually(app, lambda: len(heard) == 2)
        assert _told(heard) == [(name, "counter", "consumer", "stopped", old) for name in ("AlarmRaised", "AlarmCleared")]
        left = Raise(consumer_alarm("board@99", group="counter.board@99", reason="it went while nobody looked"))
        host.writer.submit(left)
        await left.finished
        await lab.kill(app)
        app = await lab.start(services)
        await lab.eventually(app, lambda: len(heard) == 4)
        assert _told(heard)[2:] == [(name, "counter", "consumer", "stopped", "board@99") for name in ("AlarmRaised", "AlarmCleared")]


class _Redrive(Waiting):
    """Has dead messages tried again, as an operator does."""

    def __init__(self, rows: list[HeldRow]) -> None:
        super().__init__()
        self._rows = rows

    async def run(self, unit: UnitOfWork) -> None:
        """Change their states, and the counters with them."""
        for row in self._rows:
            row.state, row.attempts, row.due = RETRY, 0, 0
            (position,) = await unit.transaction.positions.load(row.processor, places=[(row.topic, row.partition)])
            position.dead, position.waiting = position.dead - 1, position.waiting + 1
            await unit.transaction.positions.advance([position])
        await unit.transaction.held.save(self._rows)


async def order_is_that_without_failures(kit: EngineKit) -> None:
    """Per key, what is handled and in which order is equal with and without failures: retries, and dead letters that are redriven."""
    seed = random.randrange(1 << 32)  # noqa: S311  # printed where the check fails
    chance = random.Random(seed)  # noqa: S311  # which calls fail
    names, times = [f"n{i}" for i in range(8)], 6
    failing = {(name, n): chance.choice([None, None, "once", "thrice", "poison"]) for name in names for n in range(1, times + 1)}
    tries: dict[tuple[str, int], int] = {}

    def fail(event: Added, context: Context) -> None:
        name = (event.name, event.n)
        tries[name] = tries.get(name, 0) + 1
        if failing[name] == "poison":
            raise Poison("never")
        if tries[name] <= {"once": 1, "thrice": 3}.get(str(failing[name]), 0):
            raise ConnectionError("not now")

    async with Lab(kit) as lab:
        lab.behaviour.count = fail
        policy = RetryPolicy(attempts=5, first_s=5.0, limit=None, jitter=chance.random)
        app = await lab.start(policy=policy)
        await add(app, *names, times=times)
        for _ in range(times * 4):
            await lab.advance(app, 50)
            for row in await held(app, "counter", state=DEAD):
                failing[row.key, tries_of(row, tries, failing)] = None
            dead = await held(app, "counter", state=DEAD)
            if dead:
                work = _Redrive(dead)
                app.hosts["counter"].writer.submit(work)
                await work.finished
                await app.hosts["counter"].loops["handlers"].refresh()
        await lab.settled()
        assert await totals(app) == dict.fromkeys(names, tuple(range(1, times + 1))), f"seed {seed}"
        assert await held(app, "counter") == [], f"seed {seed}"
        await balanced(app)


def tries_of(row: HeldRow, tries: dict[tuple[str, int], int], failing: dict[tuple[str, int], Any]) -> int:
    """Return the number of the message of a key that is dead: the first one that is poison and was tried."""
    return min(n for (name, n) in tries if name == row.key and failing[name, n] == "poison")


async def messages_without_a_key_are_tried_again(kit: EngineKit) -> None:
    """A message whose key is empty waits for its retry like any other, in order; dead, it holds nobody up, nor does what cannot be read."""
    failures = iter([True, True])
    async with Lab(kit) as lab:

        def fail_twice(event: Added, context: Context) -> None:
            if event.n == 3 or next(failures, False):
                raise ConnectionError("not now")

        lab.behaviour.count = fail_twice
        app = await lab.start(policy=RetryPolicy(attempts=3, first_s=10.0, factor=1.0))
        records = [("", foreign(app, Added(name="", n=n), id=str(n))) for n in (1, 2, 3, 4)]
        await put(app, "tally", ("", b"unreadable"), *records)
        await lab.settled()
        assert [row.state for row in await held(app, "counter") if row.processor == "handlers"][1:] == [RETRY, *["behind"] * 3]
        for _ in range(6):
            await lab.advance(app, 11)
        assert [n for _, n in lab.behaviour.order] == [1, 1, 1, 2, 3, 3, 3, 4]
        await balanced(app)


async def timers_that_fail_keep_their_places(kit: EngineKit) -> None:
    """However many timers are due at one moment and fail, each is held at a place of its own, in the order of their keys' failures."""
    service = Service("bells", says=[Reminded])
    down = True

    @service.handler
    def remind(command: Remind) -> list[Timer]:
        return [Timer("ring", Ring(name=command.name), after=timedelta(seconds=5))]

    @service.handler
    def ring(command: Ring) -> Reminded:
        if down:
            raise ConnectionError("not now")
        return Reminded(name=command.name)

    async with Lab(kit) as lab:
        app = await lab.start([service], policy=RetryPolicy(attempts=9, first_s=10.0, factor=1.0))
        names = [f"n{i}" for i in range(300)]
        for name in names:
            await app.execute(Remind(name=name))
        await lab.advance(app, 6)
        rows = await held(app, "bells")
        counts = [sum(partition_of(name, 3) == partition for name in names) for partition in range(3)]
        assert sorted((row.partition, row.offset) for row in rows) == [(p, n) for p, count in enumerate(counts) for n in range(count)]
        await balanced(app)
        down = False
        await lab.advance(app, 11)
        assert await held(app, "bells") == []
        await balanced(app)


async def settings_that_cannot_work_are_refused(kit: EngineKit) -> None:
    """One dependency has one setting in a service; what is wrong is named before anything runs."""
    service = Service("caller")

    @service.handler(breaker=OUTSIDE)
    async def call(event: Added) -> None:
        """Call."""

    @service.handler(breaker=Breaker("outside", failures=9))
    async def dial(event: Called) -> None:
        """Call too."""

    async with Lab(kit) as lab:
        with pytest.raises(ConfigurationError, match="breaker 'outside' is declared as"):
            await lab.start([teller(), counter(lab.behaviour), service])


PROMISES = (
    dead_dependency_costs_one_probe_at_a_time,
    handlers_with_a_transaction_have_breakers,
    calls_under_way_end_and_use_up_nothing,
    instances_probe_one_at_a_time,
    operator_closes_a_breaker,
    one_bad_message_is_not_every_probe,
    kinds_of_failures_have_their_ways,
    fatal_failures_stop_and_keep,
    consumers_stop_before_the_topic_is_dead,
    share_of_dead_letters_stops_too,
    openings_are_alarms,
    stops_are_alarms,
    alarms_of_builds_that_go_are_over,
    order_is_that_without_failures,
    messages_without_a_key_are_tried_again,
    timers_that_fail_keep_their_places,
    settings_that_cannot_work_are_refused,
)
