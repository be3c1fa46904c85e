"""Why is this message here: causes, who handled it, what it caused, where it waits and until when."""

from __future__ import annotations

from datetime import timedelta

import pytest

from millrace.agenda import Agenda
from millrace.application import Application
from millrace.dead_letters import DeadLetters
from millrace.delivery import Context
from millrace.errors import UnknownMessage
from millrace.inspection import Inspection
from millrace.letter import HeldId
from millrace.message_trace import MessageTrace, trace, trace_message
from millrace.role import Role
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, foreign, held, put
from millrace.testing.conformance.saga_sample import Cancel, Place, Receivers, desk, order_saga, receivers
from millrace.testing.conformance.sample import Add, Added, Remind, clerk, counter, teller


def _dealings(found: MessageTrace, id: str) -> dict[str, str]:
    (message,) = [message for message in found.messages if message.id == id]
    return {each.consumer: each.state for each in message.dealings}


def _names(found: MessageTrace) -> list[str]:
    return [message.id for message in found.messages]


async def conversations_are_told_from_any_message(kit: EngineKit) -> None:
    """Asked by a fact, by what it caused or by their key, the answer is the same tree, beside a running process and without one."""
    async with Lab(kit) as lab:
        app = await lab.start()
        for name in ("x", "a", "y", "a", "z"):
            await add(app, name)
        await lab.settled()
        facts = [message.id for message in (await trace_message(app, "a")).roots()]
        assert len(facts) == 2
        assert all(fact.startswith("teller-1-") for fact in facts)
        (effect,) = (await trace_message(app, "a")).caused_by(facts[1])
        running = await trace_message(app, effect.id)
        assert [message.id for message in running.causes_of(effect.id)] == [effect.id, facts[1]]
        assert [message.id for message in running.messages if message.asked] == [effect.id]
        assert set(_names(running)) == set(_names(await trace_message(app, facts[0])))
        assert _dealings(running, facts[0]) == {"counter.handlers": "handled", "counter.board@1": "handled"}
        assert all(message.offset is not None and message.key == "a" for message in running.messages)
        assert running.searched.complete
        await lab.stop(app)
        assert await trace_message(lab.new(), effect.id) == running


async def what_waits_is_told(kit: EngineKit) -> None:
    """What is dead, behind it, not read or not published says so, with attempts and what is in front."""
    async with Lab(kit) as lab:

        def fail(event: Added, context: Context) -> None:
            if event.n == 2:
                raise ArithmeticError

        lab.behaviour.count = fail
        app = await lab.start()
        for n in (1, 2, 3):
            await app.execute(Add(name="a", n=n))
        await lab.settled()
        await lab.stop(app)
        app = await lab.start(hosted=Role(relaying=False))
        await add(app, "a")
        found = await trace_message(app, "a")
        one, two, three, four = [message for message in found.messages if message.id.startswith("teller")]
        told = {each.id: next((d for d in each.dealings if d.consumer == "counter.handlers"), None) for each in (one, two, three)}
        first, second, third = (told[each.id] for each in (one, two, three))
        assert first is not None and first.state == "handled"  # noqa: PT018  # one fact
        assert second is not None and (second.state, second.attempts, second.reason) == ("dead", 3, "ArithmeticError")  # noqa: PT018
        assert third is not None and (third.state, third.behind) == ("behind", two.id)  # noqa: PT018
        assert (four.offset, four.dealings) == (None, ())
        (dead,) = await held(app, "counter", state="dead")
        assert second.held is not None
        by_letter = await trace_message(app, second.held)
        assert [message.id for message in by_letter.messages if message.asked] == [two.id]
        assert dead.key == "a"


async def closed_letters_are_told(kit: EngineKit) -> None:
    """What an operator gave up or replaced is told as that, not as handled; `dead-letters show` takes the name that is told.

    The id of what took a place leads to the original.
    """
    async with Lab(kit) as lab:
        app = await lab.start([counter(lab.behaviour)])
        record = foreign(app, Added(name="k"), id="abroad")
        await put(
            app, "tally", *(("k", record.replace(b'"abroad"', b'"%s"' % id).replace(b'"n":1', b'"n":"many"')) for id in (b"one", b"two"))
        )
        await lab.settled()
        letters = DeadLetters(app)
        one, two = [row for row in await held(app, "counter", state="dead") if row.processor == "handlers"]
        edited = await letters.edit(str(HeldId.of("counter", one)), changes={"n": 1}, note="asked")
        await letters.discard(str(HeldId.of("counter", two)), note="nobody ordered that")
        await lab.settled()
        told = {message.id: message.dealings for message in (await trace_message(app, "k")).messages}
        ((first,), (second,)) = [[d for d in told[id] if d.consumer == "counter.handlers"] for id in ("one", "two")]
        assert (first.state, first.reason, first.successor) == ("edited", "invalid", edited.successor)
        assert (second.state, second.reason, second.successor) == ("discarded", "invalid", None)
        assert [(await letters.show(d.held or "")).letter.reason for d in (first, second)] == ["invalid"] * 2
        by_successor = await trace_message(app, edited.successor or "")
        assert [message.id for message in by_successor.messages if message.asked] == ["one"]


