"""Counts the durable operations of this process and sends it a signal at the one that was chosen.

Counting starts when the file of steps exists, so the process that watches says when (`Trap.arm`) without any channel to the counted one,
and every step that the counter has seen can be read after a kill -9: a line is written before the signal is sent.

Neighbours: whoever listens calls `Counter.enter` before a commit and `Counter.leave` after it; tests make a `Trap` and read it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

PATIENCE_S = 30.0
"""A commit that takes longer does not hold up the others any more; nothing is decided by it."""

LINGER_S = 0.05
"""How long a commit that will not happen is held up: time enough to answer a client over HTTP."""
SLOW_S = 0.015
"""How long the others are: an engine that measures its disk finds out that it had better not wait for it on its event loop."""
LOOK_S = 0.001
"""How often a coroutine looks whether it is its turn."""


class Step(msgspec.Struct, frozen=True):
    """One durable transaction: its number, from 1; the service whose file or schema it was, or the client that wrote; what was written."""

    number: int
    service: str
    operations: tuple[str, ...]

    @property
    def line(self) -> str:
        """Return it as a line of the file of steps."""
        return f"{self.number}\t{self.service}\t{'; '.join(self.operations)}\n"

    @classmethod
    def parse(cls, line: str) -> Step:
        """Return the step of a line."""
        number, service, operations = line.rstrip("\n").split("\t")
        return cls(int(number), service, tuple(operations.split("; ")))


class Trap(msgspec.Struct, frozen=True, kw_only=True):
    """Where a process is to die, and where it writes how far it came.

    Args:
        steps: the file of steps; counting starts when it exists.
        at: die right after this step; 0: right before the first; None: count only.
        early: die before the step `at` is durable instead, but some time after its commit was asked for, so that whatever the process
            tells others too early has been told. The disk seems slow then: every commit that is counted is held up.
        service: count the steps of this service alone.
        signal: what is sent; `SIGSTOP` leaves a process that can be continued.
    """

    steps: Path
    at: int | None = None
    early: bool = False
    service: str | None = None
    signal: int = signal.SIGKILL

    def arm(self) -> None:
        """Start counting."""
        self.steps.touch()

    def read(self) -> list[Step]:
        """Return the steps so far; none before it was armed."""
        if not self.steps.exists():
            return []
        return [Step.parse(line) for line in self.steps.read_text().splitlines()]


class Counter:
    """Counts in this process.

    Args:
        trap: when to send which signal.
    """

    def __init__(self, trap: Trap) -> None:
        self._trap = trap
        self._number = 0
        self._one_at_a_time = threading.Lock()

    def enter(self, service: str) -> None:
        """A commit begins; it waits until no other is under way."""
        self._one_at_a_time.acquire(timeout=PATIENCE_S)
        held_up, last = self._begun(service)
        time.sleep(held_up)
        if last:
            self._send()

    async def entered(self, service: str) -> None:
        """Do the same for a commit that an event loop waits for, which runs on meanwhile."""
        until = time.monotonic() + PATIENCE_S
        while not self._one_at_a_time.acquire(blocking=False) and time.monotonic() < until:  # noqa: ASYNC110  # threads wait, too
            await asyncio.sleep(LOOK_S)
        held_up, last = self._begun(service)
        try:
            await asyncio.sleep(held_up)
        except asyncio.CancelledError:
            self.leave(service, ())
            raise
        if last:
            self._send()

    def _begun(self, service: str) -> tuple[float, bool]:
        """Return for how long a commit is held up that is about to be made, and whether it is not to be made at all."""
        if self._number == 0 == self._trap.at and self._counts(service):
            self._send()
        if not self._trap.early or self._trap.service not in (None, service):
            return 0.0, False
        last = self._number + 1 == self._trap.at and self._counts(service)
        return (LINGER_S if last else SLOW_S), last

    def leave(self, service: str, operations: Iterable[str]) -> None:
        """The commit has returned, and these operations are durable: none when it failed or had nothing to write."""
        durable = tuple(sorted(set(operations)))
        if durable and self._counts(service):
            self._number += 1
            self._note(Step(self._number, service, durable))
            if self._number == self._trap.at and not self._trap.early:
                self._send()
        if self._one_at_a_time.locked():
            self._one_at_a_time.release()

    def _counts(self, service: str) -> bool:
        return self._trap.service in (None, service) and self._trap.steps.exists()

    def _note(self, step: Step) -> None:
        with self._trap.steps.open("a") as steps:
            steps.write(step.line)

    def _send(self) -> None:
        os.kill(os.getpid(), self._trap.signal)
