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
from tests.faults.run import Kind, Place, carry_out
from tests.faults.servers import Servers

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]


def of_kinds(*kinds: Kind) -> pytest.MarkDecorator:
    """Run a test per kind, on its servers."""
    found = [pytest.param(kind.name, kind.needs, id=kind.name) for kind in sorted(kinds, key=lambda kind: kind.needs)]
    return pytest.mark.parametrize("kind, servers", found, indirect=["servers"])


def run_noted(place: Place, kind: str, row: Row, note: Callable[[str, object], None]) -> None:
    """Carry a fault out, and hand over what it has shown, however it ended."""
    try:
        carry_out(KINDS[kind], place, row)
    finally:
        note("fault", msgspec.to_builtins(row))


@pytest.mark.soak
@of_kinds(*ALL)
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
    run_noted(Place(shop_zygote, servers, tmp_path), kind, Row(kind, seed, rate), record_property)
