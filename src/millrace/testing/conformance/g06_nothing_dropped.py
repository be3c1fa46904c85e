"""Guarantee 6: nothing is silently dropped. What cannot be handled lies in the dead letters; the ledger names what is missing."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta
from typing import Any

import pytest

from millrace.application import Application
from millrace.errors import MillraceError, Rejected, StoreUnavailable
from millrace.execution import Outcome
from millrace.handler import Transaction
from millrace.retry import DEAD, RetryPolicy
from millrace.serialization import RECORD_BYTES_MAX
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, balanced, foreign, held, journal_rows, ledger, published, put, records_of, totals
from millrace.testing.conformance.sample import (
    SQL,
    Add,
    Added,
    Behaviour,
    Counted,
    Refused,
    Remind,
    Service,
    Slow,
    Total,
    caller,
    clerk,
    counter,
    teller,
)
from millrace.timers import Timer

DEEP = b'{"specversion":"1.0","id":"1","source":"/x","type":"sample.tally.added.v1","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
UNREADABLE = {
    "no JSON": (b"\x00\xff hello", "undecodable"),
    "not UTF-8": (b'{"specversion":"1.0","id":"\xff","source":"/x","type":"t"}', "undecodable"),
    "another JSON": (b"[1, 2]", "undecodable"),
    "empty": (b"", "undecodable"),
    "no id": (b'{"specversion":"1.0","source":"/x","type":"t"}', "undecodable"),
    "too deep": (DEEP, "undecodable"),
    "oversized": (b"x" * (RECORD_BYTES_MAX + 1), "oversized"),
}


async def unreadable_records_are_kept(kit: EngineKit) -> None:
    """Whatever cannot be read lies in the dead letters with reason and original bytes, and holds nobody up."""
    async with Lab(kit) as lab:
        app = await lab.start()
        for value, _ in UNREADABLE.values():
            await put(app, "tally", ("a", value))
        bad = foreign(app, Added(name="a")).replace(b'"n":1', b'"n":"x"')
        await put(app, "tally", ("a", bad))
        await add(app, "a", times=2)
        await lab.settled()

        assert await totals(app) == {"a": (1, 2)}
        found = {row.value: row for row in await held(app, "counter") if row.processor == "handlers"}
        assert {value: (row.state, row.reason, row.attempts) for value, row in found.items()} == {
            **{value: ("dead", reason, 1) for value, reason in UNREADABLE.values()},
            bad: ("dead", "invalid", 1),
        }
        await balanced(app)


async def exhausted_messages_are_kept(kit: EngineKit) -> None:
    """After the last try a message lies in the dead letters, with what it failed of, how often, and its bytes."""
    async with Lab(kit) as lab:

        def fail(event: Added, context: Any) -> None:
            raise ArithmeticError("no such number")

        lab.behaviour.count = fail
        app = await lab.start()
        await add(app, "a")
        await lab.settled()
        (row,) = await held(app, "counter")
        assert (row.state, row.reason, row.attempts) == ("dead", "ArithmeticError", 3)
        assert "no such number" in row.detail
        assert [row.value] == [record.value for records in await records_of(app, "tally") for record in records]
        await balanced(app)


async def refusals_are_answers(kit: EngineKit) -> None:
    """A refused command is answered - to the caller, or by a rejection - and is no dead letter."""
    async with Lab(kit) as lab:
        app = await lab.start()
        with pytest.raises(Rejected) as refusal:
            await app.execute(Add(name="a", n=-1))
        assert (refusal.value.reason, refusal.value.detail) == ("negative", {"n": -1})

        await put(app, "tally.commands", ("a", foreign(app, Add(name="a", n=-2))), ("a", foreign(app, Add(name="a", n=2), id="2")))
        await lab.settled()
        assert await totals(app) == {"a": (2,)}
        refused = [e for e in await published(app, "tally") if e.type.endswith(".refused.v1")]
        assert [bytes(e.data) for e in refused] == [b'{"name":"a","command":"add","reason":"negative"}']
        assert await held(app, "teller") == []
        await balanced(app)


async def oversized_facts_are_kept(kit: EngineKit) -> None:
    """A fact too large for the log goes to the relay's dead letters before it is sent; what comes after it is published."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await app.execute(Add(name="a", n=1, text="x" * RECORD_BYTES_MAX))
        await app.execute(Add(name="b", n=2))
        await lab.settled()
        assert await totals(app) == {"b": (2,)}
        (row,) = await held(app, "teller")
        assert (row.processor, row.state, row.reason) == ("relay", "dead", "oversized")
        assert len(row.value) > RECORD_BYTES_MAX
        await balanced(app)


