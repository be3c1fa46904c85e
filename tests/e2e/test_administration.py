"""Consumers looked after beside two running servers on one folder: by command line, over HTTP, with an instance that does not answer."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.command_line import Ran
from tests.e2e.running_shop import RunningShop, is_balanced, millrace, run

GROUP = "payments.handlers"
VIEW = "orders.order-status"
CONSUMERS = "/console/api/consumers"
TOKEN = "correct-horse-battery"
PATIENT = ("--timeout", "50")
ANSWER_S = 60.0
TRIES = 5


@pytest.fixture
def two(data: Path) -> Iterator[tuple[RunningShop, RunningShop]]:
    """Two instances of every service on one folder."""
    with RunningShop(data, shipping_delay="0") as one, RunningShop(data, shipping_delay="0") as other:
        one.http.timeout = other.http.timeout = ANSWER_S
        yield one, other


def partitions(shop: RunningShop, group: str) -> list[dict[str, Any]]:
    """Return the partitions of a consumer, as the shop lists them."""
    return [row for row in shop.get(CONSUMERS) if row["group"].partition("@")[0] == group]


def state_of(shop: RunningShop, group: str) -> str:
    """Return the state that a shop's health shows."""
    (entry,) = [entry for entry in shop.get("/health")["entries"] if entry["name"].partition("@")[0] == group]
    return entry["state"]


def test_a_pause_reaches_both_and_outlives_them(two: tuple[RunningShop, RunningShop], data: Path) -> None:
    """Paused by the command line, no instance takes anything, not even one that was killed and started again; resumed, all goes on."""
    one, other = two
    ran = run("millrace", "--app", "parcomolo", "consumers", "pause", GROUP, *PATIENT, data=data)
    assert (ran.status, ran.err) == (0, ""), ran
    assert "2 of 2 instances answered" in ran.out
    assert [state_of(shop, GROUP) for shop in two] == ["paused", "paused"]
    order_id = one.place(("cheese", 1))
    one.told(order_id, "stock-reserved")
    other.kill()
    with RunningShop(data, shipping_delay="0") as again:
        assert state_of(again, GROUP) == "paused"
        again.told(order_id, "stock-reserved")
        assert 'millrace_running{service="payments",processor="handlers"} 0' in again.http.get("/metrics").text
        assert one.look(order_id)["payment_status"] == "unpaid"
        assert {row["state"] for row in partitions(again, GROUP)} == {"paused"}
        assert sum(row["lag"] for row in partitions(again, GROUP)) > 0

        answer = again.http.post(f"{CONSUMERS}/{GROUP}/resume?timeout=50", timeout=ANSWER_S)
        assert (answer.status_code, len(answer.json()["instances"]["answered"])) == (200, 2), answer.text
        assert again.ended(order_id)["status"] == "completed"
        assert is_balanced(data)


def test_stopped_partitions_have_no_owner(two: tuple[RunningShop, RunningShop], data: Path) -> None:
    """Stop gives the partitions of both instances up, start shares them out again, restart does both."""
    one, other = two
    assert len(millrace(data, "consumers", "stop", GROUP, *PATIENT)["instances"]["answered"]) == 2
    assert {row["owner"] for row in partitions(one, GROUP)} == {None}
    assert [shop.get("/ready") for shop in two] == [{"status": "ready"}] * 2
    refused = run("millrace", "--app", "parcomolo", "consumers", "resume", GROUP, data=data)
    assert (refused.status, refused.err.count("\n")) == (1, 1)
    assert "is stopped; start it first" in refused.err
    millrace(data, "consumers", "start", GROUP, *PATIENT)
    other.until(lambda: len({row["owner"] for row in partitions(one, GROUP)}) == 2)
    assert len(millrace(data, "consumers", "restart", GROUP, *PATIENT)["instances"]["answered"]) == 2
    one.completed(("cheese", 1))
    assert is_balanced(data)


def test_who_does_not_answer_is_named(two: tuple[RunningShop, RunningShop], data: Path) -> None:
    """An instance that stands still is named and the status is 1; it obeys when it goes on."""
    _, other = two
    for _ in range(TRIES):
        ran = asked_while_still(other, data)
        if "1 of 1" not in ran.out:
            break  # else the machine is so busy that it had lost its session before anybody asked, and was no instance any more
    assert (ran.status, ran.err.count("\n")) == (1, 1), ran
    silent = {part.split()[-6] for part in ran.err.split("; ") if part.strip().endswith("did not answer in time")}
    assert silent, ran  # on a machine that is busy enough the other one as well
    assert silent <= set(millrace(data, "consumers", "pause", GROUP, *PATIENT)["instances"]["answered"])


