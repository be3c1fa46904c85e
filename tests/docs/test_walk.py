"""A walk through a page leaves nothing running, however it ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.docs.walk import walk


def test_a_walk_that_fails_stops_what_it_started(tmp_path: Path) -> None:
    """The status is that of the failed command, what follows it is not run, and the process in the background is gone."""
    page = tmp_path / "page.md"
    page.write_text("```sh walk\nsleep 60 &\necho $! > pid\n(exit 3)\necho never\n```\n")
    walked = walk(page, tmp_path, dict(os.environ), seconds=20)

    assert walked.status == 3, walked.said
    assert "never" not in walked.said
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
