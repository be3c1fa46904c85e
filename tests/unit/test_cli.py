"""The command line on an application whose processes are all stopped: what each command says, and its exit status."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from millrace import UnknownMessage, cli
from millrace.dead_letters import HeldId
from millrace.inspection import Inspection
from millrace.rebuild_watch import RebuildProgress
from tests.command_line import UNREADABLE, Millrace, change, complaint
from tests.sample_shop import application, place, settle

READING = (
    "topics",
    "consumers list",
    "dead-letters list",
    "dead-letters list --group",
    "dead-letters list --state all --limit 1",
    "views list",
    "ledger",
    "doctor",
)


# --- What each command says ------------------------------------------------------------------------------------------


def test_topics(data: Path, millrace: Millrace) -> None:
    """`topics` shows partitions, records and retention of each topic, aligned."""
    ran = millrace("topics")
    lines = ran.out.splitlines()

    assert ran.status == 0
    assert lines[0].split() == ["TOPIC", "PARTITIONS", "RECORDS", "KEPT", "NEWEST", "NOTE"]
    assert [line.split()[:4] for line in lines[1:2]] == [["internal.control", "1", "0", "1"]]
    assert [line.split()[:5] for line in lines[1:]][2:] == [
        ["orders", "3", "11", "for", "ever"],
        ["orders.commands", "3", "0", "7", "d"],
    ]
    assert len({line.index(line.split()[2]) + len(line.split()[2]) for line in lines}) == 1

    found = {topic["topic"]: topic for topic in millrace("topics --json").json}
    assert found["orders"]["records"] == 11
    assert sum(each["end"] - each["start"] for each in found["orders"]["partitions"]) == 11
    assert found["orders"]["newest_at"].endswith("Z")
    assert found["orders.commands"]["newest_at"] is None
    assert found["orders.commands"]["retention_s"] == 7 * 86_400


def test_consumers(data: Path, millrace: Millrace) -> None:
    """`consumers list` shows the position of each processor in each partition, and what it has not read with its age."""
    before = millrace("consumers list --json").json
    by_hand = asyncio.run(put_by_hand())
    after = millrace("consumers list --json").json

    assert {row["group"] for row in before} == {
        "orders.order",
        "orders.order-status@1",
        "inventory.handlers",
        "inventory.popularity@1",
    }
    assert all(row["position"] == row["end"] and row["lag"] == 0 and row["lag_s"] == 0 for row in before)
    assert sum(row["held"] for row in before if row["group"] == "inventory.handlers") == 4
    behind = [row for row in after if row["lag"]]
    assert {(row["group"], row["topic"], row["lag"]) for row in behind} == {
        ("orders.order-status@1", by_hand, 2),
        ("inventory.handlers", by_hand, 2),
    }
    assert all(row["owner"] is None and 0 < row["lag_s"] < 60 for row in behind)
    assert "inventory.handlers" in millrace("consumers list").out


def test_consumers_count(data: Path, millrace: Millrace) -> None:
    """What became of the records of a partition adds up to what was read of it, in JSON as in the table."""
    rows = millrace("consumers list --json").json
    parts = ("handled", "duplicate", "ignored", "skipped", "waiting", "dead")
    assert all(row["received"] == row["position"] == sum(row[part] for part in parts) for row in rows)
    assert all(row["held"] == row["waiting"] + row["dead"] for row in rows)
    total = {part: sum(row[part] for row in rows if row["group"] == "inventory.handlers") for part in parts}
    assert total == {"handled": 7, "duplicate": 0, "ignored": 0, "skipped": 0, "waiting": 0, "dead": 4}

    heads, *lines = (line.split() for line in millrace("consumers list").out.splitlines())
    assert " ".join(heads) == "GROUP STATE TOPIC PARTITION POSITION END LAG BEHIND HANDLED PASSED HELD KEYS OWNER"
    assert [[int(cell) for cell in line[8:12]] for line in lines] == [
        [row["handled"], row["duplicate"] + row["ignored"] + row["skipped"], row["held"], row["held_keys"]] for row in rows
    ]
    assert sum(row["held_keys"] for row in rows if row["group"] == "inventory.handlers") == 3


async def put_by_hand() -> str:
    """Append two records that nobody reads, because nothing runs, and return their topic."""
    app = application()
    await app.open()
    await app.parts.administration.put("orders", [("k", b"{}"), ("k", b"{}")])
    await app.stop()
    return "orders"


def test_dead_letters(data: Path, millrace: Millrace) -> None:
    """`dead-letters list` names each one by an id under which `show` finds it, and says when there are more."""
    rows = millrace("dead-letters list --json").json
    limited = millrace("dead-letters list --limit 1")

    assert [(row["processor"], row["reason"]) for row in rows].count(("handlers", "ValueError")) == 3
    assert {row["reason"] for row in rows} == {"ValueError", "undecodable", "invalid"}
    assert limited.out.splitlines()[-1] == f"1 of {len(rows)}; --limit {len(rows)} shows all"
    for row in rows:
        shown = millrace(f"dead-letters show {row['id']} --json").json
        assert {name: shown[name] for name in row} == row


def letters(millrace: Millrace, reason: str) -> list[dict[str, Any]]:
    """Return the dead letters with a reason."""
    return [row for row in millrace("dead-letters list --json").json if row["reason"] == reason]


def test_show_masks(data: Path, millrace: Millrace) -> None:
    """`dead-letters show` gives reason, handler and decoded content; personal fields are masked, unless raw is asked for."""
    letter = letters(millrace, "ValueError")[0]["id"]
    text = millrace(f"dead-letters show {letter}").out
    shown = millrace(f"dead-letters show {letter} --json").json

    assert "nobody can lift it" in text
    assert "reserve" in text
    assert "Lovelace" not in text
    assert shown["handler"] == "reserve"
    assert shown["attempts"] == 2
    assert shown["data"] == {"order_id": shown["key"], "sku": "cursed", "customer": "***"}
    assert "value_base64" not in shown


def test_show_masks_what_does_not_fit(data: Path, millrace: Millrace) -> None:
    """Data that do not fit their type are shown with the personal fields of that type masked all the same."""
    shown = millrace(f"dead-letters show {letters(millrace, 'invalid')[0]['id']} --json").json

    assert shown["data"] == {"order_id": 9, "customer": "***"}
    assert "OrderPlaced" in shown["note"]


def test_show_raw(data: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """`--raw` writes the original bytes and nothing else; without it nothing of unreadable bytes reaches the terminal."""
    letter = f"inventory:popularity@1:inventory:{find_unreadable()}"
    asked = ["--app", "tests.sample_shop", "dead-letters", "show", letter]
    cli.main(asked)
    shown = capsysbinary.readouterr().out
    cli.main([*asked, "--raw"])

    assert b"cannot be decoded" in shown
    assert b"\x1b" not in shown
    assert capsysbinary.readouterr().out == UNREADABLE


def find_unreadable() -> str:
    """Return partition and offset of the record that nobody can read."""

    async def find() -> str:
        async with Inspection(application()) as inspection:
            (row,) = await inspection.stores["inventory"].reader.held.load("popularity@1")
            return f"{row.partition}:{row.offset}"

    return asyncio.run(find())


@pytest.mark.parametrize("name", ["", "x", "a:b:c", "a:b:c:d:e", "inventory:handlers:orders:0:999999", "::::"])
def test_show_unknown(name: str, data: Path, millrace: Millrace) -> None:
    """An id of nothing is answered with one line and status 2."""
    assert millrace(f"dead-letters show {name or '-'}").status == 2


def test_held_ids_are_stable() -> None:
    """An id is what its text spells, whatever a processor is called."""
    held = HeldId("orders", "a:b@1", "orders.commands", 2, 17)

    assert HeldId.parse(str(held)) == held
    with pytest.raises(UnknownMessage, match="service:processor:topic:partition:offset"):
        HeldId.parse("orders")


def test_views(data: Path, millrace: Millrace) -> None:
    """`views list` shows each build with its documents."""
    rows = {row["view"]: row for row in millrace("views list --json").json}

    assert rows["order-status"] == {
        "view": "order-status",
        "service": "orders",
        "build": 1,
        "version": 1,
        "declared_version": 1,
        "state": "serving",
        "documents": 10,
        "lag": 0,
    }
    assert rows["popularity"]["documents"] == 2
    assert "popularity" in millrace("views list").out


@pytest.mark.parametrize("command", READING)
def test_json_is_one_array(command: str, data: Path, millrace: Millrace) -> None:
    """`--json` on a command that lists prints one array of objects and nothing else."""
    ran = millrace(f"{command} --json")

    assert ran.status == 0
    assert ran.err == ""
    assert ran.json
    assert all(isinstance(row, dict) for row in ran.json)


@pytest.mark.parametrize("command", READING)
def test_reading_leaves_no_trace(command: str, data: Path, millrace: Millrace) -> None:
    """A command that reads leaves every file as it was and adds none."""
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    millrace(command)

    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


# --- Applications, names and settings --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [*READING, "views rebuild order-status"])
def test_absent_folder(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, millrace: Millrace) -> None:
    """A data folder that is not there is named, and is still not there afterwards."""
    monkeypatch.setenv("SHOP_DATA", str(tmp_path / "nowhere"))
    ran = millrace(command)

    assert ran.status == 2
    assert f"{tmp_path / 'nowhere'}: absent: there is no such folder" in complaint(ran)
    assert list(tmp_path.iterdir()) == []


def test_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, millrace: Millrace) -> None:
    """A folder in which nothing was started yet is named as such, and nothing is put there."""
    monkeypatch.setenv("SHOP_DATA", str(tmp_path))

    assert "log.db: absent" in complaint(millrace("topics"))
    assert "log.db: absent" in complaint(millrace("views rebuild order-status"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "app,said",
    [
        ("nowhere", "No module named 'nowhere'"),
        ("tests.sample_shop:nothing", "nothing"),
        ("tests.sample_shop:orders", "is Service"),
        ("tests.sample_shop:Order", "could not be made"),
        ("", "Empty module name"),
    ],
)
def test_unknown_application(app: str, said: str, data: Path, millrace: Millrace) -> None:
    """What is no application is answered with one line and status 2."""
    ran = millrace("topics", app=app)

    assert ran.status == 2
    assert said in complaint(ran)


def test_setting_missing(monkeypatch: pytest.MonkeyPatch, millrace: Millrace) -> None:
    """An application that refuses its settings says so in one line."""
    monkeypatch.delenv("SHOP_DATA", raising=False)
    ran = millrace("topics")

    assert ran.status == 2
    assert "SHOP_DATA is not set" in complaint(ran)


def test_entry_point(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, millrace: Millrace) -> None:
    """An installed application is found by its name, and an unknown name is answered with those that are installed."""
    info = tmp_path / "corner_shop-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: corner-shop\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[millrace.applications]\ncorner = tests.sample_shop:application\n")
    monkeypatch.syspath_prepend(tmp_path)

    assert millrace("topics", app="corner").status == 0
    assert "corner" in complaint(millrace("topics", app="cornre"))


@pytest.mark.parametrize(
    "command", ["", "nothing", "consumers", "topics --what", "dead-letters list --limit 0", "dead-letters list --state x"]
)
def test_usage(command: str, data: Path, millrace: Millrace) -> None:
    """A mistake in the command line is one line that points at the help, with status 2."""
    ran = millrace(command)

    assert ran.status == 2
    assert "--help" in complaint(ran)


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` and `--help` need no application; the help names every command."""
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as end:
            cli.main([option])
        assert end.value.code == 0
    out = capsys.readouterr().out

    assert out.startswith("millrace ")
    assert all(name in out for name in ("topics", "consumers", "dead-letters", "views", "ledger", "doctor"))


