"""`millrace ledger` and `millrace doctor` on installations that something has happened to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest

from millrace import ManualClock, doctor
from millrace.inspection import Inspection
from tests.command_line import Millrace, change, complaint
from tests.sample_shop import application, place, settle

FIRST_LETTER = (
    "(processor, topic, partition, offset) in (select processor, topic, partition, offset from held where processor = 'handlers' limit 1)"
)
NOBODY = 65534


# --- Ledger ----------------------------------------------------------------------------------------------------------


def test_ledger_balances(data: Path, millrace: Millrace) -> None:
    """The ledger of a sound installation prints one line per group of equations and ends with 0."""
    ran = millrace("ledger")
    lines = [line.rsplit(None, 3) for line in ran.out.splitlines()]

    assert ran.status == 0
    assert [line[0].strip() for line in lines[1:]] == [
        "journal",
        "published",
        "received",
        "accounted",
        "waiting",
        "dead letters",
        "log",
    ]
    assert {line[3] for line in lines[1:]} == {"balanced"}


@pytest.mark.parametrize(
    "file,statement,named",
    [
        ("orders", "delete from journal where position = 3", "journal orders: expected 10, found 9 (-1)"),
        ("orders", "delete from journal where position = 10", "journal orders: expected 10, found 9 (-1)"),
        ("inventory", "delete from journal where position = 1", "published inventory: expected 6, found 7 (+1)"),
        ("log", "delete from record where place in (select min(place) from record)", "log "),
        ("inventory", f"delete from held where {FIRST_LETTER}", "dead letters inventory.handlers on orders/"),
    ],
)
def test_ledger_names_a_lost_row(file: str, statement: str, named: str, data: Path, millrace: Millrace) -> None:
    """One row of journal, log or dead letters that is gone is a difference that is named, and status 1."""
    change(data / f"{file}.db", statement)
    ran = millrace("ledger")

    assert ran.status == 1
    assert ran.err == ""
    assert f"difference: {named}" in ran.out
    assert [row["balanced"] for row in millrace("ledger --json").json].count(False) >= 1
    assert millrace("ledger --json").status == 1


def test_ledger_misses_a_store(data: Path, millrace: Millrace) -> None:
    """A store whose records are in the log but whose file is gone is named, not passed over."""
    (data / "orders.db").unlink()
    ran = millrace("ledger")

    assert ran.status == 2
    assert "orders.db: lost" in complaint(ran)


def test_service_that_was_never_started(data: Path, millrace: Millrace) -> None:
    """A service that has no store yet, and nothing in the log, is left out."""
    assert millrace("ledger", app="tests.sample_shop:drifted").status == 0
    assert millrace("consumers list", app="tests.sample_shop:drifted").status == 0


# --- Doctor ----------------------------------------------------------------------------------------------------------


def findings(millrace: Millrace, state: str, **options: str) -> list[tuple[str, str, str, str]]:
    """Return (where, what, found, advice) of the doctor's findings of a state."""
    ran = millrace("doctor --json", **options)
    found = [(f["where"], f["what"], f["found"], f["advice"] or "") for f in ran.json if f["state"] == state]
    assert ran.err == ""
    assert ran.status == (1 if any(f["state"] == "wrong" for f in ran.json) else 0)
    return found


def test_doctor_is_content(data: Path, millrace: Millrace) -> None:
    """A sound installation has nothing wrong; its dead letters are worth a look."""
    ran = millrace("doctor")

    assert ran.status == 0
    assert findings(millrace, "wrong") == []
    assert [each[1] for each in findings(millrace, "look")] == ["dead letters"]
    for what in ("journal_mode", "synchronous", "schema", "quick_check", "file_system", "free_disk", "clock", "relay"):
        assert f" {what} " in ran.out


def test_failed_timers_are_no_drift(data: Path, millrace: Millrace) -> None:
    """A timer whose message ended in the dead letters can be shown, and confuses neither ledger nor doctor."""
    asyncio.run(place_clock())
    (letter,) = [row for row in millrace("dead-letters list --json").json if row["topic"] == "@timers"]

    assert millrace(f"dead-letters show {letter['id']} --json").json["handler"] == "wind_up"
    assert findings(millrace, "wrong") == []
    assert millrace("ledger").status == 0
    assert all(row["topic"] != "@timers" for row in millrace("consumers list --json").json)


async def place_clock() -> None:
    """Place an order that sets a timer which fails."""
    async with application() as app:
        await place(app, "c1", "clock")
        await settle(app)


def break_header(file: Path) -> None:
    """Make it no database."""
    file.write_bytes(b"not a database at all" * 500)


def break_pages(file: Path) -> None:
    """Overwrite what lies in the middle."""
    content = bytearray(file.read_bytes())
    content[8192:] = bytes(b ^ 0x5A for b in content[8192:])
    file.write_bytes(content)


def replace_by_foreign(file: Path) -> None:
    """Put another program's database there."""
    file.unlink()
    change(file, "create table notes (text)", "insert into notes values ('mine')")


def make_newer(file: Path) -> None:
    """Let it say that a later release wrote it."""
    change(file, "pragma user_version=99")