async def oversized_facts_do_not_break_their_stream(kit: EngineKit) -> None:
    """What is too large for the log is part of its stream all the same; or it is refused before anything is stored."""
    async with Lab(kit) as lab:
        app = await lab.start([teller()])
        with contextlib.suppress(MillraceError):
            await app.execute(Add(name="a", n=1, text="x" * RECORD_BYTES_MAX))
        before = await journal_rows(app, "teller")
        outcome = await app.execute(Add(name="a", n=2))
        assert outcome.version == before + 1


async def stopping_with_an_oversized_fact_ends(kit: EngineKit) -> None:
    """A stop finishes what is to be published, dead letters of the relay included."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await app.execute(Add(name="a", n=1, text="x" * RECORD_BYTES_MAX))
        await lab.stop(app)

        app = await lab.start()
        await lab.settled()
        assert [row.reason for row in await held(app, "teller")] == ["oversized"]
        await balanced(app)


async def foreign_types_are_counted(kit: EngineKit) -> None:
    """A type that nobody takes is ignored, and counted as that."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await put(app, "tally", ("a", foreign(app, Added(name="a"), type="com.example.other.v7")))
        await add(app, "a")
        await lab.settled()
        rows = await app.hosts["counter"].store.reader.positions.load("handlers")
        assert (sum(row.ignored for row in rows), sum(row.handled for row in rows)) == (1, 1)
        await balanced(app)


async def lost_letters_of_timers_are_named(kit: EngineKit) -> None:
    """The ledger covers the dead letters of timers, which belong to no topic of the log, as well."""
    async with Lab(kit) as lab:
        app = await lab.start([teller(), _failing_timers(lab.behaviour)])
        await add(app, "a")
        await lab.settled()
        await lab.advance(app, 61)
        await balanced(app)
        await lab.stop(app)
        await kit.damage.lose("dead_letters", "counter")
        app = await lab.open([teller(), _failing_timers(lab.behaviour)])
        assert [line.difference for line in await ledger(app) if not line.balanced], "nothing is named"


