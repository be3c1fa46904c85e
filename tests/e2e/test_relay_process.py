"""Shops that leave publishing to relay processes, real ones that are stopped, killed and doubled."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.relay_process import RelayProcess
from tests.e2e.running_shop import BIN, PATIENCE_S, RunningShop, environment, is_balanced, millrace, order_of, run

ALL = "catalogue,orders,inventory,payments,shipping,rewards,operations,reports"


def records(data: Path, topic: str) -> int:
    """Return how many records a topic has."""
    return sum(each["records"] for each in millrace(data, "topics") if each["topic"] == topic)


def duplicates(data: Path) -> int:
    """Return how many repeated publications all processors have met."""
    return sum(each["duplicate"] for each in millrace(data, "consumers", "list"))


def first_order(shop: RunningShop, data: Path) -> str:
    """Return an order, taken as soon as a relay process has published what the catalogue said at its start, and nothing else."""
    with RelayProcess(data, "catalogue") as relay:
        answer = shop.until(lambda: (found := shop.http.post("/api/orders", json=order_of())).status_code == 201 and found)
        assert relay.terminate()[0] == 0
    return answer.json()["order_id"]


def test_another_process_publishes(data: Path) -> None:
    """Without its own relay a shop takes orders that go no further; with a relay process beside it they are completed."""
    with RunningShop(data, shipping_delay="0", relay="off") as shop:
        early = first_order(shop, data)
        assert records(data, "orders") == 0
        with RelayProcess(data) as relay:
            assert relay.welcome == "Relaying all services of parcomolo; Ctrl-C or SIGTERM ends it"
            assert relay.line().startswith("catalogue: published up to ")
            assert shop.ended(early)["status"] == "completed"
            assert shop.completed()
            status, out = relay.terminate()
            assert (status, relay.complaints) == (0, "")
            assert out.endswith("Stopped.\n")
        shop.terminate()
    assert is_balanced(data)
    assert duplicates(data) == 0


def test_killed_and_doubled_relays_repeat_nothing(data: Path) -> None:
    """Relay processes that are killed at random moments, two at once and beside shops that relay too, lose and repeat nothing."""
    seed = random.randrange(1 << 30)
    print(f"\nseed {seed}")
    chance = random.Random(seed)
    with RunningShop(data, shipping_delay="0", relay="off") as shop, RelayProcess(data) as steady:
        orders = [first_order(shop, data)]
        for _ in range(6):
            with RelayProcess(data) as doomed:
                orders += [shop.place() for _ in range(chance.randrange(1, 6))]
                doomed.kill()
                assert doomed.process.returncode == -signal.SIGKILL
        steady.kill()
        orders += [shop.place() for _ in range(5)]
        with RunningShop(data, shipping_delay="0", port="0"), RelayProcess(data, ALL):
            orders += [shop.place() for _ in range(5)]
            assert {shop.ended(order)["status"] for order in orders} <= {"completed", "rejected"}
        shop.terminate()
    assert is_balanced(data)
    assert duplicates(data) == 0


def test_commands_without_a_broker(data: Path) -> None:
    """A shop that neither relays nor consumes takes orders though no broker can be reached; it is refused before a relay has run once."""
    refused = run("parcomolo", "serve", data=data, relay="off", consume="off")
    assert refused.status == 2
    assert "millrace relay --services catalogue" in refused.err
    assert refused.err.count("\n") == 1

    with RunningShop(data, shipping_delay="0", relay="off") as consuming, RelayProcess(data):
        first_order(consuming, data)
        away = {"log": "kafka://127.0.0.1:1"}
        with RunningShop(data, services="orders,catalogue", relay="off", consume="off", **away) as shop:
            order = shop.place()
            assert consuming.ended(order)["status"] == "completed"
            assert shop.ended(order)["status"] == "completed"
            assert shop.http.get("/api/events").status_code == 404
            assert shop.get("/health")["status"] == "ok"
            shop.terminate()


def test_waits_for_a_broker_and_stops_while_it_waits(data: Path) -> None:
    """A relay process whose broker is away says so in one line and tries again; asked to stop meanwhile it ends well."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"kafka://127.0.0.1:{closed.getsockname()[1]}"
        with RelayProcess(data, log=address) as relay:
            end = time.monotonic() + PATIENCE_S
            while "trying again" not in relay.complaints:
                assert time.monotonic() < end
                assert relay.process.poll() is None, relay.complaints
            assert relay.terminate() == (0, "Stopped.\n")
            assert relay.complaints.count("\n") == 1


@pytest.mark.parametrize(
    "services, said", [("orders,nothing", "services ['nothing']: choose from catalogue, orders"), (",", "services []: choose from")]
)
def test_wrong_services_are_refused(data: Path, services: str, said: str) -> None:
    """A service that does not exist ends the command with status 2 and one line."""
    done = subprocess.run(
        [BIN / "millrace", "--app", "parcomolo", "relay", "--services", services],
        env=environment(data),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["relay", "consume"])
def test_switches_are_checked(data: Path, name: str) -> None:
    """A switch that is neither on nor off is refused with what is allowed."""
    ran = run("parcomolo", "serve", data=data, **{name: "maybe"})
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == f"parcomolo: --{name} (PARCOMOLO_{name.upper()}) is 'maybe'; allowed: on, off\n"