# --- Rebuild ---------------------------------------------------------------------------------------------------------


def test_rebuild(data: Path, millrace: Millrace) -> None:
    """`views rebuild` returns when a new build serves with the same documents; nothing else has run meanwhile."""
    asyncio.run(put_by_hand())
    before = millrace("consumers list --json").json
    ran = millrace("views rebuild order-status")
    views = {row["view"]: row for row in millrace("views list --json").json}
    after = millrace("consumers list --json").json

    assert ran.status == 0, ran.err
    assert ran.out.startswith("order-status: build 2 serves")
    assert "0 %" in ran.err.splitlines()[0]
    assert ran.err.splitlines()[-1].endswith("100 %")
    assert (views["order-status"]["build"], views["order-status"]["documents"]) == (2, 10)
    untouched = [row for row in before if not row["group"].startswith("orders.order-status")]
    assert [{**row, "lag_s": 0} for row in after if row["group"] in {each["group"] for each in untouched}] == [
        {**row, "lag_s": 0} for row in untouched
    ]
    assert (data / "starts").read_text() == "started\n"
    assert millrace("ledger").status == 0


def test_rebuild_of_a_view_never_built(data: Path, millrace: Millrace) -> None:
    """A view without any build is built from the whole log before the command returns."""
    change(
        data / "inventory.db",
        "delete from view",
        "delete from document",
        "delete from position where processor = 'popularity@1'",
        "delete from held where processor = 'popularity@1'",
    )
    assert [row["state"] for row in millrace("views list --json").json] == ["serving", "not built"]

    assert millrace("views rebuild inventory/popularity").status == 0
    assert [row["documents"] for row in millrace("views list --json").json] == [10, 2]