def make_older(file: Path) -> None:
    """Let it say that an earlier release wrote it."""
    change(file, "pragma user_version=0")


@pytest.mark.parametrize("name", ["orders", "log"])
@pytest.mark.parametrize(
    "damage,reason",
    [
        (break_header, "corrupt"),
        (break_pages, "corrupt"),
        (replace_by_foreign, "not_ours"),
        (make_newer, "newer_version"),
        (make_older, "older_version"),
        (Path.unlink, "lost"),
        (lambda file: file.write_bytes(b""), "lost"),
    ],
)
def test_doctor_names_a_broken_file(damage: Callable[[Path], object], reason: str, name: str, data: Path, millrace: Millrace) -> None:
    """A file that cannot be used is named with the reason and what to do, and the others are examined all the same."""
    damage(data / f"{name}.db")
    wrong = findings(millrace, "wrong")

    assert any(name in where and reason in (what, *found.split()) and advice for where, what, found, advice in wrong) or (
        reason == "corrupt" and any(name in where and what == "quick_check" and advice for where, what, _, advice in wrong)
    ), wrong
    assert any(where == "store inventory" and what == "quick_check" for where, what, *_ in findings(millrace, "ok"))


def test_broken_file_elsewhere(data: Path, millrace: Millrace) -> None:
    """Other commands answer a file that cannot be used with one line that names it."""
    make_newer(data / "orders.db")
    ran = millrace("views list")

    assert ran.status == 2
    assert "orders.db: newer version: schema 99" in complaint(ran)


def test_doctor_names_a_locked_file(data: Path, millrace: Millrace) -> None:
    """A file that another program locks out everybody from is named as locked."""
    holder = apsw.Connection(str(data / "orders.db"))
    holder.execute("pragma locking_mode=exclusive")
    holder.execute("begin exclusive")
    try:
        (wrong,) = findings(millrace, "wrong")
    finally:
        holder.close()

    assert wrong[0].endswith("orders.db")
    assert wrong[1] == "locked"


@contextlib.contextmanager
def powerless() -> Iterator[None]:
    """Be a user who owns nothing, where this process may become one."""
    if os.getuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.mark.parametrize("folder_mode,reason", [(0o777, "writable"), (0o555, "read_only")])
def test_doctor_names_a_read_only_file(
    folder_mode: int, reason: str, data: Path, monkeypatch: pytest.MonkeyPatch, millrace: Millrace
) -> None:
    """Files that this user may only read are named, whether or not they can be read."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "data"
        shutil.copytree(data, folder)
        Path(place).chmod(0o755)
        for file in folder.glob("*.db"):
            file.chmod(0o444)
        folder.chmod(folder_mode)
        monkeypatch.setenv("SHOP_DATA", str(folder))
        with powerless():
            wrong = findings(millrace, "wrong")
        folder.chmod(0o755)

    assert {what for _, what, *_ in wrong} >= {reason}
    assert all("right to write" in advice for _, what, _, advice in wrong if what == reason)


def test_doctor_notices_drift(data: Path, millrace: Millrace) -> None:
    """A topic that is declared otherwise than it is found is named with both; one that nobody made yet is mentioned."""
    drift = findings(millrace, "wrong", app="tests.sample_shop:drifted")
    missing = findings(millrace, "look", app="tests.sample_shop:drifted")

    assert [(where, found) for where, _, found, _ in drift] == [
        ("topic orders", "5 partitions declared, 3 found; retention_s=60 declared, None found")
    ]
    assert ("topic files", "declared", "not there yet") in [each[:3] for each in missing]


@pytest.mark.parametrize(
    "file,statement,what",
    [
        ("log", "update record set at = at + 3600000000", "clock"),
        ("log", "update relay set position = position + 5 where source = '/shop/orders'", "restore"),
        ("log", "update topic set identity = 'another' where name = 'orders'", "position"),
        ("log", "update partition set next = 0", "position"),
        ("orders", "pragma journal_mode=delete", "journal_mode"),
    ],
)
def test_doctor_notices(file: str, statement: str, what: str, data: Path, millrace: Millrace) -> None:
    """Clocks, restored copies and settings that cannot work are named."""
    change(data / f"{file}.db", statement)

    assert what in {each[1] for each in findings(millrace, "wrong")}


async def test_doctor_notices_a_relay_behind(data: Path) -> None:
    """Journal rows that have waited for long are named with their number; fresh ones are no reason to worry."""
    change(data / "log.db", "update relay set position = position - 4, rows = rows - 4 where source = '/shop/orders'")
    app = application()
    filled = datetime.fromtimestamp((data / "orders.db").stat().st_mtime, UTC)
    moments = [filled, filled + timedelta(hours=1)]
    states: list[str] = []
    for moment in moments:
        app.clock = ManualClock(moment)
        async with Inspection(app, tolerant=True) as inspection:
            (relay,) = [f for f in await doctor.examine(inspection) if (f.where, f.what) == ("store orders", "relay")]
        states.append(relay.state)
        assert relay.found.startswith("4 journal rows wait")

    assert states == ["ok", "wrong"]