async def losses_are_named(kit: EngineKit) -> None:
    """One row taken from the journal, the dead letters and the log in turn: the ledger names each."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await put(app, "tally", ("a", b"junk"))
        await add(app, "a", times=3)
        await lab.settled()
        await balanced(app)
        await lab.stop(app)

        named: list[str] = []
        for what, service, line in [("journal", "teller", "journal"), ("dead_letters", "counter", "dead letters"), ("log", "log", "log")]:
            await kit.damage.lose(what, service)
            app = await lab.open()
            wrong = [found for found in await ledger(app) if not found.balanced and found.what not in named]
            await lab.stop(app)
            assert line in [found.what for found in wrong], f"a lost row of the {what} is not named: {[f.difference for f in wrong]}"
            named += [found.what for found in wrong]


def _unencodable(event: Added, context: Any) -> Any:
    impossible: Any = (object(),)
    return [Total(name="big", seen=impossible)] if event.name == "a" else None


def _naive_timer(event: Added, context: Any) -> Any:
    return [Timer("bad", Remind(name="a"), at=datetime(2026, 1, 1))] if event.name == "a" else None  # noqa: DTZ001


def _no_item(event: Added, context: Any) -> Any:
    return [Total(name="other"), "what is this?"] if event.name == "a" else None


async def _kept(kit: EngineKit, behave: Any) -> None:
    async with Lab(kit) as lab:
        lab.behaviour.count = behave
        app = await lab.start()
        await add(app, "a", "b", times=2)
        await lab.settled()
        assert await totals(app) == {"b": (1, 2)}, "what failed must leave nothing, what is beside it must go on"
        assert await journal_rows(app, "counter") == 2
        assert sorted(row.state for row in await held(app, "counter")) == ["behind", "dead"]
        await balanced(app)


async def results_that_cannot_be_stored_are_kept(kit: EngineKit) -> None:
    """A row that cannot be encoded is the failure of its message, not of all others."""
    await _kept(kit, _unencodable)


async def timers_that_cannot_be_set_are_kept(kit: EngineKit) -> None:
    """A timer without a time zone fails its message whole: no state, no fact."""
    await _kept(kit, _naive_timer)


async def results_of_no_kind_are_kept(kit: EngineKit) -> None:
    """A function that returns something else fails its message whole."""
    await _kept(kit, _no_item)


async def failing_folds_are_kept(kit: EngineKit) -> None:
    """A view that raises for one key holds that key alone."""
    async with Lab(kit) as lab:

        def fail(event: Added, context: Any) -> None:
            if event.name == "a":
                raise KeyError(event.name)

        lab.behaviour.fold = fail
        app = await lab.start()
        await add(app, "a", "b", times=2)
        await lab.settled()
        assert [row.state for row in await held(app, "counter")] == ["dead", "behind"]
        assert await totals(app) == {"a": (1, 2), "b": (1, 2)}
        await balanced(app)


async def unreadable_state_is_kept(kit: EngineKit) -> None:
    """A stored row that no longer fits its class fails the messages of its key; other keys flow."""
    async with Lab(kit) as lab:
        app = await lab.start()
        transaction = await app.hosts["counter"].store.begin()
        await transaction.states.save([("total", "a", b'{"name":"a","total":"not a number"}')])
        await transaction.commit()
        await add(app, "a", "b")
        await lab.settled()
        assert await app.states(Total).get("b") == Total(name="b", total=1, seen=(1,))
        assert [(row.key, row.state) for row in await held(app, "counter")] == [("a", "dead")]
        await balanced(app)


async def failed_timers_are_kept(kit: EngineKit) -> None:
    """Timers whose handler fails lie in the dead letters, each of them, even those of one moment."""
    async with Lab(kit) as lab:
        service = _failing_timers(lab.behaviour)
        app = await lab.start([teller(), service])
        names = [f"n{i}" for i in range(12)]
        await add(app, *names)
        await lab.settled()
        await lab.advance(app, 61)
        dead = await held(app, "counter", state="dead")
        assert sorted(row.key for row in dead) == sorted(names)
        await balanced(app)


def _failing_timers(behaviour: Behaviour) -> Service:
    service = counter(behaviour)
    behaviour.count = lambda event, _: [Timer("t", Remind(name=event.name), after=timedelta(seconds=60))]

    @service.handler
    def remind(command: Remind) -> None:
        """Fail."""
        raise OSError("no bell")

    return service


async def timers_of_activities_fire(kit: EngineKit) -> None:
    """A timer that an activity sets for itself is called when it is due."""
    async with Lab(kit) as lab:
        rung: list[str] = []
        service = _ringing(lab.behaviour, rung)
        app = await lab.start([teller(), service])
        await add(app, "a")
        await lab.settled()
        await lab.advance(app, 61)
        assert rung == ["a"]


def _ringing(behaviour: Behaviour, rung: list[str]) -> Service:
    service = caller(behaviour)

    @service.handler(processor="call")
    async def ring(command: Remind) -> None:
        """Note that it fired."""
        rung.append(command.name)

    async def later(event: Added, context: Any) -> list[Any]:
        return [Timer("later", Remind(name=event.name), after=timedelta(seconds=60))]

    behaviour.call = later
    return service


async def selectors_may_fail(kit: EngineKit) -> None:
    """A selector or key function that raises fails its message alone."""
    async with Lab(kit) as lab:
        service = Service("picky")
        seen: list[str] = []

        def pick(event: Added) -> str:
            if event.name == "a":
                raise LookupError(event.name)
            return event.name

        @service.handler(total=Total.by(pick))
        def take(event: Added, total: Total | None) -> None:
            """Note it."""
            seen.append(event.name)

        app = await lab.start([teller(), service])
        await add(app, "a", "b")
        await lab.settled()
        assert seen == ["b"]
        assert [row.reason for row in await held(app, "picky")] == ["LookupError"]
        await balanced(app)


async def unfit_rejections_are_kept(kit: EngineKit) -> None:
    """A rejection class that cannot carry the refusal fails the command's message, not the processor."""
    async with Lab(kit) as lab:
        service = Service("strict", rejection=Added)

        @service.handler
        def take(command: Add) -> None:
            """Refuse."""
            raise Rejected("no")

        app = await lab.start([service])
        await put(app, "tally.commands", ("a", foreign(app, Add(name="a"))), ("b", foreign(app, Add(name="b"), id="2")))
        await lab.settled()
        assert {(row.key, row.state, row.reason) for row in await held(app, "strict")} == {
            ("a", "dead", "TypeError"),
            ("b", "dead", "TypeError"),
        }
        await balanced(app)


