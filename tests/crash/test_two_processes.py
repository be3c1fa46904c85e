"""Two servers share all services on one data folder: when one dies or stands still, the other has everything."""

import re
import shutil
import signal
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from millrace.testing.crash import Zygote
from parcomolo.payments.provider import SimulatedProvider
from tests.crash.crowd import answered, customers, in_flight, place_again, placing, seconds_to_end
from tests.crash.invariants import PROVIDER_LEDGER, check_answered, check_files, check_shop, facts_in
from tests.crash.path import Customer
from tests.crash.shop import Server, name_of
from tests.shop_places import files_of, session_of

pytestmark = [pytest.mark.crash, pytest.mark.timeout(240)]
CROWD = 90
TAKEOVER_S = 2.0
SESSION_S = 4.0
BEAT_S = 1.0
"""A session begins at the last sign of life, which is half a second old at most, or older on a busy machine."""


@pytest.fixture
def servers(zygote: Zygote, opened: Path, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """Two servers on one folder, each with its share of the partitions of every processor."""
    data = tmp_path / "data"
    shutil.copytree(opened, data)
    with ExitStack() as stack:
        one, other = (stack.enter_context(Server(zygote, data, log=tmp_path / f"{name}.log")) for name in ("one", "other"))
        other.process.until(lambda: all(owners == 2 for owners in owners_at(other)))
        yield one, other


def owners_at(server: Server) -> list[int]:
    """Return how many processes have partitions of each group, as a server knows it."""
    owners = defaultdict[str, set[str]](set)
    for row in server.get("/console/api/consumers"):
        owners[row["group"]].add(row["owner"] or "")
    return [len(found - {""}) for found in owners.values()]


def finish(server: Server, crowd: list[Customer], zygote: Zygote, data: Path) -> None:
    """Everybody places who has not, every order comes to its end, and everything is right."""
    check_answered(server, crowd)
    place_again(crowd, server)
    seconds_to_end(crowd, server, since=0.0)
    check_shop(server, crowd)
    assert server.process.terminate() == 0, server.process.output
    check_files(zygote, data, crowd, log=data.with_name("ledger.log"))


@pytest.mark.serial
def test_the_other_takes_over(servers: tuple[Server, Server], zygote: Zygote, tmp_path: Path) -> None:
    """Killed under load, a server's orders in flight come to their end at the other one within two seconds of being missed."""
    one, other = servers
    crowd = customers(CROWD)
    with placing(crowd, servers) as placed:
        answered(placed, CROWD // 3)
        one.process.send(signal.SIGKILL)
        killed = time.monotonic()
        waiting = in_flight(crowd, other)
    seconds = seconds_to_end(waiting, other, since=killed)
    print(f"\n{len(waiting)} orders were in flight; the last of them ended {seconds:.2f} s after the kill")

    assert one.process.wait() == -signal.SIGKILL
    assert waiting
    finish(other, crowd, zygote, tmp_path / "data")
    assert seconds < TAKEOVER_S + session_of(tmp_path / "data")


@contextmanager
def provider_busy(data: Path) -> Iterator[None]:
    """Keep the payment provider from answering."""
    SimulatedProvider(files_of(data) / PROVIDER_LEDGER).charges()
    with closing(sqlite3.connect(files_of(data) / PROVIDER_LEDGER, isolation_level=None)) as connection:
        connection.execute("begin immediate")
        yield
        connection.execute("rollback")


def waits_for_provider(server: Server) -> bool:
    """Return whether a server has nothing to do but what the provider has been asked for."""
    busy = {entry["name"] for entry in server.get("/health")["entries"] if entry["lag"] or entry["held"]}
    return busy == {"payments.provider"}


def fenced_in(server: Server) -> set[str]:
    """Return the processors that a server had a commit refused for."""
    lines = server.call("GET", "/metrics").body.decode().splitlines()
    found = (re.fullmatch(r'millrace_fenced_total\{service="(.+)",processor="(.+)"\} [1-9]\d*', line) for line in lines)
    return {f"{match[1]}.{match[2]}" for match in found if match}


def asked(data: Path) -> int:
    """Return how often the provider was asked for a payment."""
    with closing(SimulatedProvider(files_of(data) / PROVIDER_LEDGER)) as provider:
        return sum(charge.asked for charge in provider.charges())


def test_a_late_commit_is_refused(servers: tuple[Server, Server], zygote: Zygote, tmp_path: Path) -> None:
    """A server that was stopped in the middle of payments for longer than its session brings their outcome too late.

    The other one has its partitions by then and has asked the provider itself. What the late one commits with its old fencing token
    is refused, it goes on as a sound member, and everything has happened once.
    """
    one, other = servers
    data = tmp_path / "data"
    crowd = customers(9, partitions=3)
    with provider_busy(data):
        with placing(crowd, [other]):
            pass
        one.process.until(lambda: waits_for_provider(one) and waits_for_provider(other))
        one.process.stop()
        stopped = time.monotonic()
    seconds = seconds_to_end(crowd, other, since=stopped)
    assert asked(data) == len(crowd)
    one.process.resume()
    other.process.until(lambda: asked(data) > len(crowd))
    one.settle()
    print(f"\nall orders ended {seconds:.2f} s after the stop; the late one asked the provider {asked(data) - len(crowd)} times")

    assert seconds > SESSION_S - BEAT_S, "nothing was left for the stopped one to be late with"
    assert "payments.provider" in fenced_in(one)
    assert "have another owner" in one.process.output
    assert one.process.terminate() == 0, one.process.output
    finish(other, crowd, zygote, data)
    paid = [fact["partitionkey"] for fact in facts_in(data) if name_of(fact) == "payment-succeeded"]
    assert sorted(paid) == sorted(customer.order_id for customer in crowd)
