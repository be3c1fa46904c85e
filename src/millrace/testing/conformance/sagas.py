"""Sagas: each step once, a way back from everywhere, deadlines that wait for the input, versions, and ways out of what is stuck."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from millrace.application import Application
from millrace.clock import to_micros
from millrace.consumers import Consumers
from millrace.errors import ConfigurationError, SagaRefused, UnknownMessage
from millrace.health import Entry
from millrace.saga import Saga
from millrace.saga_instance import INDEX_KIND, index_key, index_since
from millrace.sagas import Sagas, looking_after
from millrace.service import Service
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, balanced, foreign, held, published, put
from millrace.testing.conformance.saga_sample import (
    Cancel,
    Case,
    Kept,
    LetGo,
    Paid,
    Place,
    Receivers,
    desk,
    order_saga,
    receivers,
)

HOURS = 3600.0
LONG = 400.0
"""Longer than any answer is waited for at once."""


def _services(behaviour: Receivers, saga: Saga | None = None, *, earlier: tuple[Saga, ...] = ()) -> list[Service]:
    return [desk(saga or order_saga(), earlier=earlier), *receivers(behaviour)]


async def place(app: Application, *ids: str) -> None:
    """Order something under each id."""
    for id in ids:
        await app.execute(Place(order_id=id))


async def statuses(app: Application) -> dict[str, str]:
    """Return the status of every instance."""
    return {row.id: row.status for row in (await Sagas(app).list(limit=1000)).items}


async def world(app: Application, id: str) -> tuple[str, ...]:
    """Return what stock, pay and ship have done for an order, in order."""
    rows = [await app.states(Kept, service=name).get(id) for name in ("stock", "pay", "ship")]
    return tuple(" ".join(row.done) if row is not None else "" for row in rows)


async def ends(app: Application) -> list[tuple[str, str]]:
    """Return what was said at ends, sorted."""
    found = [msgspec.json.decode(envelope.data) for envelope in await published(app, "orders") if "finished" in envelope.type]
    return sorted((each["order_id"], each["how"]) for each in found)


async def sent(app: Application, topic: str, id: str) -> list[str]:
    """Return the commands for an order in a topic, in order."""
    return [envelope.type.split(".")[-2] for envelope in await published(app, f"{topic}.commands") if envelope.subject == id]


async def steps_run_to_the_end(kit: EngineKit) -> None:
    """Many at once, each command once and in order; copies of answers under other ids and a second start change nothing."""
    behaviour, names = Receivers(), [f"o{i}" for i in range(12)]
    async with Lab(kit) as lab:
        app = await lab.start(_services(behaviour))
        await place(app, *names)
        await lab.settled()
        assert await statuses(app) == dict.fromkeys(names, "running")
        for name in names:
            await app.execute(LetGo(order_id=name))
        await lab.settled()
        await put(app, "pay", *[(name, foreign(app, Paid(order_id=name), source="/copy", id=name)) for name in names])
        await place(app, *names)
        await lab.settled()
        assert await statuses(app) == dict.fromkeys(names, "completed")
        assert [await world(app, name) for name in names] == [("reserved committed", "paid", "booked shipped")] * len(names)
        assert [await sent(app, topic, "o1") for topic in ("stock", "pay", "ship")] == [["reserve", "commit"], ["charge"], ["book"]]
        assert await ends(app) == [(name, "completed") for name in sorted(names)]
        await balanced(app)


async def what_was_done_is_undone(kit: EngineKit, *, saga: Saga | None = None) -> None:
    """After a failure, and after a cancel, at each step: nothing stays, and the end is said once. A cancel may come before the start."""
    behaviour = Receivers()
    async with Lab(kit) as lab:
        app = await lab.start(_services(behaviour, saga))
        await app.execute(Cancel(order_id="early"))
        await lab.settled()
        assert await statuses(app) == {"early": "cancelling"}
        await place(app, "early")
        for word in ("reserve", "charge", "book"):
            behaviour.refuse = {word}
            await place(app, f"no-{word}")
            await lab.settled()
        behaviour.refuse = set()
        await place(app, "late")
        await lab.settled()
        await app.execute(Cancel(order_id="late"))
        await lab.settled()
        names = ["early", "late", "no-book", "no-charge", "no-reserve"]
        expected = [
            ("", "", ""),
            ("reserved released", "paid refunded", "booked unbooked"),
            ("reserved released", "paid refunded", ""),
            ("reserved released", "", ""),
            ("", "", ""),
        ]
        assert [await world(app, name) for name in names] == expected
        assert await statuses(app) == dict.fromkeys(names, "undone")
        hows = ["cancelled", "cancelled", "failed book", "failed pay", "failed reserve"]
        assert await ends(app) == list(zip(names, hows, strict=True))
        await balanced(app)


async def undo_may_come_too_late(kit: EngineKit) -> None:
    """The parcel left while the cancel was on its way: the cancel is refused and the saga completes, nothing is given back."""
    behaviour = Receivers()
    async with Lab(kit) as lab:
        app = await lab.start(_services(behaviour))
        await place(app, "a")
        await lab.settled()
        await Consumers(app).pause("desk.order", timeout=kit.patience)
        await app.execute(Cancel(order_id="a"))
        await app.execute(LetGo(order_id="a"))
        await lab.settled()
        await Consumers(app).resume("desk.order", timeout=kit.patience)
        await lab.settled()
        assert await statuses(app) == {"a": "completed"}
        assert await world(app, "a") == ("reserved committed", "paid", "booked shipped")
        assert len([e for e in await published(app, "orders") if "cancel-refused" in e.type]) <= 1
        await balanced(app)


async def kills_between_steps_change_nothing(kit: EngineKit) -> None:
    """Killed after each step, and with a commit that fails, it goes on where it was; each command has its effect once."""
    behaviour = Receivers()
    async with Lab(kit) as lab:
        services = _services(behaviour)
        for count in range(1, len(services) + 1):
            app = await lab.start(services, hosted=[service.name for service in services[:count]])
            if count == 1:
                await place(app, "a", "b")
                await app.execute(Cancel(order_id="b"))
            lab.faults.fail_next("desk", after=count % 2)
            await lab.settled()
            lab.faults.forget()
            await lab.kill(app)
        app = await lab.start(services)
        await app.execute(LetGo(order_id="a"))
        await lab.settled()
        assert await statuses(app) == {"a": "completed", "b": "undone"}
        assert await world(app, "a") == ("reserved committed", "paid", "booked shipped")
        assert await world(app, "b") in {("reserved released", "", ""), ("", "", "")}
        assert await ends(app) == [("a", "completed"), ("b", "cancelled")]
        await balanced(app)


async def unanswered_steps_are_repeated_then_undone(kit: EngineKit) -> None:
    """The same command again with pauses, three times in all; then it is undone in doubt. A success that comes after the end is undone."""
    behaviour = Receivers()
    behaviour.mute = {"charge"}
    async with Lab(kit) as lab:
        app = await lab.start(_services(behaviour))
        await place(app, "a")
        await lab.settled()
        await lab.advance(app, 29.9)
        assert await sent(app, "pay", "a") == ["charge"]
        await lab.advance(app, 0.1)
        assert await sent(app, "pay", "a") == ["charge", "charge"]
        await lab.kill(app)

        app = await lab.start(_services(behaviour))
        for _ in range(2):
            await lab.advance(app, 150)
        assert await sent(app, "pay", "a") == ["charge"] * 3 + ["refund"]
        assert await statuses(app) == {"a": "undone"}
        assert await ends(app) == [("a", "timeout pay")]
        behaviour.mute = {"refund"}
        await put(app, "pay", ("a", foreign(app, Paid(order_id="a"), source="/sample/pay", id="late")))
        await lab.settled()
        assert (await statuses(app), await sent(app, "pay", "a")) == ({"a": "compensating"}, ["charge"] * 3 + ["refund"] * 2)
        behaviour.mute = set()
        await lab.advance(app, LONG)
        assert await statuses(app) == {"a": "undone"}
        assert await ends(app) == [("a", "timeout pay")]
        await balanced(app)


async def answers_that_wait_are_seen_before_deadlines(kit: EngineKit) -> None:
    """An answer lay in the log while the saga's service was down: it counts, although its deadline is long over by the clock."""
    behaviour = Receivers()
    async with Lab(kit) as lab:
        services = _services(behaviour)
        app = await lab.start(services, hosted=["desk"])
        await place(app, "a")
        await lab.settled()
        await lab.stop(app)
        app = await lab.start(services, hosted=["stock"])
        await lab.settled()
        await lab.stop(app)
        lab.clock.advance(timedelta(hours=1))
        app = await lab.start(services)
        await lab.settled()
        assert await sent(app, "stock", "a") == ["reserve"]
        assert await statuses(app) == {"a": "running"}
        assert await world(app, "a") == ("reserved", "paid", "booked")


