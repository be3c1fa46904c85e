"""Dead letters dealt with beside a running server: over HTTP, by the command line, and with a token where the server asks for one."""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.hand_written_records import event
from tests.e2e.running_shop import RunningShop, is_balanced, millrace, run
from tests.shop_log import Pen

LETTERS = "/console/api/dead-letters"
ADJUST = "parcomolo.inventory.adjust-stock.v1"
SKU = "cheese"
TOKEN = "correct-horse-battery"


@pytest.fixture
def shop(data: Path) -> Iterator[RunningShop]:
    """A running shop."""
    with RunningShop(data, shipping_delay="0") as found:
        yield found


async def misfit(shop: RunningShop, *numbers: int) -> list[dict[str, Any]]:
    """Put commands that do not fit their type and return the dead letters, one each."""
    values = [
        event(ADJUST, {"sku": SKU, "delta": "many", "reason": f"delivery {number}"}, id=str(number), partitionkey=SKU) for number in numbers
    ]
    async with Pen(shop.data) as pen:
        await pen.put_events("inventory.commands", values)

    def arrived() -> list[dict[str, Any]] | None:
        found = shop.get(f"{LETTERS}?service=inventory&reason=invalid")["items"]
        return found if len(found) == len(numbers) else None

    return shop.until(arrived)


def on_hand(shop: RunningShop) -> int:
    """Return how many pieces there are."""
    return shop.get(f"/api/stock/{SKU}")["on_hand"]


async def test_a_poison_command_is_edited_and_another_discarded(shop: RunningShop, data: Path) -> None:
    """Found by its group, shown, corrected and handled; the other one is given up; both stay visible, and the ledger is balanced."""
    before = on_hand(shop)
    one, other = await misfit(shop, 1, 2)
    (group,) = shop.get(f"{LETTERS}/groups?fingerprint={one['fingerprint']}")
    assert (group["count"], group["reason"], group["example"]) == (2, "invalid", one["id"])
    shown = shop.get(f"{LETTERS}/{one['id']}")
    assert (shown["data"], shown["state"], "value_base64" in shown) == (
        {"sku": SKU, "delta": "many", "reason": "delivery 1"},
        "dead",
        False,
    )
    raw = shop.get(f"{LETTERS}/{one['id']}?raw=true")
    assert json.loads(base64.b64decode(raw["value_base64"]))["data"]["delta"] == "many"

    refused = shop.http.post(f"{LETTERS}/{one['id']}/edit", json={"set": {"delta": "more"}})
    assert (refused.status_code, refused.json()["field"]) == (422, "delta")
    edited = shop.http.post(f"{LETTERS}/{one['id']}/edit", json={"set": {"delta": 7}, "note": "a typing error", "by": "ada"})
    assert edited.status_code == 200, edited.text
    shop.until(lambda: on_hand(shop) == before + 7)
    again = shop.http.post(f"{LETTERS}/{one['id']}/discard", json={"note": "twice"})
    assert (again.status_code, again.json()["reason"]) == (409, "letter_state")

    discarded = shop.http.post(f"{LETTERS}/{other['id']}/discard", json={"note": "never delivered"})
    assert (discarded.status_code, discarded.json()) == (200, {"discarded": 1})
    closed = shop.get(f"{LETTERS}?closed=true")["items"]
    assert [(each["how"], each["note"]) for each in closed] == [("edited", "a typing error"), ("discarded", "never delivered")]
    assert closed[0]["successor"] == edited.json()["successor"]
    assert on_hand(shop) == before + 7
    assert is_balanced(data)


async def test_letters_are_redriven_from_both_sides(shop: RunningShop, data: Path) -> None:
    """Some over HTTP, in two calls of one run, the rest by the command line, which is told what became of them; export has the bytes."""
    await misfit(shop, 1, 2, 3)
    first = shop.http.post(f"{LETTERS}/redrive", json={"where": {"service": "inventory"}, "limit": 2}).json()
    assert (first["redriven"], first["of"], first["finished"]) == (2, 3, False)
    last = shop.http.post(f"{LETTERS}/redrive", json={"run": first["run"]}).json()
    assert (last["redriven"], last["finished"]) == (3, True)
    dead = shop.until(lambda: found if len(found := shop.get(f"{LETTERS}?reason=invalid")["items"]) == 3 else None)
    assert [each["redriven"] for each in dead] == [1, 1, 1]

    ran = run("millrace", "--app", "parcomolo", "dead-letters", "redrive", "--service", "inventory", "--wait", "30", "--json", data=data)
    told = [json.loads(line) for line in ran.out.splitlines()]
    assert (ran.status, told[-1]["outcome"]) == (1, {"handled": 0, "dead": 3, "waiting": 0}), ran
    exported = shop.http.get(f"{LETTERS}/export?service=inventory")
    lines = [json.loads(line) for line in exported.text.splitlines()]
    assert exported.headers["content-type"].startswith("application/x-ndjson")
    assert {json.loads(base64.b64decode(line["value_base64"]))["id"] for line in lines} == {"1", "2", "3"}
    assert [len(line["history"]) for line in lines] == [2, 2, 2]
    assert millrace(data, "dead-letters", "runs") == []
    for body in ({}, {"where": {"servise": "x"}}, {"where": {"service": "nobody"}}, {"id": "x", "run": "y"}):
        assert shop.http.post(f"{LETTERS}/redrive", json=body).status_code == 422, body
    assert shop.http.get(f"{LETTERS}/inventory:x:y:0:1").status_code == 404
    assert is_balanced(data)


def test_bytes_and_changes_take_the_token(data: Path) -> None:
    """Where a token is set, whoever has none sees masked letters and nothing else; the letter need not exist for the refusal."""
    with RunningShop(data, shipping_delay="0", admin_token=TOKEN) as shop:
        assert shop.get(LETTERS) == {"items": [], "next": None}
        assert shop.http.get(f"{LETTERS}/a:b:c:0:1").status_code == 404
        guarded = [
            shop.http.get(f"{LETTERS}/a:b:c:0:1?raw=true"),
            shop.http.get(f"{LETTERS}/export"),
            shop.http.post(f"{LETTERS}/redrive", json={"where": {}}),
            shop.http.post(f"{LETTERS}/a:b:c:0:1/edit", json={"set": {}}),
            shop.http.post(f"{LETTERS}/a:b:c:0:1/discard", json={"note": "no"}),
        ]
        assert [answer.status_code for answer in guarded] == [401] * 5
        done = shop.http.post(f"{LETTERS}/redrive", json={"where": {}}, headers={"Authorization": f"Bearer {TOKEN}"})
        assert (done.status_code, done.json()["of"]) == (200, 0)
        shop.process.send_signal(signal.SIGTERM)
        assert shop.process.wait(30) == 0
