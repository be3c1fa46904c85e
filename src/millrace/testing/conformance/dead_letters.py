"""Dead letters: what an operator does to one happens in its place and once, order per key is as if it had never died, nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from millrace.application import Application
from millrace.dead_letters import DeadLetters
from millrace.errors import ConfigurationError, InvalidEdit, LetterRefused, StoreUnavailable, UnknownMessage
from millrace.held import FIRST, ClosedRow, HeldRow, LetterFilter
from millrace.letter import HeldId, history_of
from millrace.letter_watch import LetterBounds
from millrace.letters import LetterQuery
from millrace.message_trace import trace_message
from millrace.partitioning import partition_of
from millrace.serialization import RECORD_BYTES_MAX, open_envelope
from millrace.service import Service
from millrace.state import State
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import AT_ONCE, Lab, balanced, foreign, held, journal_rows, published, put, totals
from millrace.testing.conformance.sample import Add, Added, Remind, Reminded, caller, counter, teller
from millrace.timers import Timer

ORDERED = (1, 2, 3, 4)
NAMES = "abc"


def _never(name: str, n: int) -> bool:
    return False


class Ill:
    """What fails: `is_ill` says of (name, n) whether it does."""

    def __init__(self, lab: Lab, is_ill: Callable[[str, int], bool]) -> None:
        self.is_ill = is_ill
        lab.behaviour.count = lab.behaviour.fold = self._fail

    def heal(self) -> None:
        """Let nothing fail any more."""
        self.is_ill = _never

    def _fail(self, event: Added, context: Any) -> None:
        if self.is_ill(event.name, event.n):
            raise ValueError(f"{event.name} has {event.n}")


async def _ill(lab: Lab, is_ill: Callable[[str, int], bool], *services: Service) -> tuple[Application, Ill]:
    """Return an application that has been told `ORDERED` of some names, with what fails of it in the dead letters."""
    ill = Ill(lab, is_ill)
    app = await lab.start(services)
    await add(app, *NAMES, times=len(ORDERED))
    await lab.settled()
    await balanced(app)
    return app, ill


def _second_of_some(name: str, n: int) -> bool:
    return name in "ab" and n == 2


async def _dead(app: Application, service: str = "counter", processor: str = "handlers") -> list[HeldRow]:
    return [row for row in await held(app, service, state="dead") if row.processor == processor]


async def _closed(app: Application, service: str = "counter") -> list[ClosedRow]:
    return await app.hosts[service].store.reader.letters.closed(LetterFilter(), after=FIRST, limit=1000)


def _named(row: HeldRow | ClosedRow, service: str = "counter") -> str:
    return str(HeldId.of(service, row))


async def _counted(app: Application, counted: str, service: str = "counter", processor: str = "handlers") -> int:
    return sum(getattr(row, counted) for row in await app.hosts[service].store.reader.positions.load(processor))


async def redriven_letters_keep_order(kit: EngineKit) -> None:
    """With dead letters and a redrive in between every key is handled in the order in which it is without, by handlers and by views."""
    async with Lab(kit) as lab:
        app, ill = await _ill(lab, _second_of_some)
        await add(app, "a", "c")
        await lab.settled()
        assert await totals(app) == {"a": (1,), "b": (1,), "c": (*ORDERED, 1)}
        await lab.kill(app)

        app = await lab.start()
        ill.heal()
        done = await DeadLetters(app).redrive(LetterQuery(service="counter"))
        assert (done.redriven, done.of, done.finished) == (4, 4, True)
        await lab.settled()
        assert await totals(app) == {"a": (*ORDERED, 1), "b": ORDERED, "c": (*ORDERED, 1)}
        assert await held(app, "counter") == []
        told = [n for name, n in lab.behaviour.order if name == "a"]
        assert told == [1, *[2] * AT_ONCE.attempts, 2, 3, 4, 1], "each is called once more, in order"
        await balanced(app)


async def who_dies_again_keeps_its_place(kit: EngineKit) -> None:
    """A redriven letter has all its tries; dead again it lies where it lay with its history, and what is behind it still waits."""
    async with Lab(kit) as lab:
        app, ill = await _ill(lab, lambda name, n: (name, n) == ("a", 2), teller(), counter(lab.behaviour))
        (before,) = await _dead(app)
        for times in (1, 2):
            tried = lab.behaviour.order.count(("a", 2))
            lab.clock.advance(timedelta(minutes=1))
            assert (await DeadLetters(app).redrive(LetterQuery(processor="handlers", reason="ValueError"))).redriven == 1
            await lab.settled()
            (row,) = await _dead(app)
            assert (row.place, row.attempts, row.first_at) == (before.place, AT_ONCE.attempts, before.first_at)
            assert lab.behaviour.order.count(("a", 2)) - tried == AT_ONCE.attempts
            assert [(death.reason, death.attempts) for death in history_of(row)] == [("ValueError", AT_ONCE.attempts)] * times
            assert (row.fingerprint, row.last_at > before.last_at) == (before.fingerprint, True)
            assert await app.hosts["counter"].store.reader.letters.behind([row]) == [2]
            await balanced(app)
        ill.heal()
        await DeadLetters(app).redrive(_named(before))
        await lab.settled()
        assert (await totals(app))["a"] == ORDERED
        await balanced(app)


async def edited_letters_take_the_place(kit: EngineKit) -> None:
    """Another message is handled where the original stood, under an id of its own; the original is kept closed, with its bytes.

    What follows from it names the original as its cause, which alone everybody can find in the log.
    """
    async with Lab(kit) as lab:
        app, _ = await _ill(lab, lambda name, n: (name, n) == ("a", 2), teller(), counter(lab.behaviour))
        (row,) = await _dead(app)
        original = open_envelope(row.value)
        done = await DeadLetters(app).edit(_named(row), changes={"n": 20}, who="ada", note="typo")
        await lab.settled()
        assert (await totals(app))["a"] == (1, 20, 3, 4)
        assert lab.behaviour.order.count(("a", 20)) == 1
        (closed,) = await _closed(app)
        assert (closed.value, closed.how, closed.who, closed.note, closed.successor) == (row.value, "edited", "ada", "typo", done.successor)
        assert done.successor not in {None, original.id}
        assert original.id in {fact.causationid for fact in await published(app, "counts") if b'"n":20' in bytes(fact.data)}
        with pytest.raises(LetterRefused, match="edited before"):
            await DeadLetters(app).redrive(_named(row))
        await balanced(app)
        await lab.kill(app)
        app = await lab.start()
        await lab.settled()
        assert (await totals(app))["a"] == (1, 20, 3, 4)
        await balanced(app)


async def edits_that_do_not_fit_change_nothing(kit: EngineKit) -> None:
    """Data that the class refuses, an unknown field, another key: refused by the name of the field, and the letter is as it was."""
    async with Lab(kit) as lab:
        app, _ = await _ill(lab, lambda name, n: (name, n) == ("a", 2), teller(), counter(lab.behaviour))
        before, letters = await held(app, "counter"), DeadLetters(app)
        name, rows = _named((await _dead(app))[0]), await journal_rows(app, "counter")
        for changes, field in (({"n": "many"}, "n"), ({"amount": 3}, "amount"), ({"name": "z"}, "name"), ({"text": None}, "text")):
            with pytest.raises(InvalidEdit, match=field) as refused:
                await letters.edit(name, changes=changes)
            assert refused.value.field == field
        for data, field in (({"n": 3}, "name"), ([1], "data"), ({"name": "a", "text": "x" * RECORD_BYTES_MAX}, "data")):
            with pytest.raises(InvalidEdit) as refused:
                await letters.edit(name, data=data)
            assert refused.value.field == field
        with pytest.raises(InvalidEdit, match="data"):
            await letters.edit(name)
        with pytest.raises(UnknownMessage):
            await letters.edit("counter:handlers:tally:0:999", data={})
        with pytest.raises(LetterRefused, match="is not dead"):
            await letters.edit(_named(before[-1]), changes={"n": 1})
        with pytest.raises(ConfigurationError, match="note"):
            await letters.discard(name, note=" ")
        assert (await held(app, "counter"), await journal_rows(app, "counter"), await _closed(app)) == (before, rows, [])


async def discarded_letters_are_kept_and_counted(kit: EngineKit) -> None:
    """A discarded letter counts as skipped, what was behind it goes on; it is kept as closed until that is long ago."""
    async with Lab(kit) as lab:
        service = counter(lab.behaviour)
        service.letter_bounds = LetterBounds(closed_kept=timedelta(days=3))
        app, _ = await _ill(lab, lambda name, n: (name, n) == ("a", 2), teller(), service)
        (row,) = await _dead(app)
        (view,) = [each for each in await held(app, "counter", state="dead") if each.processor != "handlers"]
        assert await DeadLetters(app).discard(LetterQuery(service="counter", key="a"), note="nobody ordered that", who="ada") == 2
        await lab.settled()
        assert await totals(app) == {"a": (1, 3, 4), "b": ORDERED, "c": ORDERED}
        assert await _counted(app, "skipped") == 1
        kept = {(each.place_of_letter, each.value, each.how, each.note) for each in map(_Kept.of, await _closed(app))}
        assert kept == {(each.place, each.value, "discarded", "nobody ordered that") for each in (row, view)}
        await balanced(app)
        lab.clock.advance(timedelta(days=4))
        await app.hosts["counter"].clean(now=0, answers_before=0)
        assert await _closed(app) == []
        await balanced(app)


class _Kept(msgspec.Struct, frozen=True):
    place_of_letter: tuple[str, str, int, int]
    value: bytes
    how: str
    note: str

    @classmethod
    def of(cls, row: ClosedRow) -> _Kept:
        return cls((row.processor, row.topic, row.partition, row.offset), row.value, row.how, row.note)


async def changes_happen_whole_or_not_at_all(kit: EngineKit) -> None:
    """Where the commit of a change fails, or the process is killed before it, the letter is as it was; neither message is handled."""
    async with Lab(kit) as lab:
        app, _ = await _ill(lab, lambda name, n: (name, n) == ("a", 2), teller(), counter(lab.behaviour))
        before, name = await held(app, "counter"), _named((await _dead(app))[0])
        changes: list[Callable[[DeadLetters], Awaitable[object]]] = [
            lambda letters: letters.edit(name, changes={"n": 20}),
            lambda letters: letters.discard(name, note="no"),
            lambda letters: letters.redrive(name),
        ]
        for change in changes:
            lab.faults.fail_next("counter")
            with pytest.raises(StoreUnavailable):
                await change(DeadLetters(app))
            assert (await held(app, "counter"), await _closed(app)) == (before, [])
        async with lab.faults.held("counter") as reached:
            edit = asyncio.ensure_future(DeadLetters(app).edit(name, changes={"n": 20}))
            await reached.wait()
            await lab.kill(app)
            edit.cancel()
            await asyncio.gather(edit, return_exceptions=True)
        app = await lab.start([teller(), counter(lab.behaviour)])
        await lab.settled()
        was_edited = await _closed(app) != []
        assert (await totals(app))["a"] == ((1, 20, 3, 4) if was_edited else (1,))
        await balanced(app)


async def two_operators_change_a_letter_once(kit: EngineKit) -> None:
    """Of an edit and a discard at once one happens and the other is refused; of two edits one."""
    async with Lab(kit) as lab:
        app, _ = await _ill(lab, lambda _, n: n == 2, teller(), counter(lab.behaviour))
        rows = await _dead(app)
        for row in rows:
            letters = DeadLetters(app)
            both = (letters.edit(_named(row), changes={"n": 20}), letters.edit(_named(row), changes={"n": 30}))
            found = await asyncio.gather(*both, return_exceptions=True)
            assert sorted(isinstance(each, LetterRefused) for each in found) == [False, True], found
        await lab.settled()
        assert all(seen in {(1, 20, 3, 4), (1, 30, 3, 4)} for seen in (await totals(app)).values())
        assert len(await _closed(app)) == len(rows)
        await balanced(app)


class _Heard(State, key="name"):
    """What was heard of a name."""

    name: str
    seen: tuple[int, ...] = ()


async def unreadable_letters_are_edited_and_redriven_alone(kit: EngineKit) -> None:
    """What names no key holds nobody up: redriven it dies again by itself, edited into a message it is handled."""
    async with Lab(kit) as lab:
        app = await lab.start([teller(), counter(lab.behaviour)])
        await put(app, "tally", ("a", b"junk"), ("a", b"more junk"))
        await add(app, "a")
        await lab.settled()
        one, two = await _dead(app)
        done = await DeadLetters(app).redrive(_named(two))
        await lab.settled()
        rows = await _dead(app)
        assert [(row.place, row.attempts, len(history_of(row))) for row in rows] == [(one.place, 1, 0), (two.place, 1, 1)]
        assert (done.redriven, rows[0].fingerprint) == (1, rows[1].fingerprint)
        with pytest.raises(LetterRefused, match="say which message"):
            await DeadLetters(app).edit(_named(one), data={"name": "a", "n": 7})
        elsewhere = next(key for key in "bcdefghijklmnop" if partition_of(key, app.partitions_of("tally")) != one.partition)
        with pytest.raises(InvalidEdit, match=f"name: '{elsewhere}' belongs to partition"):
            await DeadLetters(app).edit(_named(one), data={"name": elsewhere, "n": 7}, kind="Added")
        await DeadLetters(app).edit(_named(one), data={"name": "a", "n": 7}, kind="Added")
        await lab.settled()
        assert await totals(app) == {"a": (1, 7)}
        await balanced(app)


async def rows_the_log_refused_are_said_again(kit: EngineKit) -> None:
    """A fact too large for the log is refused again as it is, said again when it is edited, and counted for ever when it is discarded.

    Said again it names as its cause what everybody can find, not the fact that nobody was told.
    """
    async with Lab(kit) as lab:
        app = await lab.start([teller(), counter(lab.behaviour)])
        for name in "ab":
            await app.execute(Add(name=name, n=1, text="x" * RECORD_BYTES_MAX))
        await lab.settled()
        one, two = sorted(await _dead(app, "teller", "relay"), key=lambda row: row.offset)
        letters = DeadLetters(app)
        with pytest.raises(LetterRefused, match="edit it, or discard it"):
            await letters.redrive(_named(one, "teller"))
        done = await letters.redrive(LetterQuery(processor="relay"))
        assert (done.redriven, done.refused, done.finished) == (0, 2, True)
        await letters.edit(_named(one, "teller"), changes={"text": "short"})
        await letters.discard(_named(two, "teller"), note="too long")
        await lab.settled()
        assert await totals(app) == {"a": (1,)}
        original = open_envelope(one.value, bytes_max=None)
        assert [fact.causationid for fact in await published(app, "tally") if fact.id != original.id] == [original.causationid]
        assert [row.how for row in await _closed(app, "teller")] == ["edited", "discarded"]
        for row, how in ((one, "edited"), (two, "discarded")):
            (told,) = [each for each in (await trace_message(app, f"teller-1-{row.offset}")).messages if each.asked]
            assert [(each.consumer, each.state) for each in told.dealings] == [("relay", how)]
        await balanced(app)
        lab.clock.advance(timedelta(days=400))
        await app.hosts["teller"].clean(now=0, answers_before=0)
        assert [row.value for row in await _closed(app, "teller")] == [b"", b""]
        await balanced(app)


async def activities_are_called_again_in_order(kit: EngineKit) -> None:
    """A redriven letter of an activity is called with all its tries, then what waited behind it; an edited one with what it says now."""
    async with Lab(kit) as lab:
        ill = True

        async def fail(event: Added, context: Any) -> None:
            if ill and event.n == 2:
                raise ConnectionError("not now")

        lab.behaviour.call = fail
        services = [teller(), caller(lab.behaviour)]
        app = await lab.start(services)
        await add(app, "a", "b", times=3)
        await lab.settled()
        rows = {row.key: row for row in await _dead(app, "caller", "call")}
        lab.behaviour.calls.clear()
        await DeadLetters(app).edit(_named(rows["a"], "caller"), changes={"n": 5})
        await lab.settled()
        assert lab.behaviour.calls == [("a", 5), ("a", 3)]
        ill = False
        await DeadLetters(app).redrive(LetterQuery(service="caller"))
        await lab.settled()
        assert lab.behaviour.calls[2:] == [("b", 2), ("b", 3)]
        assert await held(app, "caller") == []
        await balanced(app)


async def timers_fire_when_redriven(kit: EngineKit) -> None:
    """A timer whose handler failed fires when it is redriven, and is said to be what it was said to be at first."""
    async with Lab(kit) as lab:
        ill = True
        service = counter(lab.behaviour)
        lab.behaviour.count = lambda event, _: [Timer("t", Remind(name=event.name), after=timedelta(seconds=60))]

        @service.handler(says=[Reminded])
        def remind(command: Remind) -> Reminded:
            """Fail at first."""
            if ill:
                raise OSError("no bell")
            return Reminded(name=command.name)

        app = await lab.start([teller(), service])
        await add(app, "a", "b")
        await lab.settled()
        await lab.advance(app, 61)
        assert len(await _dead(app)) == 2
        ill = False
        await DeadLetters(app).redrive(LetterQuery(topic="@timers", key="a"))
        await lab.settled()
        assert [said.subject for said in await published(app, "reminders")] == ["a"]
        assert await DeadLetters(app).discard(LetterQuery(topic="@timers"), note="too late") == 1
        await balanced(app)


async def interrupted_redrives_go_on(kit: EngineKit) -> None:
    """A redrive that is cut off, by a kill too, goes on behind its last step: each letter is redriven once, though all die again."""
    async with Lab(kit) as lab:
        names = [f"n{number}" for number in range(8)]
        Ill(lab, lambda name, _: bool(name))
        services = [teller(), counter(lab.behaviour)]
        app = await lab.start(services)
        await add(app, *names)
        await lab.settled()
        wanted = LetterQuery(service="counter", processor="handlers")
        done = await DeadLetters(app).redrive(wanted, limit=3)
        assert (done.redriven, done.of, done.finished) == (3, 8, False)
        await lab.settled()
        await lab.kill(app)

        app = await lab.start(services)
        letters = DeadLetters(app)
        assert [(run.run, run.redriven, run.of) for run in await letters.runs()] == [(done.run, 3, 8)]
        steps: list[int] = []
        done = await letters.resume(done.run, rate=1000, report=lambda progress: steps.append(progress.redriven))
        assert (done.redriven, done.finished, steps[-1]) == (8, True, 8)
        await lab.settled()
        assert [len(history_of(row)) for row in await _dead(app)] == [1] * 8
        assert await letters.runs() == []
        with pytest.raises(UnknownMessage, match="unfinished"):
            await letters.resume(done.run)
        await balanced(app)


async def operators_work_beside_running_processes(kit: EngineKit) -> None:
    """Another process that runs nothing lists and redrives; the running one handles it, and it is told what became of it."""
    async with Lab(kit) as lab:
        app, ill = await _ill(lab, _second_of_some, teller(), counter(lab.behaviour))
        other = lab.new([teller(), counter(lab.behaviour)])

        async def operate() -> None:
            await other.operate(*other.services)

        await lab.run(other, operate)
        letters = DeadLetters(other)
        groups = [(group.processor.partition("@")[0], group.count) for group in await letters.groups()]
        assert sorted(groups) == [("board", 2), ("handlers", 2)]
        first = await letters.list(limit=3)
        rest = await letters.list(limit=3, cursor=first.next)
        assert (len(first.items), len(rest.items), rest.next) == (3, 1, None)
        assert [letter.behind for letter in (*first.items, *rest.items)] == [2] * 4
        ill.heal()
        (fingerprint,) = {group.fingerprint for group in await letters.groups(LetterQuery(processor="handlers"))}
        await letters.redrive(LetterQuery(fingerprint=fingerprint))
        outcome = await letters.outcome(timeout=kit.patience)
        assert (outcome.handled, outcome.dead, outcome.waiting) == (2, 0, 0)
        await lab.settled(app)
        assert (await totals(app))["a"] == ORDERED
        await lab.stop(other)
        await balanced(app)


async def causes_are_followed(kit: EngineKit) -> None:
    """A letter is shown with the facts that it followed from, from journals and, where these have lost them, from the log."""
    async with Lab(kit) as lab:
        listener = Service("listener")

        @listener.handler(heard=_Heard.by("name"))
        def hear(event: Added, heard: _Heard | None) -> None:
            """Fail."""
            raise LookupError(event.name)

        app = await lab.start([teller(), listener])
        await put(app, "tally.commands", ("a", foreign(app, Add(name="a"), id="asked")))
        await lab.settled()
        (row,) = await _dead(app, "listener")
        detail = await DeadLetters(app).show(_named(row, "listener"))
        assert [(cause.id, cause.type) for cause in detail.causes] == [("asked", "sample.tally.add.v1")]
        assert (detail.handler, "LookupError" in detail.detail) == ("hear", True)
        (line,) = [each async for each in DeadLetters(app).export(LetterQuery(service="listener"))]
        shown = msgspec.json.decode(line)
        assert (shown["id"], shown["reason"]) == (_named(row, "listener"), "LookupError")


PROMISES = (
    redriven_letters_keep_order,
    who_dies_again_keeps_its_place,
    edited_letters_take_the_place,
    edits_that_do_not_fit_change_nothing,
    discarded_letters_are_kept_and_counted,
    changes_happen_whole_or_not_at_all,
    two_operators_change_a_letter_once,
    unreadable_letters_are_edited_and_redriven_alone,
    rows_the_log_refused_are_said_again,
    activities_are_called_again_in_order,
    timers_fire_when_redriven,
    interrupted_redrives_go_on,
    operators_work_beside_running_processes,
    causes_are_followed,
)
