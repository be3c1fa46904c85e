"""A process that a zygote has started: its output, its end, and the signals that tests send.

Nothing here sleeps: the end of a process is an event, and its output is a pipe that a thread empties into a file and into memory, so
that a full pipe holds up nobody.

Neighbours: `zygote` makes these and reports ends.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

LOOK_S = 0.02


class NotInTime(AssertionError):
    """A process did not do in time what was waited for; the message says what, and holds the end of its output."""


class Process:
    """A running program.

    Args:
        name: for messages.
        output: the reading end of its standard output and error; closed when it has ended.
        log: where the output is kept.
    """

    def __init__(self, name: str, *, output: int, log: Path) -> None:
        self.name = name
        self.pid = 0
        self.log = log
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._silent = False
        self._status: int | None = None
        self._reader = threading.Thread(target=self._read, args=(output,), name=f"output of {name}", daemon=True)
        self._reader.start()

    def _read(self, output: int) -> None:
        with os.fdopen(output, errors="replace") as lines, self.log.open("a") as log:
            for line in lines:
                log.write(line)
                log.flush()
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._silent = True
            self._changed.notify_all()

    def ended(self, status: int) -> None:
        """Take note of its end; the zygote calls this."""
        with self._changed:
            self._status = status
            self._changed.notify_all()

    @property
    def alive(self) -> bool:
        """Return whether its end is not known."""
        return self._status is None

    @property
    def output(self) -> str:
        """Return what it has printed so far."""
        with self._changed:
            return "".join(self._lines)

    def line(self, number: int = 0, *, timeout: float = 30.0) -> str:
        """Return a line of its output, counted from 0, as soon as it is there.

        Raises:
            NotInTime: it ended before, or took too long.
        """
        with self._changed:
            self._changed.wait_for(lambda: len(self._lines) > number or self._silent, timeout)
            if len(self._lines) > number:
                return self._lines[number].rstrip("\n")
        raise NotInTime(f"{self.name} did not print line {number} within {timeout:g} s:\n{self.output[-4000:]}")

    def wait(self, timeout: float = 30.0) -> int:
        """Return its exit status when it has ended and its output was read: a negative number is the signal that ended it.

        Raises:
            NotInTime: it runs still.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._status is not None and self._silent, timeout)
            if self._status is None:
                raise NotInTime(f"{self.name} runs still after {timeout:g} s:\n{''.join(self._lines)[-4000:]}")
            return self._status

    def until(self, condition: Callable[[], bool], *, timeout: float = 30.0) -> None:
        """Return when `condition()` is true; it is asked at every sign of life, and every 20 ms.

        Raises:
            NotInTime: it did not become true, or the process has ended.
        """
        end = time.monotonic() + timeout
        while not condition():
            with self._changed:
                self._changed.wait(LOOK_S)
            if not self.alive or time.monotonic() > end:
                state = "runs still" if self.alive else f"ended with {self._status}"
                raise NotInTime(f"{self.name} {state}; waited up to {timeout:g} s:\n{self.output[-4000:]}")

    def send(self, number: int) -> None:
        """Send a signal; nothing happens when it has ended."""
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def kill(self, *, timeout: float = 30.0) -> None:
        """Kill -9, and return when it is dead."""
        self.send(signal.SIGKILL)
        self.wait(timeout)

    def terminate(self, *, timeout: float = 30.0) -> int:
        """Ask it to stop, and return its exit status."""
        self.send(signal.SIGTERM)
        return self.wait(timeout)

    def stop(self) -> None:
        """Halt it where it is."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a halted process go on."""
        self.send(signal.SIGCONT)
