"""The commands `millrace dead-letters` on a folder where nothing runs: what they change holds from the next start on."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import UNREADABLE, Millrace, complaint
from tests.sample_shop import application, settle

CURSED = "--service inventory --processor handlers --reason ValueError"


def letters(millrace: Millrace, options: str) -> list[dict[str, Any]]:
    """Return the letters that some options mean."""
    return millrace(f"dead-letters list {options} --json").json


async def run_it() -> None:
    """Run the shop until it has nothing to do."""
    async with application() as app:
        await settle(app)


def test_filters_and_groups(data: Path, millrace: Millrace) -> None:
    """Each option leaves out what it does not mean; a group counts what it lists, and its example is one of that."""
    cursed = letters(millrace, CURSED)
    assert {row["key"] for row in cursed} == {"bad0", "bad1", "bad2"}
    (fingerprint,) = {row["fingerprint"] for row in cursed}
    (group,) = letters(millrace, f"--fingerprint {fingerprint} --group")
    assert (group["count"], group["reason"], group["example"]) == (3, "ValueError", cursed[0]["id"])
    assert letters(millrace, "--key bad1") == [row for row in cursed if row["key"] == "bad1"]
    assert letters(millrace, "--topic nowhere") == letters(millrace, "--closed") == []
    assert len(letters(millrace, "--since 2020-01-01T00:00:00Z")) == len(letters(millrace, "")) == len(letters(millrace, "--state all"))
    assert "there is no service 'nobody'" in complaint(millrace("dead-letters list --service nobody"))
    assert "is no moment" in complaint(millrace("dead-letters list --since yesterday"))


def test_redriven_without_a_server_they_wait_for_the_next_start(data: Path, millrace: Millrace) -> None:
    """What is due again is tried when the application runs, and is dead again where it was, with its history."""
    before = letters(millrace, CURSED)
    told = millrace(f"dead-letters redrive {CURSED}")
    assert (told.status, told.out) == (0, "3 of 3 letters are due again; running processes handle them, or the next start\n")
    assert letters(millrace, CURSED) == []
    assert {row["state"] for row in letters(millrace, f"{CURSED} --state all")} == {"retry"}
    asyncio.run(run_it())
    after = letters(millrace, CURSED)
    assert [(row["id"], row["attempts"], row["redriven"]) for row in after] == [(row["id"], row["attempts"], 1) for row in before]
    assert "it died before" in millrace(f"dead-letters show {after[0]['id']}").out
    waited = millrace(f"dead-letters redrive {after[0]['id']} --wait 0.1")
    assert (waited.status, "0 were handled, 0 are dead again, 1 still wait" in waited.out) == (1, True)
    assert millrace("ledger").status == 0


def test_edited_and_discarded_they_are_closed(data: Path, millrace: Millrace) -> None:
    """An edit takes the place and keeps what it replaced; a discard needs a note; both are listed, and none can be closed twice."""
    one, other = (row["id"] for row in letters(millrace, CURSED)[:2])
    assert "sku: Expected `str`, got `int`" in complaint(millrace(f"dead-letters edit {one} --set sku=7"))
    assert "sky: OrderPlaced has no such field" in complaint(millrace(f"dead-letters edit {one} --set sky=blue"))
    assert "write FIELD=VALUE" in complaint(millrace(f"dead-letters edit {one} --set sku"))
    assert "--data: " in complaint(millrace(f"dead-letters edit {one} --data @nowhere.json"))
    edited = millrace(f"dead-letters edit {one} --set sku=plain --json").json
    assert (edited["done"], edited["successor"].split("-")[0]) == ("edited", "inventory")
    assert "the following arguments are required: --note" in complaint(millrace(f"dead-letters discard {other}"))
    assert millrace(f"dead-letters discard {other} --note gone --json").json == {"discarded": 1}
    again = millrace(f"dead-letters discard {other} --note gone")
    assert (again.status, "was discarded before" in again.err) == (1, True)
    assert [(row["id"], row["how"], row["note"]) for row in letters(millrace, "--closed")] == [
        (one, "edited", ""),
        (other, "discarded", "gone"),
    ]
    assert "edited at" in millrace(f"dead-letters show {one}").out
    assert "discarded at" in millrace(f"dead-letters show {other}").out
    asyncio.run(run_it())
    assert one not in {row["id"] for row in letters(millrace, "--state all")}
    assert millrace("ledger").status == 0


def test_export_writes_the_original_bytes_once(data: Path, tmp_path: Path, millrace: Millrace) -> None:
    """One line a letter, to stdout or to a file that was not there."""
    target = tmp_path / "letters.jsonl"
    assert millrace(f"dead-letters export --to {target}").status == 0
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert {line["id"] for line in lines} == {row["id"] for row in letters(millrace, "")}
    assert UNREADABLE in {base64.b64decode(line["value_base64"]) for line in lines}
    assert "File exists" in complaint(millrace(f"dead-letters export --to {target}"))


@pytest.mark.parametrize("options", ["", "a:b:c:0:1 --all", "a:b:c:0:1 --key k"])
def test_nobody_redrives_more_than_was_said(options: str, data: Path, millrace: Millrace) -> None:
    """Neither nothing nor two ways to name letters mean all of them."""
    for command in (f"redrive {options}", f"discard {options} --note x"):
        assert "name one letter by its id, or say which by options, or --all" in complaint(millrace(f"dead-letters {command}"))
    assert letters(millrace, "--closed") == []


def test_unfinished_runs_are_named(data: Path, millrace: Millrace) -> None:
    """There is none, and none can be gone on with."""
    assert millrace("dead-letters runs").out == "no redrive was interrupted\n"
    assert "there is no unfinished redrive 'x'" in complaint(millrace("dead-letters redrive --resume x"))
    assert "is not above 0" in complaint(millrace("dead-letters redrive --all --rate 0"))
