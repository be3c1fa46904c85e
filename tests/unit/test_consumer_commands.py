"""`millrace consumers` on an application whose processes are all stopped: what is wanted holds from the next start on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from millrace.consumer_state import Wish, save_wish
from millrace.ports import PositionRow
from millrace.unit_of_work import UnitOfWork
from millrace.writer import Waiting
from tests.command_line import Millrace, complaint
from tests.sample_shop import Stock, application, place, settle

GROUP = "inventory.handlers"
VIEW = "orders.order-status"


def rows(millrace: Millrace, group: str) -> list[dict[str, Any]]:
    """Return the partitions of a consumer."""
    return [row for row in millrace("consumers list --json").json if row["group"].partition("@")[0] == group]


async def run_on(folder: Path, *orders: str) -> dict[str, int]:
    """Run the shop until it is settled, with some orders more, and return what is reserved."""
    async with application() as app:
        for order_id in orders:
            await place(app, order_id, "sku0")
        await app.caught_up(timeout=0.5)
        running = [loop for host in app.hosts.values() for loop in host.loops.values() if loop.orders.running]
        if len(running) == sum(len(host.loops) for host in app.hosts.values()):
            await settle(app)
        return {row.sku: row.reserved for row in (await app.states(Stock).list()).items}


def test_a_pause_holds_from_the_next_start_on(data: Path, millrace: Millrace) -> None:
    """Where nothing runs that is said; the list shows the state; a started shop obeys, until the consumer is resumed."""
    before = asyncio.run(run_on(data))
    ran = millrace(f"consumers pause {GROUP}")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines()[1].split(maxsplit=2) == [GROUP, "paused", "none runs; it holds from the next start on"]
    assert {row["state"] for row in rows(millrace, GROUP)} == {"paused"}
    assert {row["state"] for row in rows(millrace, VIEW)} == {"running"}

    assert asyncio.run(run_on(data, "late")) == before
    behind = [row for row in rows(millrace, GROUP) if row["lag"]]
    assert [row["lag"] for row in behind] == [1]
    assert 0 < behind[0]["lag_s"] < 60
    told = millrace(f"consumers resume {GROUP} --json").json
    assert told == {
        "consumer": GROUP,
        "state": "running",
        "instances": {"answered": [], "silent": [], "failed": {}},
    }
    assert asyncio.run(run_on(data)) == before | {"sku0": before["sku0"] + 1}


@pytest.mark.parametrize(
    "first, second, says",
    [
        ("pause", "start", "paused"),
        ("stop", "resume", "stopped"),
        ("stop", "pause", "stopped"),
        ("pause", "stop", ""),
        ("stop", "stop", ""),
    ],
)
def test_states_follow_each_other(data: Path, millrace: Millrace, first: str, second: str, says: str) -> None:
    """What is stopped is started, what is paused is resumed: the wrong verb is refused with status 1 and changes nothing."""
    assert millrace(f"consumers {first} {GROUP}").status == 0
    before = {row["state"] for row in rows(millrace, GROUP)}
    ran = millrace(f"consumers {second} {GROUP}")
    if says:
        assert ran.status == 1
        assert f"{GROUP} is {says}" in complaint(ran)
        assert {row["state"] for row in rows(millrace, GROUP)} == before
    else:
        assert ran.status == 0
        assert {row["state"] for row in rows(millrace, GROUP)} == {"stopped"}
    assert millrace(f"consumers restart {GROUP}").status == 0
    assert {row["state"] for row in rows(millrace, GROUP)} == {"running"}


@pytest.mark.parametrize(
    "command, names",
    [
        ("pause inventory.nobody", ["'inventory.nobody'", GROUP, "orders.order-status@1"]),
        ("reset inventory --to latest", ["'inventory'"]),
        ("reset orders.order-status@9 --to earliest", ["'orders.order-status@9'"]),
        (f"reset {GROUP} --to middle", ["'middle'", "earliest"]),
        (f"reset {GROUP}", ["--to"]),
        (f"rewind {GROUP} --to yesterday", ["'yesterday'", "RFC 3339"]),
        (f"rewind {GROUP} --to 2026-01-01T00:00:00", ["'2026-01-01T00:00:00'", "offset"]),
        (f"rewind {GROUP} --to 2026-02-30T00:00:00Z", ["'2026-02-30T00:00:00Z'"]),
        (f"rewind {GROUP} --to 9998-01-01T00:00:00Z", ["future"]),
        (f"stop {GROUP} --timeout soon", ["'soon'"]),
    ],
)
def test_mistakes_are_named(data: Path, millrace: Millrace, command: str, names: list[str]) -> None:
    """One line names what was wrong and what is allowed; status 2."""
    ran = millrace(f"consumers {command}")
    assert ran.status == 2
    line = complaint(ran)
    assert all(name in line for name in names), line


async def give_up(reason: str) -> None:
    """Have the consumer stop itself, as it does when it cannot go on."""

    class GivesUp(Waiting):
        async def run(self, unit: UnitOfWork) -> None:
            await save_wish(unit.transaction, "handlers", Wish(state="stopped", reason=reason, since=1_767_225_600_000_000))

    async with application() as app:
        work = GivesUp()
        app.hosts["inventory"].writer.submit(work)
        await work.finished


def test_who_has_stopped_itself_says_why(data: Path, millrace: Millrace) -> None:
    """The list and the doctor tell reason and way out; a start forgets the reason."""
    asyncio.run(give_up("100 messages in a row became dead letters"))
    said = f"{GROUP}: has stopped itself at 2026-01-01 00:00:00 UTC: 100 messages in a row became dead letters; `consumers start` when that"
    assert said in millrace("consumers list").out
    assert {(row["state"], row["reason"]) for row in rows(millrace, GROUP)} == {("stopped", "100 messages in a row became dead letters")}
    assert "100 messages in a row" in millrace("doctor").out
    assert millrace(f"consumers start {GROUP}").status == 0
    assert {(row["state"], row["reason"]) for row in rows(millrace, GROUP)} == {("running", "")}


def test_what_has_no_breaker_has_none_to_close(data: Path, millrace: Millrace) -> None:
    """The message says how a consumer gets one."""
    ran = millrace(f"consumers close-breaker {GROUP}")
    assert ran.status == 2
    assert f"{GROUP} has no breaker: none of its handlers is declared with breaker=" in complaint(ran)


def test_what_was_never_started_has_no_consumers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, millrace: Millrace) -> None:
    """Nothing is created by asking for a pause where there is nothing."""
    monkeypatch.setenv("SHOP_DATA", str(tmp_path / "nothing"))
    ran = millrace(f"consumers pause {GROUP}")
    assert ran.status == 2
    assert complaint(ran)
    assert not (tmp_path / "nothing").exists()


def test_a_dry_run_says_what_the_move_does(data: Path, millrace: Millrace) -> None:
    """Before and after per partition, in the table and in JSON; only without --dry-run does anything change."""
    before = rows(millrace, GROUP)
    shown = millrace(f"consumers reset {GROUP} --to earliest --dry-run")
    assert shown.out.splitlines()[0].split() == ["TOPIC", "PARTITION", "BEFORE", "AFTER", "END", "THEN"]
    assert shown.out.splitlines()[-1] == f"{GROUP}: nothing has changed; without --dry-run it goes on there"
    told = millrace(f"consumers reset {GROUP} --to earliest --dry-run --json").json
    assert told["dry_run"] is True
    assert [(each["before"], each["after"]) for each in told["partitions"]] == [(row["position"], 0) for row in before]
    assert rows(millrace, GROUP) == before

    done = millrace(f"consumers reset {GROUP} --to earliest --json").json
    assert done == told | {"dry_run": False}
    assert all(row["position"] == 0 and row["lag"] == row["end"] for row in rows(millrace, GROUP))
    assert "balanced" in millrace("ledger").out


def test_a_rewind_repeats_no_effect(data: Path, millrace: Millrace) -> None:
    """After the next start everything was read again and counted as duplicate, dead letters are as they were, the ledger is balanced."""
    stock = asyncio.run(run_on(data))
    letters = millrace("dead-letters list --json").json
    received = sum(row["received"] for row in rows(millrace, GROUP))
    an_hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    for group in (GROUP, VIEW):
        assert millrace(f"consumers rewind {group} --to {an_hour_ago}").status == 0
    assert asyncio.run(run_on(data)) == stock
    assert sum(row["duplicate"] for row in rows(millrace, GROUP)) == received
    assert sum(row["received"] for row in rows(millrace, GROUP)) == 2 * received
    assert millrace("dead-letters list --json").json == letters
    assert millrace("ledger").status == 0


def test_what_is_skipped_is_counted(data: Path, millrace: Millrace) -> None:
    """A reset to the end passes over what was not read, counts it as skipped, and keeps it for a reset to the beginning."""
    millrace(f"consumers pause {GROUP}")
    before = asyncio.run(run_on(data, "one", "two"))
    told = millrace(f"consumers reset {GROUP} --to latest --json").json
    assert sum(each["after"] - each["before"] for each in told["partitions"]) == 2
    millrace(f"consumers resume {GROUP}")
    assert asyncio.run(run_on(data)) == before
    assert sum(row["skipped"] for row in rows(millrace, GROUP)) == 2
    assert millrace("ledger").status == 0
    millrace(f"consumers reset {GROUP} --to earliest")
    assert asyncio.run(run_on(data)) == before | {"sku0": before["sku0"] + 2}
    assert millrace("ledger").status == 0


# --- The arithmetic of a move ------------------------------------------------------------------------------------------


def moved(row: PositionRow, target: int, *, first: int = 0, end: int = 100, identity: str = "") -> PositionRow:
    """Return a position after a move, having checked the ledger's equation."""
    row.move(target, first=first, end=end, identity=identity)
    assert row.offset - row.start + row.rewound == row.received
    return row


