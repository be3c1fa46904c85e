"""SIGTERM with orders in flight: the server finishes what is in hand, ends with status 0, and the next one goes on."""

import shutil
import signal
from pathlib import Path

import pytest

from millrace.testing.crash import Zygote
from tests.crash.crowd import answered, customers, in_flight, place_again, placing, seconds_to_end
from tests.crash.invariants import check_answered, check_files, check_shop
from tests.crash.shop import Server, ledger_of

pytestmark = pytest.mark.crash
CROWD = 90


@pytest.mark.parametrize("delay", [0.0, 1.0])
def test_stopping_with_orders_in_flight(delay: float, zygote: Zygote, opened: Path, tmp_path: Path) -> None:
    """Whatever was answered is there, the ledger balances while nothing runs, and a restart brings every order to its end."""
    data = tmp_path / "data"
    shutil.copytree(opened, data)
    crowd = customers(CROWD, delay=delay)
    with Server(zygote, data, log=tmp_path / "first.log", delay=delay) as server:
        with placing(crowd, [server]) as placed:
            answered(placed, CROWD // 3)
            server.process.send(signal.SIGTERM)
        assert server.process.wait() == 0, server.process.output
        print(f"\n{len(in_flight(crowd, server))} orders in flight, {sum('place' not in each.answers for each in crowd)} not taken")
    ledger_of(zygote, data, log=tmp_path / "ledger.log")
    with Server(zygote, data, log=tmp_path / "second.log", delay=delay) as server:
        check_answered(server, crowd)
        place_again(crowd, server)
        seconds_to_end(crowd, server, since=0.0)
        check_shop(server, crowd)
        assert server.process.terminate() == 0, server.process.output
    check_files(zygote, data, crowd, log=tmp_path / "ledger.log")