async def claims_that_are_no_numbers_are_harmless(kit: EngineKit) -> None:
    """Whatever a foreign record claims as its sequence, it is one record, and those after it are handled."""
    async with Lab(kit) as lab:
        app = await lab.start()
        for number, sequence in enumerate(["²", "-1", "1.5", "9" * 5000, "٣", " 1", "0x1", "\x00"]):
            forged = foreign(app, Added(name="a", n=number), source="/sample/teller", id=f"x{number}", epoch="1", sequence=sequence)
            await put(app, "tally", ("a", forged))
        await add(app, "a", times=2)
        await lab.settled()
        assert (await totals(app))["a"][-2:] == (1, 2)
        await balanced(app)


async def activities_may_fail_of_anything(kit: EngineKit) -> None:
    """An activity that meets a store or queue of somebody else that is not well fails its message, not its neighbours'."""
    async with Lab(kit) as lab:

        async def fail(event: Added, context: Any) -> None:
            if event.name == "a":
                raise StoreUnavailable("elsewhere", reason="full", detail="not ours")

        lab.behaviour.call = fail
        app = await lab.start([teller(), caller(lab.behaviour)])
        await add(app, "a", "b", times=2)
        await lab.settled()
        assert [name for name, _ in lab.behaviour.calls].count("b") == 2
        assert [(row.key, row.state, row.reason) for row in await held(app, "caller", state="dead")] == [("a", "dead", "StoreUnavailable")]
        await balanced(app)


async def types_that_nobody_takes_any_more_are_kept(kit: EngineKit) -> None:
    """A message that waited for a retry while a release took its handler away becomes a dead letter, in activities too."""
    async with Lab(kit) as lab:
        for name, service in (("counter", counter(lab.behaviour)), ("caller", caller(lab.behaviour))):
            lab.behaviour.call = _not_now_async
            lab.behaviour.count = _not_now
            app = await lab.start([teller(), service], policy=RetryPolicy(first_s=10))
            await add(app, name)
            await lab.settled()
            await lab.stop(app)
            lab.clock.advance(timedelta(seconds=11))

            app = await lab.start([teller(), _without_added(name)])
            await lab.eventually(app, lambda app=app, name=name: _all_dead(app, name))
            assert {row.reason for row in await held(app, name) if row.processor in {"call", "handlers"}} == {"unknown"}
            await lab.stop(app)


def _not_now(event: Added, context: Any) -> None:
    raise ConnectionError


async def _not_now_async(event: Added, context: Any) -> None:
    raise ConnectionError


def _without_added(name: str) -> Service:
    service = Service(name)
    if name == "caller":

        @service.handler(processor="call")
        async def call(event: Refused) -> None:
            """Take another message of the topic."""

    else:

        @service.handler
        def count(event: Refused) -> None:
            """Take another message of the topic."""

    return service


async def _all_dead(app: Application, service: str) -> bool:
    rows = [row for row in await held(app, service) if row.processor in {"call", "handlers"}]
    return bool(rows) and all(row.state == "dead" for row in rows)


async def statements_that_fail_are_kept(kit: EngineKit) -> None:
    """SQL of a plain handler that the database refuses is the failure of its message; what is beside it commits."""
    async with Lab(kit) as lab:
        service = Service("scribe", says=[Counted])

        @service.handler
        async def write(event: Added, tx: Transaction) -> Any:
            """Write a row, or something that is no SQL."""
            await tx.execute(SQL["make_filed"])
            if event.name == "a":
                await tx.execute(SQL["misspelt"])
            await tx.execute(SQL["file"].replace("?", kit.placeholder), event.name, event.n)
            return Counted(name=event.name, n=event.n)

        app = await lab.start([teller(), service])
        await add(app, "a", "b", times=2)
        await lab.settled()
        assert [envelope.subject for envelope in await published(app, "counts")] == ["b", "b"]
        assert [(row.key, row.state) for row in await held(app, "scribe")] == [("a", "dead"), ("a", "behind")]
        await balanced(app)


