"""A process that has imported a program once and forks a fresh one for every start: a tenth of a second instead of a whole one.

A fork of an interpreter with one thread and no open connection is, from then on, a process like any other: entry point, arguments,
environment and output are its own, and so is the trap that may be set in it before the entry point runs.

The two ends talk over a socket, one line of JSON per message: `start` down (with the child's output as a file descriptor), `started` and
`ended` up. When the upper end goes away, for whatever reason, the zygote kills what it has started and ends, so nothing is left behind.

Neighbours: tests make a `Zygote`; `forking` is its lower end; `process` is what it hands out.
"""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from millrace.testing.crash.counting import Trap
from millrace.testing.crash.process import NotInTime, Process
from millrace.testing.crash.wire import Report, Start, line_of, read_report

START_S = 60.0
_LOWER_END = "millrace.testing.crash.forking"


class Zygote:
    """Starts processes by forking one that has everything imported.

    Args:
        preload: modules to import before the first fork.
        folder: working directory of all processes; default: the present one.
    """

    def __init__(self, *, preload: Sequence[str] = (), folder: Path | None = None) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            arguments = [sys.executable, "-m", _LOWER_END, str(theirs.fileno()), *preload]
            self._zygote = subprocess.Popen(  # noqa: S603  # our own interpreter and module
                arguments, pass_fds=[theirs.fileno()], cwd=folder, start_new_session=True
            )
        self._lock = threading.Lock()
        self._processes: dict[int, Process] = {}
        self._starting: Process | None = None
        self._started: queue.Queue[Process | None] = queue.Queue()
        self._hearing = threading.Thread(target=self._hear, name="zygote", daemon=True)
        self._hearing.start()

    def start(
        self,
        entry: str,
        arguments: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        trap: Trap | None = None,
        log: Path,
    ) -> Process:
        """Run an entry point in a process of its own.

        Args:
            entry: `module:function`; the function gets the arguments as a list and returns the exit status.
            arguments: of the command line.
            environment: added to the zygote's.
            trap: counts durable operations, and ends the process at one of them.
            log: where its output is kept.
        """
        reading, writing = os.pipe()
        with self._lock:
            name = " ".join((entry, *arguments))
            self._starting = Process(name, output=reading, log=log)
            order = Start(entry=entry, arguments=tuple(arguments), environment=dict(environment or {}), trap=trap)
            try:
                socket.send_fds(self._socket, [line_of(order)], [writing])
            finally:
                os.close(writing)
            try:
                process = self._started.get(timeout=START_S)
            except queue.Empty:
                process = None
        if process is None:
            raise NotInTime(f"{name} was not started: the zygote ended or took more than {START_S:g} s; its errors are on stderr")
        return process

    def _hear(self) -> None:
        with self._socket.makefile("rb") as lines:
            for line in lines:
                self._take(read_report(line))
        self._started.put(None)

    def _take(self, report: Report) -> None:
        if report.status is not None:
            self._processes.pop(report.pid).ended(report.status)
        elif self._starting is not None:
            process, self._starting = self._starting, None
            process.pid = report.pid
            self._processes[report.pid] = process
            self._started.put(process)

    def close(self) -> None:
        """Kill what runs still, and end."""
        self._socket.shutdown(socket.SHUT_WR)
        self._zygote.wait()
        self._hearing.join()
        self._socket.close()

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close."""
        self.close()
