"""An application whose one handler fails until it is healed, so that dead letters pile up.

Neighbours: `tests/e2e/test_redriving.py` runs it here, and `millrace --app tests.piled_up` in other processes, which run no handler.
"""

from __future__ import annotations

import os
from pathlib import Path

from millrace import Application, Event, RetryPolicy, Service
from millrace.engines.sqlite import SqliteEngine

FOLDER = "PILED_UP_DATA"
TYPE = "piled.asks.asked.v1"


class Asked(Event, topic="asks", key="name"):
    """Somebody asked."""

    name: str
    n: int


class Clerk:
    """Answers, unless it is ill; `answered` has (name, n) in the order in which it did."""

    def __init__(self) -> None:
        self.ill = True
        self.answered: list[tuple[str, int]] = []


clerk = Clerk()


def application() -> Application:
    """Return the application on the folder that the environment names."""
    service = Service("clerk")

    @service.handler
    def answer(event: Asked) -> None:
        """Answer, or fail."""
        if clerk.ill:
            raise ValueError(f"{event.name} has to wait")
        clerk.answered.append((event.name, event.n))

    return Application("piled", [service], engine=SqliteEngine(Path(os.environ[FOLDER])), policy=RetryPolicy(attempts=1, limit=None))