async def cancelled_functions_are_kept(kit: EngineKit) -> None:
    """A function that something it awaited has cancelled fails its message; processor and writer go on."""
    async with Lab(kit) as lab:

        async def cancel(event: Added, context: Any) -> None:
            if event.name == "a":
                raise asyncio.CancelledError

        lab.behaviour.call = lab.behaviour.file = cancel
        app = await lab.start([teller(), caller(lab.behaviour), clerk(lab.behaviour)])
        await add(app, "a", "b", times=2)
        await lab.settled()
        assert [name for name, _ in lab.behaviour.calls].count("b") == 2
        for service in ("caller", "clerk"):
            assert [(row.key, row.state, row.attempts) for row in await held(app, service)] == [("a", "dead", 3), ("a", "behind", 0)]
        await balanced(app)


async def cancelled_decisions_fail_alone(kit: EngineKit) -> None:
    """A command whose answer was cancelled has not happened; its neighbours and those after it have."""

    def cancel(outcome: Outcome) -> bytes:
        raise asyncio.CancelledError

    async with Lab(kit) as lab:
        app = await lab.start([teller()])
        tries = [app.execute(Add(name="a")), app.execute(Add(name="b"), answer=cancel), app.execute(Add(name="c"))]
        async with asyncio.timeout(kit.patience):
            answers = await asyncio.gather(*tries, return_exceptions=True)
        assert [isinstance(answer, Outcome) for answer in answers] == [True, False, True]
        assert (await app.execute(Add(name="b"))).version == 1
        assert await journal_rows(app, "teller") == 3


async def releases_beside_a_call_lose_nothing(kit: EngineKit) -> None:
    """A key that an operator frees while a batch is being called: its message of that batch is called too, though later."""
    async with Lab(kit) as lab:
        slow = Slow()

        async def call(event: Added, context: Any) -> None:
            if event.n == 1:
                raise ValueError("never")
            if event.name == "b":
                await slow(event, context)

        lab.behaviour.call = call
        app = await lab.start([teller(), caller(lab.behaviour)])
        await add(app, "a")
        await lab.settled()
        assert [row.state for row in await held(app, "caller")] == ["dead"]
        events = [Added(name=name, n=2) for name in "ab"]
        await put(app, "tally", *((event.name, foreign(app, event, id=event.name)) for event in events))
        await slow.called.wait()
        await _discard_dead(app, "caller")
        slow.go.set()
        await lab.settled()
        assert lab.behaviour.calls.count(("a", 2)) == 1, "a message counts as handled that was not called"
        await balanced(app)


async def _discard_dead(app: Application, service: str) -> None:
    """Do what an operator does to dead letters, in another process, and let this one notice; what waits behind them is free then."""
    host = app.hosts[service]
    transaction = await host.store.begin()
    rows = [row for row in await transaction.held.load("call") if row.state == DEAD]
    await transaction.held.remove(rows)
    for row in rows:
        (place,) = await transaction.positions.load("call", places=[(row.topic, row.partition)])
        place.dead, place.skipped = place.dead - 1, place.skipped + 1
        await transaction.positions.advance([place])
    await transaction.commit()
    await host.loops["call"].refresh()


PROMISES = (
    unreadable_records_are_kept,
    exhausted_messages_are_kept,
    refusals_are_answers,
    oversized_facts_are_kept,
    oversized_facts_do_not_break_their_stream,
    stopping_with_an_oversized_fact_ends,
    foreign_types_are_counted,
    losses_are_named,
    lost_letters_of_timers_are_named,
    results_that_cannot_be_stored_are_kept,
    timers_that_cannot_be_set_are_kept,
    results_of_no_kind_are_kept,
    failing_folds_are_kept,
    unreadable_state_is_kept,
    failed_timers_are_kept,
    timers_of_activities_fire,
    selectors_may_fail,
    unfit_rejections_are_kept,
    claims_that_are_no_numbers_are_harmless,
    activities_may_fail_of_anything,
    types_that_nobody_takes_any_more_are_kept,
    statements_that_fail_are_kept,
    cancelled_functions_are_kept,
    cancelled_decisions_fail_alone,
    releases_beside_a_call_lose_nothing,
)
