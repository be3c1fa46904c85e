"""How a page of the documentation is walked through: its `sh walk` blocks in one shell, from top to bottom, in an empty folder.

Neighbours: a test per page that can be walked.
"""

from __future__ import annotations

import re
import subprocess
import sys
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