def asked_while_still(shop: RunningShop, data: Path) -> Ran:
    """Ask for a pause while an instance stands still; return what was said once that goes on and obeys."""
    shop.process.send_signal(signal.SIGSTOP)
    try:
        return run("millrace", "--app", "parcomolo", "consumers", "pause", GROUP, "--timeout", "2", data=data)
    finally:
        shop.process.send_signal(signal.SIGCONT)
        shop.until(lambda: state_of(shop, GROUP) == "paused")


def test_a_rewind_beside_servers_repeats_nothing(two: tuple[RunningShop, RunningShop], data: Path) -> None:
    """A handler, an activity and a view read everything again while orders go on: nobody pays twice, and the ledger is balanced."""
    one, other = two
    orders = [one.completed(("cheese", 1)) for _ in range(3)]
    groups = sorted({row["group"] for row in one.get(CONSUMERS) if row["service"] in {"payments", "inventory"} or VIEW in row["group"]})
    before = {group: sum(row["received"] for row in partitions(one, group.partition("@")[0])) for group in groups}
    for number, group in enumerate(groups):
        told = millrace(data, "consumers", "reset", group, "--to", "earliest", "--dry-run")
        assert all(each["after"] <= (each["before"] or 0) for each in told["partitions"])
        answer = (one, other)[number % 2].http.post(f"{CONSUMERS}/{group}/reset?timeout=50", json={"to": "earliest"})
        assert answer.status_code == 200, answer.text
    later = [other.completed(("bland", 1)) for _ in range(2)]

    def caught_up() -> bool:
        return not any(row["lag"] for row in one.get(CONSUMERS))

    one.until(caught_up)
    for group in groups:
        found = partitions(one, group.partition("@")[0])
        assert sum(row["received"] for row in found) >= 2 * before[group]
    assert sum(row["duplicate"] for row in partitions(one, VIEW)) > 0
    for order in orders + later:
        assert [each["status"] for each in one.get(f"/api/payments?order_id={order['order_id']}")] == ["succeeded"]
    assert [one.look(order["order_id"]) for order in orders] == orders
    assert is_balanced(data)


def test_wrong_names_and_moments_are_told(data: Path) -> None:
    """Problem details name what was wrong, and nothing moves."""
    with RunningShop(data, services="orders,catalogue") as shop:
        post = shop.http.post
        unknown = post(f"{CONSUMERS}/orders.nobody/pause")
        assert (unknown.status_code, unknown.json()["type"]) == (404, "/problems/unknown-consumer")
        assert "orders.nobody" in unknown.json()["detail"]
        elsewhere = post(f"{CONSUMERS}/{GROUP}/pause")
        assert (elsewhere.status_code, elsewhere.json()["type"]) == (409, "/problems/runs-elsewhere")
        for verb, body in (("reset", {"to": "middle"}), ("rewind", {"to": "yesterday"}), ("rewind", {"to": "9990-01-01T00:00:00Z"})):
            wrong = post(f"{CONSUMERS}/{VIEW}/{verb}", json=body)
            assert (wrong.status_code, wrong.json()["field"]) == (422, "to"), wrong.text
        paused = post(f"{CONSUMERS}/{VIEW}/stop")
        assert paused.status_code == 200
        refused = post(f"{CONSUMERS}/{VIEW}/resume")
        assert (refused.status_code, refused.json()["reason"]) == (409, "consumer_state")


def test_changes_need_a_token_off_the_loopback_address(data: Path) -> None:
    """Reachable from elsewhere: refused without a setting, 401 without the right token, done with it; looking is free."""
    path = f"{CONSUMERS}/{VIEW}/pause"
    with RunningShop(data, host="0.0.0.0") as shop:
        answer = shop.http.post(path)
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/no-admin-token")
        assert "PARCOMOLO_ADMIN_TOKEN" in answer.json()["detail"]
        assert {row["state"] for row in partitions(shop, VIEW)} == {"running"}
        assert shop.http.post("/api/stock/cheese/adjust", json={"delta": 1, "reason": "found"}).status_code == 200
        shop.terminate()
    with RunningShop(data, host="0.0.0.0", admin_token=TOKEN) as shop:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            answer = shop.http.post(path, headers=headers)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        done = shop.http.post(path, headers={"Authorization": f"Bearer {TOKEN}"})
        assert (done.status_code, done.json()["state"]) == (200, "paused")
        assert TOKEN not in httpx.get(f"{shop.url}/health").text
        assert TOKEN not in shop.terminate()


def test_a_token_that_is_too_short_is_refused(data: Path) -> None:
    """One line names the setting and what is allowed, never the value."""
    ran = run("parcomolo", "serve", data=data, admin_token="short one")
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "PARCOMOLO_ADMIN_TOKEN" in ran.err
    assert "short one" not in ran.err
