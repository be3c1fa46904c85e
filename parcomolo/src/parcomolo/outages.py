"""Takes the simulated provider and carrier down and up again while the shop runs: for tests, demos, and operators who want to rehearse.

That something is down is a file in the data folder, as the provider's ledger is: every process of the shop on this machine sees it at the
next call, and a restart does not forget it. Real providers need nothing of this; they go down by themselves.

Neighbours: the simulations ask before they answer; the console's routes switch.
"""

from __future__ import annotations

from pathlib import Path

SUFFIX = ".down"


class Outage:
    """Whether one simulated dependency is down.

    Args:
        path: the file whose presence says so.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """Return what is down."""
        return self._path.stem

    @property
    def down(self) -> bool:
        """Return whether it is."""
        return self._path.exists()

    def switch(self, *, down: bool) -> None:
        """Take it down, or up again; nothing happens where it is so already."""
        if down:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
        else:
            self._path.unlink(missing_ok=True)

    def check(self) -> None:
        """Behave as what is down does.

        Raises:
            ConnectionError: it is down.
        """
        if self._path.exists():
            raise ConnectionError(f"the simulated {self.name} is down")


class Outages:
    """The dependencies that can be taken down.

    Args:
        folder: of the data.
    """

    def __init__(self, folder: Path) -> None:
        self.provider = Outage(folder / f"provider{SUFFIX}")
        self.carrier = Outage(folder / f"carrier{SUFFIX}")

    def all(self) -> dict[str, Outage]:
        """Return them by name."""
        return {each.name: each for each in (self.provider, self.carrier)}