async def timers_are_told(kit: EngineKit) -> None:
    """A timer of a key is told with the moment it is due."""
    async with Lab(kit) as lab:
        app = await lab.start([teller(), clerk(lab.behaviour)])
        await add(app, "a")
        await app.execute(Remind(name="a", after_s=60))
        await app.execute(Remind(name="b", after_s=60))
        await lab.settled()
        timers = (await trace_message(app, "a")).timers
        due = (lab.clock.now() + timedelta(seconds=60)).isoformat(timespec="microseconds").replace("+00:00", "Z")
        assert [(each.name, each.key, each.due, each.consumer, each.state) for each in timers] == [
            ("ring", "a", due, "clerk.handlers", "waits")
        ]


async def timers_that_only_forget_are_told_apart(kit: EngineKit) -> None:
    """The timer of a saga under way is a deadline; of one that has ended, or never began, it only forgets it, in the list too."""
    async with Lab(kit) as lab:
        app = await lab.start([desk(order_saga()), *receivers(Receivers())])
        await app.execute(Cancel(order_id="early"))
        await app.execute(Place(order_id="ends"))
        await lab.settled()
        await app.execute(Cancel(order_id="ends"))
        await app.execute(Place(order_id="new"))
        await lab.settled()
        expected = {"early": "forget", "ends": "forget", "new": "timer"}
        for id, kind in expected.items():
            (timer,) = [each for each in (await trace_message(app, id)).timers if each.consumer == "desk.order"]
            assert (timer.key, timer.name, timer.kind) == (id, "deadline", kind)
        listed = {row.key: row.kind for row in await Agenda(app).timers(service="desk")}
        assert {id: listed[id] for id in expected} == expected


async def sagas_are_told(kit: EngineKit) -> None:
    """An instance whose id is the conversation's key is told with its status, whoever of its messages is asked for."""
    async with Lab(kit) as lab:
        app = await lab.start([desk(order_saga()), *receivers(Receivers())])
        await app.execute(Place(order_id="o1"))
        await lab.settled()
        found = await trace_message(app, "o1")
        assert [(each.saga, each.id, each.status, bool(each.current)) for each in found.sagas] == [("order", "o1", "running", True)]
        again = await trace_message(app, found.messages[-1].id)
        assert (again.sagas, {each.id for each in again.messages}) == (found.sagas, {each.id for each in found.messages})


async def foreign_messages_are_told(kit: EngineKit) -> None:
    """A message of a foreign producer is found by its id, and what it caused with it."""
    async with Lab(kit) as lab:
        app = await lab.start([counter(lab.behaviour)])
        await put(app, "tally", ("k", foreign(app, Added(name="k"), id="abroad")))
        await lab.settled()
        found = await trace_message(app, "abroad")
        assert [message.id for message in found.roots()] == ["abroad"]
        assert [message.source for message in found.caused_by("abroad")] == ["/sample/counter"]


async def bounds_are_told(kit: EngineKit) -> None:
    """Who reads less than there is says where more may lie; what is nowhere is said to be found nowhere."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, "a", "b", "c", times=6)
        await lab.settled()
        found = await trace_message(app, "a", limit=10)
        assert not found.searched.complete
        assert found.searched.unread
        with pytest.raises(UnknownMessage, match="nowhere"):
            await trace_message(app, "nowhere")
        await _at_one_moment(app)


async def _at_one_moment(app: Application) -> None:
    async with Inspection(app) as inspection:
        assert (await trace(inspection, "b")).searched.complete


PROMISES = (
    conversations_are_told_from_any_message,
    what_waits_is_told,
    closed_letters_are_told,
    timers_are_told,
    timers_that_only_forget_are_told_apart,
    sagas_are_told,
    foreign_messages_are_told,
    bounds_are_told,
)
