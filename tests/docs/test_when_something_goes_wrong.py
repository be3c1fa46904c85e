"""The operator's story is walked through: an outage, a poison message, a stuck saga, one that is taken over; the ledger is balanced."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.walk import walk_on_files

PAGE = Path(__file__).resolve().parents[2] / "docs" / "when-something-goes-wrong.md"
WALK_S = 100


@pytest.mark.timeout(WALK_S * 2)
def test_the_story_ends_well(tmp_path: Path) -> None:
    """Every command succeeds, the ledger each time; breaker opened, letter edited, a refund skipped, an order taken over and settled."""
    walked = walk_on_files(PAGE, tmp_path, port="8117", seconds=WALK_S)

    assert walked.status == 0, walked.said
    assert '"state":"breaker open"' in walked.said
    assert "asked the customer" in walked.said
    assert "paid back by bank transfer" in walked.said
    assert '"reason":"on_hold"' in walked.said
    assert '"settling":"cancelled"' in walked.said
    assert walked.said.count("Stopped.") == 1, walked.said
    assert not (tmp_path / "data").exists()
