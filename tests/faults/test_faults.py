"""Faults on a real Kafka and a real PostgreSQL under a shop with customers: nothing is lost, nothing happens twice, work goes on by itself.

    pytest tests/faults -m soak -k kill-service --fault-runs 3          one kind
    pytest tests/faults -m soak -k kill-service --fault-runs 1 --fault-seed 4711          one run again

Every kind runs twenty times in `make soak`, each time from a printed seed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from millrace.testing.crash import Zygote
from tests.faults.kinds import ALL, KINDS
from tests.faults.report import Row
from tests.faults.run import Place, carry_out
from tests.faults.servers import Servers

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]


BY_SERVERS = [pytest.param(kind.name, kind.needs, id=kind.name) for kind in sorted(ALL, key=lambda kind: kind.needs)]


@pytest.mark.soak
@pytest.mark.parametrize("kind, servers", BY_SERVERS, indirect=["servers"])
def test_fault(
    kind: str,
    seed: int,
    rate: float,
    shop_zygote: Zygote,
    servers: Servers,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """A fault at a random moment: every answered order ends once; stock, money, log and ledger are exact; what was due was seen."""
    row = Row(kind, seed, rate)
    try:
        carry_out(KINDS[kind], Place(shop_zygote, servers, tmp_path), row)
    finally:  # what it has shown counts, however it ended
        record_property("fault", msgspec.to_builtins(row))
