"""How a page of the documentation is walked through: its `sh walk` blocks in one shell, from top to bottom, in an empty folder.

Neighbours: a test per page that can be walked.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

LEAVE = "trap 'kill $(jobs -p) 2>/dev/null && wait || true' EXIT\n"
"""A page stops what it started; one that fails on the way must leave nothing running either."""


class Walked(NamedTuple):
    """How it ended, and everything that was said."""

    status: int
    said: str


def walk(page: Path, folder: Path, variables: dict[str, str], *, seconds: float, **replaced: str) -> Walked:
    """Run the blocks of a page until one command fails.

    Args:
        page: the file.
        folder: an empty one to walk in.
        variables: the environment.
        seconds: how long it may take.
        replaced: settings of the page that get another value here.
    """
    blocks = re.findall(r"^```sh walk\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    text = f"{LEAVE}set -em\n" + "".join(blocks)
    for name, value in replaced.items():
        text = re.sub(rf"\b{name}=\S+", f"{name}={value}", text)
    ours = {**variables, "PATH": f"{Path(sys.executable).parent}:{variables['PATH']}"}
    with (folder / "walk.out").open("w+") as out:  # no pipe: what runs in the background would keep it open
        done = subprocess.run(["bash", "-c", text], cwd=folder, env=ours, stdout=out, stderr=out, timeout=seconds, check=False)
        out.seek(0)
        return Walked(done.returncode, out.read())


def walk_on_files(page: Path, folder: Path, *, port: str, seconds: float, also: Mapping[str, str] | None = None) -> Walked:
    """Run the blocks of a page in files below an empty folder, without the settings of whoever runs the tests.

    Args:
        page: the file.
        folder: an empty one to walk in.
        port: that the page names; a free one takes its place.
        seconds: how long it may take.
        also: what else of the page is replaced, and by what.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        replaced = {port: str(probe.getsockname()[1]), **(also or {})}
    text = page.read_text()
    for old, new in replaced.items():
        text = text.replace(old, new)
    copy = folder / "page.md"
    copy.write_text(text)
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PARCOMOLO_", "OTEL_"))}
    return walk(copy, folder, variables, seconds=seconds)
