"""A shop in files that was killed with orders in flight is moved to Kafka and PostgreSQL, by a command that is killed again and again."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from millrace.testing.crash import Process, Zygote
from tests.crash.crowd import customers, in_flight, place_again, placing, seconds_to_end
from tests.crash.invariants import check_answered, check_provider, check_shop
from tests.crash.shop import PATIENCE_S, Server, ledger_of, name_of
from tests.shop_places import CHOICE, files_of, settings_of

KILLS = 8
CROWD = 24
LATEST_S = 6.0
DELAY_S = 1.0
SEED = "MILLRACE_CRASH_SEED"


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_at_any_moment_it_goes_on_and_so_does_the_shop(
    zygote: Zygote, opened: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orders in the middle of checkout end on the servers, once each; first answers are known there, feeds resume; the files stay."""
    monkeypatch.delenv(CHOICE, raising=False)
    data = tmp_path / "data"
    shutil.copytree(opened, data)
    seed = int(os.environ.get(SEED) or random.randrange(2**32))
    print(f"\n{SEED}={seed}")
    chance = random.Random(seed)
    crowd = customers(CROWD, delay=DELAY_S)
    with ExitStack() as stack:
        server = stack.enter_context(Server(zygote, data, delay=DELAY_S, log=tmp_path / "files.log"))
        with placing(crowd, [server]):
            pass
        cursor, told = _followed(server, after="start", wanted={(each.order_id, "order-placed") for each in crowd})
        open_then = in_flight(crowd, server)
        server.process.send(signal.SIGKILL)
        assert server.process.wait() == -signal.SIGKILL
        before = _contents(data)

        monkeypatch.setenv(CHOICE, "kafka/postgres")
        killed = _moved(zygote, data, chance, log=tmp_path)
        print(f"{len(open_then)} of {CROWD} orders in flight; the move was killed {killed} times")
        assert len(open_then) > CROWD // 2
        assert killed >= 2
        assert _contents(data) == before

        server = stack.enter_context(Server(zygote, data, delay=DELAY_S, log=tmp_path / "servers.log"))
        check_answered(server, crowd)
        place_again(crowd, server)
        for customer in crowd:
            customer.place(server)  # the answer of before the move, to the letter
        seconds_to_end(crowd, server, since=0.0)
        _, fresh = _followed(server, after=cursor, wanted={(each.order_id, "order-completed") for each in open_then})
        assert not told & fresh, "the feed told again what it had told before"
        check_shop(server, crowd)
        assert server.process.terminate() == 0, server.process.output
    check_provider(files_of(data), crowd)
    ledger_of(zygote, data, log=tmp_path / "ledger.log")
    again = _migrate(zygote, data, log=tmp_path / "again.log")
    assert again.wait() == 0
    assert json.loads(_printed(again))["already"]


def _moved(zygote: Zygote, data: Path, chance: random.Random, *, log: Path) -> int:
    """Run the command until it is done, killing it at moments that chance chooses; return how often it was killed before that."""
    killed = 0
    for number in range(KILLS):
        process = _migrate(zygote, data, log=log / f"migrate-{number}.log")
        moment = chance.uniform(0.0, LATEST_S)
        killing = threading.Timer(moment, process.send, (signal.SIGKILL,))
        killing.start()
        status = process.wait(120.0)
        killing.cancel()
        print(f"move {number}: {'killed' if status else 'done'} after {moment:.3f} s at most")
        if status == 0:
            return killed
        assert status == -signal.SIGKILL, process.output
        killed += 1
    process = _migrate(zygote, data, log=log / "migrate.log")
    assert process.wait(120.0) == 0, process.output
    return killed


def _migrate(zygote: Zygote, data: Path, *, log: Path) -> Process:
    places = [word for name, value in settings_of(data).items() for word in (f"--to-{name}", value)]
    return zygote.start("parcomolo.cli:main", ["migrate", "--data", str(data), *places, "--json"], log=log)


def _printed(process: Process) -> str:
    text = process.output
    return text[text.index("{") :]


def _contents(data: Path) -> dict[str, bytes]:
    """Return what the files of the embedded shop hold; SQLite's index of a write-ahead log is made anew by whoever looks."""
    found = {path.name: path.read_bytes() for path in sorted(data.glob("*.db*")) if not path.name.endswith("-shm")}
    return {name: content for name, content in found.items() if content}


def _followed(server: Server, *, after: str, wanted: set[tuple[str, str]]) -> tuple[str, set[str]]:
    """Read the feed until it has told facts of these (order, name); return where it stands then, and the ids of all facts told."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    cursor, told, left = after, set[str](), set(wanted)
    with contextlib.closing(connection):
        connection.request("GET", f"/events?after={after}", headers={"Accept": "text/event-stream"})
        for line in connection.getresponse():
            if line.startswith(b"id: "):
                cursor = line[4:].strip().decode()
            elif line.startswith(b"data: {") and b'"type"' in line:
                fact = json.loads(line[6:])
                told.add(fact["id"])
                left.discard((fact["partitionkey"], name_of(fact)))
                if not left:
                    break
    return cursor, told
