"""`millrace --app parcomolo relay` in a process of its own, on the folder of a shop.

Neighbours: `running_shop` has the shop; the tests beside it.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Self

from tests.e2e.running_shop import BIN, PATIENCE_S, environment


class RelayProcess:
    """A relay process, from its first line until it has ended.

    Args:
        data: the folder of the shop.
        services: a comma list; none: all.
        settings: by name.
    """

    def __init__(self, data: Path, services: str = "", **settings: str) -> None:
        self._errors = data.with_name(f"{data.name}.relay.err")
        with self._errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [BIN / "millrace", "--app", "parcomolo", "relay", *(["--services", services] if services else [])],
                env=environment(data, **settings),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.welcome = self.line()

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, whatever has happened."""
        self.kill()

    def line(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def terminate(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Ask it to stop; return its exit status and what else it printed."""
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out

    def kill(self) -> None:
        """Kill -9."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=PATIENCE_S)

    @property
    def complaints(self) -> str:
        """Return what it has logged."""
        return self._errors.read_text()
