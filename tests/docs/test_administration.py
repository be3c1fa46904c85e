"""The page on looking after consumers is run, on files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.walk import walk_on_files

PAGE = Path(__file__).resolve().parents[2] / "docs" / "administration.md"
WALK_S = 100


@pytest.mark.timeout(WALK_S * 2)
def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    """Its commands, in one shell from top to bottom, in an empty folder: every one succeeds, and nothing is left at the end."""
    walked = walk_on_files(PAGE, tmp_path, port="8111", seconds=WALK_S)

    assert walked.status == 0, walked.said
    assert "1 of 1 instances answered" in walked.said
    assert "reads" in walked.said
    assert walked.said.count("Stopped.") == 2, walked.said
    assert not (tmp_path / "data").exists()