async def stuck_ones_have_three_ways_out(kit: EngineKit) -> None:
    """An undo that is not answered five times is stuck; retry, skip and take-over work beside a running process and without one.

    A takeover says what the table has for it, once, and nothing after it: in the decision's transaction, so whoever runs next publishes it.
    """
    behaviour, names = Receivers(), ["retried", "skipped", "taken"]
    async with Lab(kit) as lab:
        services = _services(behaviour)
        app = await lab.start(services)
        behaviour.mute, behaviour.refuse = {"refund"}, {"book"}
        await place(app, *names, "alone", "waiting")
        await app.execute(Cancel(order_id="early"))
        await lab.settled()
        for _ in range(5):
            await lab.advance(app, LONG)
        assert await statuses(app) == {**dict.fromkeys([*names, "alone", "waiting"], "stuck"), "early": "cancelling"}
        report = await Sagas(app).show("taken")
        assert (report.summary.stuck, report.current, report.remaining) == (("pay",), ("pay",), ("reserve",))
        behaviour.mute = set()
        await _operate_beside(lab, services, names)
        await lab.settled()
        await lab.stop(app)

        await _operate(lab, services, "waiting", "skip")
        for name in ("alone", "early"):
            await _operate(lab, services, name, "take_over")
        app = await lab.start(services)
        await place(app, "early")
        await lab.settled()
        taken, undone = ["alone", "early", "taken"], ["retried", "skipped", "waiting"]
        assert await statuses(app) == {**dict.fromkeys(taken, "taken_over"), **dict.fromkeys(undone, "undone")}
        assert await ends(app) == sorted([*((name, "failed book") for name in undone), ("alone", "taken over"), ("taken", "taken over")])
        expected = {"retried": ("released", "refunded"), "skipped": ("released", "paid"), "taken": ("reserved", "paid")}
        found = {name: await world(app, name) for name in expected}
        assert {name: tuple(word.split()[-1] for word in each[:2]) for name, each in found.items()} == expected
        line = (await Sagas(app).show("taken")).timeline[-1]
        assert (line.what, line.name, line.id) == ("taken over", "the bank has it", "ann")
        with pytest.raises(SagaRefused):
            await Sagas(app).retry("taken")
        with pytest.raises(UnknownMessage):
            await Sagas(app).skip("nobody", reason="none")
        with pytest.raises(ConfigurationError):
            await Sagas(app).skip("skipped", reason=" ")
        await balanced(app)


