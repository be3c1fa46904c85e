"""Commands from outside: idempotency keys, positions to wait for, commits that are shared."""

from __future__ import annotations

import asyncio

import pytest

from millrace.application import Application
from millrace.errors import IdempotencyConflict, PositionUnknown, Rejected, StoreUnavailable, UnknownMessage
from millrace.execution import IdempotencyKey, Outcome
from millrace.position import Position
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, journal_rows
from millrace.testing.conformance.sample import Add, Board, Remind, teller

KEY = IdempotencyKey("route", "k1", "body 1")


def answer(outcome: Outcome) -> bytes:
    """Return something that differs from one decision to the next."""
    return f"version {outcome.version}".encode()


async def once(app: Application, key: IdempotencyKey = KEY, *, n: int = 1) -> Outcome:
    """Execute with an idempotency key."""
    return await app.execute(Add(name="a", n=n), idempotency=key, answer=answer)


async def repeats_get_the_first_answer(kit: EngineKit) -> None:
    """The same key again, at once or after a restart, changes nothing and gets the first answer and position."""
    async with Lab(kit) as lab:
        app = await lab.start([teller()])
        first = await once(app)
        await add(app, "a")
        again = await once(app)
        assert (first.repeated, first.answer) == (False, b"version 1")
        assert (again.repeated, again.answer, again.position) == (True, b"version 1", first.position)
        await lab.kill(app)
        app = await lab.start([teller()])
        assert (await once(app)).answer == b"version 1"
        assert await journal_rows(app, "teller") == 2


async def other_requests_under_a_key_are_refused(kit: EngineKit) -> None:
    """A key belongs to its first fingerprint; another scope or key is another request."""
    async with Lab(kit) as lab:
        app = await lab.start([teller()])
        await once(app)
        with pytest.raises(IdempotencyConflict):
            await once(app, IdempotencyKey("route", "k1", "body 2"))
        assert not (await once(app, IdempotencyKey("route", "k2", "body 2"))).repeated
        assert not (await once(app, IdempotencyKey("another", "k1", "body 2"))).repeated
        assert await journal_rows(app, "teller") == 3


async def keys_hold_within_one_commit(kit: EngineKit) -> None:
    """Requests with one key that share a commit: one is done, the others get its answer, another fingerprint is refused."""
    async with Lab(kit) as lab:
        app = await lab.start([teller()])
        other = IdempotencyKey("route", "k1", "body 2")
        answers = await asyncio.gather(*(once(app, key) for key in (KEY, KEY, other, KEY)), return_exceptions=True)
        assert [getattr(each, "repeated", None) for each in answers] == [False, True, None, True]
        assert isinstance(answers[2], IdempotencyConflict)
        assert {each.answer for each in answers if isinstance(each, Outcome)} == {b"version 1"}
        assert await journal_rows(app, "teller") == 1


async def refusals_are_not_stored(kit: EngineKit) -> None:
    """A refused or failed request may be tried again under its key."""
    async with Lab(kit) as lab:
        app = await lab.start([teller()])
        with pytest.raises(Rejected):
            await once(app, n=-1)
        lab.faults.fail_next("teller")
        with pytest.raises(StoreUnavailable):
            await once(app)
        outcome = await once(app)
        assert (outcome.repeated, outcome.version) == (False, 1)


async def keys_hold_over_processes(kit: EngineKit) -> None:
    """Two processes that are sent one request do it once."""
    async with Lab(kit) as lab:
        one, two = await lab.start([teller()]), await lab.start([teller()])
        answers = await asyncio.gather(*(once(app) for app in (one, two, one, two)))
        assert sorted(each.repeated for each in answers) == [False, True, True, True]
        assert {each.answer for each in answers} == {b"version 1"}
        assert await journal_rows(one, "teller") == 1


async def failing_answers_fail_alone(kit: EngineKit) -> None:
    """A command whose answer cannot be made has not happened; those that shared its commit have."""

    def fail(outcome: Outcome) -> bytes:
        raise ZeroDivisionError

    async with Lab(kit) as lab:
        app = await lab.start([teller()])
        good = [app.execute(Add(name=name)) for name in "ab"]
        answers = await asyncio.gather(good[0], app.execute(Add(name="c"), answer=fail), good[1], return_exceptions=True)
        assert isinstance(answers[1], ZeroDivisionError)
        assert [each.version for each in answers if isinstance(each, Outcome)] == [1, 1]
        assert await journal_rows(app, "teller") == 2


async def concurrent_commands_share_commits(kit: EngineKit) -> None:
    """Commands that are there together are made durable together, without a timer."""
    async with Lab(kit) as lab:
        app = await lab.start([teller()])
        await add(app, "warm")
        await lab.settled()
        before = lab.faults.commits["teller"]
        async with lab.faults.held("teller"):
            waiting = [asyncio.ensure_future(app.execute(Add(name=f"n{i}"))) for i in range(100)]
            await lab.eventually(app, lambda: app.hosts["teller"].writer.waiting == 100)
        await asyncio.gather(*waiting)
        assert lab.faults.commits["teller"] - before <= 3


async def writers_read_what_they_wrote(kit: EngineKit) -> None:
    """Whoever waits for a position, handed over as text, finds the command's effect in the view."""
    async with Lab(kit) as lab:
        app = await lab.start()
        for n in range(1, 8):
            outcome = await app.execute(Add(name="a", n=n))
            await app.wait_for(Board, Position.parse(str(outcome.position)), key="a", timeout=kit.patience)
            board = await app.views(Board).get("a")
            assert board is not None
            assert board.total == n * (n + 1) // 2


async def positions_of_others_are_refused(kit: EngineKit) -> None:
    """A position of another source or epoch is unknown; one that is not reached in time says so."""
    async with Lab(kit) as lab:
        app = await lab.start()
        position = (await app.execute(Add(name="a"))).position
        place = next(iter(position.places))
        with pytest.raises(PositionUnknown):
            await app.wait_for(Board, Position(source="/other/teller", epoch=1, places=position.places))
        with pytest.raises(PositionUnknown):
            await app.wait_for(Board, Position(source=position.source, epoch=2, places=position.places))
        with pytest.raises(TimeoutError):
            await app.wait_for(Board, Position(source=position.source, epoch=1, places={place: 10**9}), timeout=0.01)
        with pytest.raises(UnknownMessage):
            await app.execute(Remind(name="a"))


PROMISES = (
    repeats_get_the_first_answer,
    other_requests_under_a_key_are_refused,
    keys_hold_within_one_commit,
    refusals_are_not_stored,
    keys_hold_over_processes,
    failing_answers_fail_alone,
    concurrent_commands_share_commits,
    writers_read_what_they_wrote,
    positions_of_others_are_refused,
)
