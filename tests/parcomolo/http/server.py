"""A shop in a process of its own, started as a user does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.shop_places import variables_of

COMMAND = str(Path(sys.executable).with_name("parcomolo"))
PATIENCE_S = 30


class Server:
    """A process that serves; `url` is where."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [COMMAND, "serve", "--port", "0", "--data", str(folder), "--shipping-delay", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**environment(), **variables_of(folder)},
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        assert "http://" in first, first + self.process.stdout.read()
        self.url = next(word for word in first.split() if word.startswith("http://"))

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal and return the exit status and everything printed."""
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out


def environment() -> dict[str, str]:
    """Return the environment without settings of a shop that runs here."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PARCOMOLO_")}


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[Server]:
    """Serve during the block."""
    server = Server(folder, *arguments)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate(timeout=PATIENCE_S)


def parcomolo(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, on the folder that it names."""
    places = variables_of(Path(arguments[arguments.index("--data") + 1])) if "--data" in arguments else {}
    return subprocess.run(
        [COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S * 2,
        stdin=subprocess.DEVNULL,
        env={**environment(), **places, **variables},
        check=False,
    )
