"""The page on time is run, on files."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.docs.walk import walk

PAGE = Path(__file__).resolve().parents[2] / "docs" / "time.md"
WALK_S = 60


@pytest.mark.timeout(WALK_S * 2)
def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    """Its commands, in one shell from top to bottom, in an empty folder: every one succeeds, and nothing is left at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text().replace("8111", port))
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PARCOMOLO_")}
    walked = walk(page, tmp_path, variables, seconds=WALK_S)

    assert walked.status == 0, walked.said
    assert '"ahead_seconds":900.0' in walked.said
    assert "allowed: virtual" in walked.said
    assert walked.said.count("Stopped.") == 1, walked.said
    assert not (tmp_path / "data").exists()