def test_rebuild_with_dead_letters(data: Path, monkeypatch: pytest.MonkeyPatch, millrace: Millrace) -> None:
    """A new build that serves with more dead letters than the old one is said to, with status 1."""
    monkeypatch.setenv("SHOP_BROKEN", "popularity")
    ran = millrace("views rebuild popularity")

    assert ran.status == 1
    assert "build 2 serves" in ran.out
    assert ran.err.splitlines()[-1].startswith("millrace: popularity: 7 dead letters more")
    monkeypatch.delenv("SHOP_BROKEN")
    assert millrace("views rebuild popularity").status == 0


def test_rebuild_that_cannot_end(data: Path, monkeypatch: pytest.MonkeyPatch, millrace: Millrace) -> None:
    """Where dead letters keep messages behind them, the old build goes on serving; once mended, a rebuild begins anew."""
    asyncio.run(place_again())
    monkeypatch.setenv("SHOP_BROKEN", "order_status")
    broken = millrace("views rebuild order-status")
    monkeypatch.delenv("SHOP_BROKEN")
    between = [row["state"] for row in millrace("views list --json").json if row["view"] == "order-status"]
    mended = millrace("views rebuild order-status")

    assert broken.status == 1
    assert "the old build keeps serving" in broken.err.splitlines()[-1]
    assert between == ["serving", "building"]
    assert mended.status == 0
    assert [row["build"] for row in millrace("views list --json").json if row["view"] == "order-status"] == [3]
    assert millrace("ledger").status == 0


async def place_again() -> None:
    """Place an order that there is."""
    async with application() as app:
        await place(app, "o1", "sku1")
        await settle(app)


@pytest.mark.parametrize("name", ["nothing", "inventory/order-status"])
def test_rebuild_unknown(name: str, data: Path, millrace: Millrace) -> None:
    """An unknown view is answered with the names of those that there are."""
    ran = millrace(f"views rebuild {name}")

    assert ran.status == 2
    assert "order-status, popularity" in complaint(ran)


@pytest.mark.parametrize(
    "read, of, done, percent",
    [(0, 510, False, 0), (509, 510, False, 99), (510, 510, False, 100), (510, 510, True, 100), (0, 0, False, 100), (0, 0, True, 100)],
)
def test_progress_is_100_when_all_is_read(read: int, of: int, done: bool, percent: int) -> None:
    """Neither before nor after that: the swap to the new build reads nothing more."""
    found = RebuildProgress(view="v", build=2, read=read, of=of, dead=0, dead_before=None, done=done)
    assert found.percent == percent
