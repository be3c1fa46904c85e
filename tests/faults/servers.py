"""Servers that a fault may stop, kill, fill and hold up: a Kafka of one node or three and a PostgreSQL, of these tests' own.

Neighbours: `deploy.servers` starts them; `conftest` hands them out, the same ones to all runs that need the same.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from deploy.servers import postgres
from deploy.servers.kafka import READY_S, KafkaCluster, KafkaNode, free_ports
from tests.engines.kafka_places import jars
from tests.faults.detour import Detour

DISK = "192m"
CHUNK = 1 << 20


class Needs(NamedTuple):
    """What a kind of fault needs of its servers."""

    nodes: int = 1
    detour: bool = False
    small_disk: bool = False


class DetouredKafka(KafkaCluster):
    """One node with a second listener, whose clients come by a detour."""

    def __init__(self, folder: Path, *, jars: Path) -> None:
        super().__init__(folder, jars=jars)
        self._second = free_ports(1)[0]
        self.detour = Detour(self._second)

    def _properties(self, node: KafkaNode, controller: int, voters: str) -> str:
        own = f"PLAINTEXT://127.0.0.1:{node.port}"
        return super()._properties(node, controller, voters) + "\n".join(
            (
                f"listeners={own},DETOUR://127.0.0.1:{self._second},CONTROLLER://127.0.0.1:{controller}",
                f"advertised.listeners={own},DETOUR://127.0.0.1:{self.detour.port}",
                "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,DETOUR:PLAINTEXT\n",
            )
        )

    def stop(self) -> None:
        """Stop the node, close the detour."""
        super().stop()
        self.detour.close()


class SmallDisk:
    """A file system of its own, in memory, for the tables of a PostgreSQL; its write-ahead log lies elsewhere.

    Args:
        cluster: the folder of the PostgreSQL, which is told that its place is here.
    """

    def __init__(self, cluster: Path) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="small-disk-"))
        self._logs = Path(tempfile.mkdtemp(prefix="small-disk-logs-"))
        self._filler = self.place / "filler"
        owner = next(entry for name in ("postgres", "nobody") if (entry := _entry(name)) is not None)
        options = f"size={DISK},mode=700,uid={owner.pw_uid},gid={owner.pw_gid}"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.place], capture_output=True, text=True, check=False)
        if done.returncode:
            self._forget()
            pytest.skip(f"a full disk needs the right to mount a file system: {done.stderr.strip()}")
        os.chown(self._logs, owner.pw_uid, owner.pw_gid)
        cluster.mkdir(parents=True)
        (cluster / "place").write_text(str(self.place))
        postgres.start(cluster)
        postgres.stop(cluster)
        log = self.place / "data" / "pg_wal"
        subprocess.run(["cp", "-a", log, self._logs / "pg_wal"], check=True)
        shutil.rmtree(log)
        log.symlink_to(self._logs / "pg_wal")

    def fill(self) -> None:
        """Leave no room."""
        with self._filler.open("ab", buffering=0) as filler:
            for size in (CHUNK, 4096):
                try:
                    while True:
                        filler.write(bytes(size))
                except OSError:
                    continue

    def free(self) -> None:
        """Give the room back."""
        self._filler.unlink()

    def remove(self) -> None:
        """Unmount and delete."""
        subprocess.run(["umount", self.place], check=True)
        self._forget()

    def _forget(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.rmtree(self._logs, ignore_errors=True)


def _entry(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


class Servers:
    """What a run uses; started by making it.

    Args:
        folder: where they lie.
        needs: which ones.
    """

    def __init__(self, folder: Path, needs: Needs) -> None:
        try:
            postgres.binaries()
        except postgres.ServerFailed as error:
            pytest.skip(str(error))
        self.needs = needs
        self.kafka = DetouredKafka(folder / "kafka", jars=jars()) if needs.detour else _cluster(folder / "kafka", needs.nodes)
        self._postgres = folder / "postgres"
        self.disk: SmallDisk | None = None
        try:
            self.brokers = self.kafka.start()
            self.disk = SmallDisk(self._postgres) if needs.small_disk else None
            self.store = postgres.start(self._postgres)
        except BaseException:
            self.stop()
            raise

    @property
    def detour(self) -> Detour:
        """Return the way that can be held up."""
        assert isinstance(self.kafka, DetouredKafka)
        return self.kafka.detour

    def start_nodes(self) -> None:
        """Start the nodes of Kafka that were killed; returns when they answer."""
        dead = [node for node in self.kafka.nodes if node.pid() is None]
        for node in dead:
            node.start()
        for node in dead:
            node.wait(time.monotonic() + READY_S)

    def start_store(self) -> None:
        """Start PostgreSQL again where it was."""
        postgres.start(self._postgres, int(self.store.rpartition(":")[2].partition("/")[0]))

    def stop_store(self) -> None:
        """Stop PostgreSQL as its operator does."""
        postgres.stop(self._postgres)

    def kill_store(self) -> None:
        """End PostgreSQL as a crash does."""
        postgres.kill(self._postgres)

    def stop(self) -> None:
        """Stop everything and delete its data."""
        self.kafka.stop()
        if self.disk is not None:
            postgres.stop(self._postgres)
            self.disk.remove()
        elif self._postgres.exists():
            postgres.remove(self._postgres)


def _cluster(folder: Path, nodes: int) -> KafkaCluster:
    return KafkaCluster(folder, nodes=nodes, jars=jars())
