"""The lower end of a zygote: forks what it is asked for, becomes it in the child, reports what has ended.

It stays a process with one thread and nothing open but its socket, because only such a process can be forked without surprises. A child
takes its output, environment and trap, and then runs its entry point as if it had been started for it.

Neighbours: `zygote` is the upper end; `counting` and `tracing` set the trap.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from millrace.testing.crash.counting import Counter, Trap
from millrace.testing.crash.tracing import listen
from millrace.testing.crash.wire import Report, Start, line_of, read_start

_MESSAGE_MAX = 1 << 20


class Forge:
    """The lower end: forks what it is asked for and reports what has ended.

    Args:
        control: the socket to the upper end.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: set[int] = set()
        self._wakeup = socket.socketpair()
        for end in self._wakeup:
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, _noted)
        signal.set_wakeup_fd(self._wakeup[1].fileno(), warn_on_full_buffer=False)

    def run(self) -> None:
        """Work until the upper end goes away."""
        ready = selectors.DefaultSelector()
        ready.register(self._control, selectors.EVENT_READ)
        ready.register(self._wakeup[0], selectors.EVENT_READ)
        while True:
            places = [key.fileobj for key, _ in ready.select()]
            if self._wakeup[0] in places:
                self._wakeup[0].recv(4096)
                self._reap()
            if self._control in places and not self._obey():
                break
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
            self._tell_end(pid, os.waitpid(pid, 0)[1])

    def _obey(self) -> bool:
        data, handles, _, _ = socket.recv_fds(self._control, _MESSAGE_MAX, 1)
        while data and not data.endswith(b"\n"):
            data += self._control.recv(_MESSAGE_MAX)
        if not data:
            return False
        pid = os.fork()
        if pid == 0:
            self._become(read_start(data), handles[0])
        os.close(handles[0])
        self._children.add(pid)
        self._tell(Report(pid=pid))
        return True

    def _reap(self) -> None:
        for pid in list(self._children):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self._children.discard(pid)
                self._tell_end(pid, status)

    def _tell_end(self, pid: int, status: int) -> None:
        with contextlib.suppress(BrokenPipeError):  # nobody is there any more who would want to know
            self._tell(Report(pid=pid, status=os.waitstatus_to_exitcode(status)))

    def _tell(self, report: Report) -> None:
        self._control.sendall(line_of(report))

    def _become(self, order: Start, output: int) -> NoReturn:
        """Be the program from here on."""
        status = 1
        try:
            self._let_go()
            _take_output(output)
            os.environ.update(order.environment)
            status = run(order.entry, list(order.arguments), trap=order.trap)
        except BaseException:  # noqa: BLE001  # the end of a process, whatever the reason
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _let_go(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (*self._wakeup, self._control):
            end.close()


def _noted(_number: int, _frame: object) -> None:
    """The signal's whole work is to wake the selector."""


def _take_output(output: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    for handle, place in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(handle, place)
    os.close(nothing)
    os.close(output)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)


def run(entry: str, arguments: Sequence[str], *, trap: Trap | None) -> int:
    """Run an entry point in this process, with a trap, and return its exit status."""
    if trap is not None:
        listen(Counter(trap))
    module, _, function = entry.partition(":")
    sys.argv = [module, *arguments]
    main: Any = getattr(import_module(module), function)
    try:
        status = main(list(arguments))
    except SystemExit as end:
        status = end.code
    return status if isinstance(status, int) else int(status is not None)


def main(argv: Sequence[str]) -> int:
    """Be a zygote: the number of the socket, and the modules to import."""
    for module in argv[1:]:
        import_module(module)
    with socket.socket(fileno=int(argv[0])) as control:
        Forge(control).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