async def stuck_ones_are_seen(kit: EngineKit) -> None:
    """Figures count sagas under way by status; a stuck one is an alarm in health, with its id and since when, and the process is well.

    Over restarts, until it is helped.
    """
    behaviour = Receivers()
    async with Lab(kit) as lab:
        services = _services(behaviour)
        app = await lab.start(services)
        await place(app, "well", "ended")
        await lab.settled()
        await app.execute(Cancel(order_id="ended"))
        await lab.settled()
        assert await _seen(app) == ({"running": 1, "cancelling": 0, "compensating": 0, "stuck": 0}, None)
        behaviour.mute, behaviour.refuse = {"refund"}, {"book"}
        await place(app, "b", "a")
        await lab.settled()
        assert (await _seen(app))[0]["compensating"] == 2
        for _ in range(5):
            await lab.advance(app, LONG)
        await lab.kill(app)

        app = await lab.start(services)
        await lab.settled()
        counts, entry = await _seen(app)
        assert counts == {"running": 1, "cancelling": 0, "compensating": 0, "stuck": 2}
        assert entry is not None
        stuck_at = min([line.at for id in "ab" for line in (await Sagas(app).show(id)).timeline if line.what == "stuck"])
        assert (entry.name, entry.kind, entry.state) == ("desk saga order", "saga", "alarm")
        assert (entry.stuck, sorted(entry.ids), entry.since) == (2, ["a", "b"], stuck_at)
        rows = await app.hosts["desk"].store.reader.states.page(INDEX_KIND, after=index_key("order", "stuck", ""), limit=2)
        assert min(index_since(value) for _, value in rows) == to_micros(stuck_at), "no instance has to be read for it"
        assert (app.health().status, app.ready()) == ("ok", True)
        for id in "ab":
            await Sagas(app).take_over(id, reason="the bank has it")
        assert await _seen(app) == ({"running": 1, "cancelling": 0, "compensating": 0, "stuck": 0}, None)
        await lab.settled()
        await balanced(app)


