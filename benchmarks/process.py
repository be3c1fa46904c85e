"""Programs that are measured from outside: start a server and wait until it is ready, stop it, read its CPU and memory.

Contract: a server is an argument list and the URL that answers 200 once it is ready; its output goes to a file, whose
end is part of the error when it does not come up. CPU and memory come from ``/proc`` where there is one, else from
``ps``.
"""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import fail

START_LIMIT = 30.0
STOP_LIMIT = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its address, its process and how long it took to be ready, in seconds."""

    url: str
    pid: int
    ready_after: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used: CPU seconds so far, resident MiB now."""

    cpu: float
    rss_mib: float


def free_port() -> int:
    """A TCP port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(command: Sequence[str], *, port: int, ready: str, log: Path, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run ``command`` during the block: entered once ``ready`` (a path) answers 200, left after a graceful stop."""
    url = f"http://127.0.0.1:{port}"
    begin = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **(env or {})})
        try:
            _await_ready(process, url + ready, begin=begin, log=log)
            yield Server(url, process.pid, time.perf_counter() - begin)
        finally:
            _stop(process, log)


def _await_ready(process: "subprocess.Popen[bytes]", url: str, *, begin: float, log: Path) -> None:
    while time.perf_counter() - begin < START_LIMIT:
        if process.poll() is not None:
            fail(f"{process.args} ended with {process.returncode}: {_tail(log)}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:  # refused, or 503 while it starts
            time.sleep(0.01)
    fail(f"{process.args} was not ready after {START_LIMIT:.0f} s: {_tail(log)}")


def _stop(process: "subprocess.Popen[bytes]", log: Path) -> None:
    if process.poll() is not None:
        fail(f"{process.args} ended by itself with {process.returncode}: {_tail(log)}")
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        fail(f"{process.args} did not stop within {STOP_LIMIT:.0f} s of SIGTERM: {_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_bytes()[-2000:].decode(errors="replace")


def usage(pid: int) -> Usage:
    """CPU and memory of a running process."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return _usage_by_ps(pid)
    fields = stat.read_text().rsplit(")", 1)[1].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return Usage(cpu, int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20)


def _usage_by_ps(pid: int) -> Usage:
    rss, cpu = subprocess.run(["ps", "-o", "rss=,time=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout.split()
    seconds = 0.0
    for part in cpu.replace("-", ":").split(":"):
        seconds = seconds * 60 + float(part)
    return Usage(seconds, int(rss) / 1024)


def machine_time() -> tuple[float, float]:
    """Time now, and CPU seconds the whole machine has been busy."""
    try:
        fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return time.perf_counter(), 0.0
    return time.perf_counter(), (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def children_cpu() -> float:
    """CPU seconds of this process and of the children it has waited for, and of theirs."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
