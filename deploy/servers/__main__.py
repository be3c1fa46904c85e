"""Start and stop the servers for development and tests: `python -m deploy.servers start [--kafka-nodes 1|3] | stop | status`.

Data lie in `build/servers`, which `make clean` removes. `start` writes `.servers.env`, the settings for the shop and for the tests, one a
line; `set -a; . ./.servers.env` puts them into a shell. Starting what runs already changes nothing.

Neighbours: `kafka` and `postgres` do the work; where one of them is not there, or fails, the other one is started all the same.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from deploy.servers.kafka import KafkaCluster, ServerFailed, free_ports, is_open

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "build" / "servers"
SETTINGS = ROOT / ".servers.env"
POSTGRES_PORT = "postgres.port"


def main() -> int:
    """Do what the command line says; return 1 when something did not start."""
    parser = argparse.ArgumentParser(prog="python -m deploy.servers", description="Kafka and PostgreSQL for development and tests.")
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="start what does not run")
    start.add_argument("--kafka-nodes", type=int, choices=(1, 3), default=1, help="three copy each other's records")
    commands.add_parser("stop", help="stop both, keep the data")
    commands.add_parser("status", help="say what runs")
    arguments = parser.parse_args()
    if arguments.command == "start":
        return start_all(arguments.kafka_nodes)
    return stop_all() if arguments.command == "stop" else tell_status()


def start_all(nodes: int) -> int:
    """Start both and write the settings."""
    lines: list[str] = []
    failed = 0
    for name, begin in (("Kafka", lambda: start_kafka(nodes)), ("PostgreSQL", start_postgres)):
        try:
            lines += begin()
        except (ServerFailed, OSError, RuntimeError) as error:
            failed = 1
            print(f"{name}: {error}", file=sys.stderr)
    SETTINGS.write_text("".join(f"{line}\n" for line in lines))
    print("\n".join(lines))
    return failed


def start_kafka(nodes: int) -> list[str]:
    """Start Kafka; return its settings."""
    address = cluster_of(nodes).start()
    return [f"PARCOMOLO_LOG=kafka://{address}", f"MILLRACE_TEST_KAFKA={address}"]


def cluster_of(nodes: int) -> KafkaCluster:
    """Return the cluster with so many nodes; one and three are two clusters, each with data of its own."""
    return KafkaCluster(DATA / ("kafka" if nodes == 1 else f"kafka-{nodes}"), nodes=nodes, jars=DATA / "kafka" / "jars")


def start_postgres() -> list[str]:
    """Start PostgreSQL; return its settings."""
    postgres = _postgres()
    if postgres is None:
        return []
    kept = DATA / POSTGRES_PORT
    kept.parent.mkdir(parents=True, exist_ok=True)
    if not kept.exists():
        kept.write_text(str(free_ports(1)[0]))
    url = postgres.start(DATA / "postgres", int(kept.read_text()))
    return [f"PARCOMOLO_STORE={url}", f"MILLRACE_TEST_POSTGRES={url}"]


def stop_all() -> int:
    """Stop whatever runs."""
    for nodes in (1, 3):
        cluster = cluster_of(nodes)
        cluster.find()
        cluster.stop()
    postgres = _postgres()
    if postgres is not None and (DATA / "postgres").exists():
        postgres.stop(DATA / "postgres")
    SETTINGS.unlink(missing_ok=True)
    return 0


def tell_status() -> int:
    """Print what runs; return 1 when nothing does."""
    running: list[str] = []
    for nodes in (1, 3):
        cluster = cluster_of(nodes)
        cluster.find()
        running += [f"Kafka node {node.number} of {nodes} on port {node.port}" for node in cluster.nodes if node.pid() is not None]
    kept = DATA / POSTGRES_PORT
    if kept.exists() and is_open(int(kept.read_text())):
        running.append(f"PostgreSQL on port {kept.read_text()}")
    print("\n".join(running) or "nothing runs; start with: make servers")
    return 0 if running else 1


def _postgres() -> Any:
    """Return the module that starts PostgreSQL, None where it is not there."""
    if importlib.util.find_spec("deploy.servers.postgres") is None:
        return None
    return importlib.import_module("deploy.servers.postgres")


if __name__ == "__main__":
    sys.exit(main())