def row_at(offset: int) -> PositionRow:
    """Return the position of who has read so far, all of it handled."""
    return PositionRow("p", "t", 0, offset=offset, received=offset, handled=offset, sources={})


def test_moves_remember_known_ground_and_gaps() -> None:
    """Forward makes a gap, back makes known ground, and reading on forgets both piece by piece."""
    row = moved(moved(row_at(10), 20), 5)
    assert row.replay is not None
    assert (row.replay.known, [(gap.first, gap.end) for gap in row.replay.gaps]) == (20, [(10, 20)])
    row.cross(5, 14)
    assert [(gap.first, gap.end) for gap in row.replay.gaps] == [(14, 20)]
    row.cross(14, 20)
    assert row.replay is None


def test_passing_over_known_ground_makes_no_gap() -> None:
    """What was read before and is passed over the second time need not be read later."""
    row = moved(moved(row_at(10), 0), 10)
    assert (row.replay, row.skipped, row.rewound) == (None, 10, 10)


def test_known_ground_ends_where_the_log_does() -> None:
    """In a log that was restored from an older copy, what comes behind its end is new whatever was read before."""
    row = moved(row_at(50), 0, end=30)
    assert row.replay is not None
    assert row.replay.known == 30


def test_another_topic_of_that_name_has_no_known_ground() -> None:
    """A topic that was made anew is read as never before."""
    row = moved(row_at(50), 0, end=3, identity="another")
    assert (row.replay, row.identity, row.received) == (None, "another", 50)


def test_gaps_that_retention_removed_are_forgotten() -> None:
    """Nobody can read them any more."""
    row = moved(moved(row_at(10), 20), 30, first=25)
    assert row.replay is not None
    assert [(gap.first, gap.end) for gap in row.replay.gaps] == [(20, 30)]


@pytest.mark.parametrize("count, says", [("3", f"{GROUP} calls no activities"), ("-1", "-1 workers; choose from 0")])
def test_workers_are_for_activities(data: Path, millrace: Millrace, count: str, says: str) -> None:
    """What calls nothing outside has no workers to change; one line, status 2."""
    asyncio.run(run_on(data))
    ran = millrace(f"consumers workers {GROUP} {count}")
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert says in ran.err
