"""A shop on Kafka and PostgreSQL whose process is killed again and again at moments that chance chooses, with orders in flight."""

from __future__ import annotations

import os
import random
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from millrace.testing.crash import Zygote
from tests.crash.crowd import customers, in_flight, place_again, placing, seconds_to_end
from tests.crash.invariants import check_answered, check_provider, check_shop
from tests.crash.path import Customer
from tests.crash.shop import Server, ledger_of
from tests.shop_places import CHOICE, files_of, settings_of

KILLS = 5
CROWD = 16
LATEST_S = 1.5
SEED = "MILLRACE_CRASH_SEED"


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_at_any_moment_nothing_is_lost_or_done_twice(zygote: Zygote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After five kills every answered order is there and ended once; stock, money, reports, rewards and the ledger are exact."""
    monkeypatch.setenv(CHOICE, "kafka/postgres")
    data = tmp_path / "data"
    settings_of(data)
    seed = int(os.environ.get(SEED) or random.randrange(2**32))
    print(f"\n{SEED}={seed}")
    chance = random.Random(seed)
    crowd: list[Customer] = []
    flying = 0
    with ExitStack() as stack:
        server = stack.enter_context(Server(zygote, data, log=tmp_path / "0.log"))
        for number in range(1, KILLS + 1):
            crowd += (arrived := customers(CROWD))
            moment = chance.uniform(0.0, LATEST_S)
            killing = threading.Timer(moment, server.process.send, (signal.SIGKILL,))
            killing.start()
            with placing(arrived, [server]):
                pass
            assert server.process.wait() == -signal.SIGKILL
            open_now = len(in_flight(crowd, server))
            flying += open_now
            print(f"kill {number} after {moment:.3f} s: {open_now} of {len(crowd)} orders in flight")
            server = stack.enter_context(Server(zygote, data, log=tmp_path / f"{number}.log"))
            check_answered(server, crowd)
            place_again(crowd, server)
        seconds_to_end(crowd, server, since=0.0)
        check_shop(server, crowd)
        assert server.process.terminate() == 0, server.process.output
    check_provider(files_of(data), crowd)
    ledger_of(zygote, data, log=tmp_path / "ledger.log")
    assert flying, "no order was in flight at any kill"