async def _seen(app: Application) -> tuple[dict[str, int], Entry | None]:
    """Return what figures and health say of the saga, after a look."""
    host = app.hosts["desk"]
    await host.sagas.count(host.store.reader.states)
    labels = 'millrace_sagas{service="desk",saga="order",status="'
    lines = [line.removeprefix(labels).split('"} ') for line in app.metrics().splitlines() if line.startswith(labels)]
    entries = [entry for entry in app.health().entries if entry.kind == "saga"]
    return {status: int(count) for status, count in lines}, entries[0] if entries else None


async def _operate_beside(lab: Lab, services: Sequence[Service], names: Sequence[str]) -> None:
    for name, verb in zip(names, ("retry", "skip", "take_over"), strict=True):
        await _operate(lab, services, name, verb)


async def _operate(lab: Lab, services: Sequence[Service], id: str, verb: str) -> None:
    """Do what a command line does: in an application of its own, which runs nothing."""
    app = lab.new(services)
    async with looking_after(app, id) as sagas:
        reason: dict[str, Any] = {} if verb == "retry" else {"reason": "the bank has it"}
        await getattr(sagas, verb)(id, by="ann", **reason)


async def instances_keep_their_version(kit: EngineKit) -> None:
    """A running instance finishes under its own version, or goes on as `migrate` says; one whose version is unknown stops with an error."""
    behaviour = Receivers()
    async with Lab(kit) as lab:
        app = await lab.start(_services(behaviour), hosted=["desk"])
        await place(app, "a")
        await lab.settled()
        await lab.stop(app)

        app = await lab.start(_services(behaviour, order_saga(version=2)))
        await lab.settled()
        (row,) = await held(app, "desk")
        assert row.state == "dead"
        assert "began under version 1" in row.detail
        assert (await Sagas(app).show("a")).summary.version == 1
        await lab.stop(app)

    async with Lab(kit) as lab:
        app = await lab.start(_services(behaviour), hosted=["desk"])
        await place(app, "b", "c")
        await lab.settled()
        await lab.stop(app)
        app = await lab.start(_services(behaviour, order_saga(version=2), earlier=(order_saga(),)))
        await place(app, "new")
        await lab.settled()
        await app.execute(LetGo(order_id="c"))
        await lab.settled()
        assert await world(app, "c") == ("reserved committed", "paid", "booked shipped")
        await lab.stop(app)

        app = await lab.start(_services(behaviour, order_saga(version=2, migrate=_as_it_is)))
        for name in ("b", "new"):
            await app.execute(LetGo(order_id=name))
        await lab.settled()
        assert {row.id: row.version for row in (await Sagas(app).list(status="completed")).items} == {"b": 2, "c": 1, "new": 2}
        for name in ("b", "new"):
            assert await world(app, name) == ("reserved", "paid", "booked shipped")


def _as_it_is(_version: int, case: dict[str, Any]) -> Case:
    return msgspec.convert(case, Case)


async def pages_by_status_cover_each_once(kit: EngineKit) -> None:
    """Of many instances those of a status are listed page by page, and what has another status by now is not among them."""
    behaviour, names = Receivers(), [f"o{i:02}" for i in range(20)]
    async with Lab(kit) as lab:
        app = await lab.start(_services(behaviour))
        await place(app, *names)
        await lab.settled()
        for name in names[::2]:
            await app.execute(Cancel(order_id=name))
        await lab.settled()
        sagas = Sagas(app)
        for status, expected in (("undone", names[::2]), ("running", names[1::2]), ("stuck", []), (None, names)):
            found, cursor, more = list[str](), None, True
            while more:
                page = await sagas.list(status=status, limit=3, cursor=cursor)
                found += [row.id for row in page.items]
                cursor, more = page.next, page.next is not None
            assert found == expected, status
        await lab.advance(app, 31 * 24 * HOURS)
        assert await statuses(app) == dict.fromkeys(names[1::2], "running")
        assert (await sagas.list(status="undone")).items == ()


PROMISES = (
    steps_run_to_the_end,
    what_was_done_is_undone,
    undo_may_come_too_late,
    kills_between_steps_change_nothing,
    unanswered_steps_are_repeated_then_undone,
    answers_that_wait_are_seen_before_deadlines,
    stuck_ones_have_three_ways_out,
    stuck_ones_are_seen,
    instances_keep_their_version,
    pages_by_status_cover_each_once,
)
