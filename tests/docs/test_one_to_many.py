"""The page "from one machine to many" and the compose file: the first is run, the second is compared with the servers for development."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.servers import postgres
from tests.docs.walk import walk
from tests.shop_places import environment_of, servers

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "from-one-machine-to-many.md"
COMPOSE = ROOT / "deploy" / "compose.yaml"
NODE = ROOT / "deploy" / "servers" / "node.properties"
WALK_S = 240
SAME = (
    "process.roles",
    "controller.listener.names",
    "inter.broker.listener.name",
    "listener.security.protocol.map",
    "unclean.leader.election.enable",
    "auto.create.topics.enable",
    "num.partitions",
    "group.initial.rebalance.delay.ms",
    "group.min.session.timeout.ms",
)


@pytest.mark.slow
@pytest.mark.timeout(WALK_S * 2)
def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    """Its commands, in one shell from top to bottom, in an empty folder: every one succeeds, and nothing is left at the end."""
    variables = environment_of(tmp_path / "data", servers("kafka/postgres"))
    walked = walk(PAGE, tmp_path, variables, seconds=WALK_S, PARCOMOLO_NAMESPACE=variables["PARCOMOLO_NAMESPACE"])

    assert walked.status == 0, walked.said
    assert "Deleted the data in" in walked.said
    assert walked.said.count("Stopped.") == 4, walked.said


def test_the_compose_file_says_what_the_servers_say() -> None:
    """The shop has the settings of `.servers.env`, Kafka those of `node.properties`, PostgreSQL those of its start; versions agree."""
    text = COMPOSE.read_text()
    for variable, scheme in (("PARCOMOLO_LOG", "kafka://kafka:9092"), ("PARCOMOLO_STORE", "postgresql://postgres@postgres:5432/postgres")):
        assert f"      {variable}: {scheme}\n" in text
    told = dict(line.split("=", 1) for line in NODE.read_text().splitlines() if "=" in line and not line.startswith("#"))
    for name in SAME:
        found = re.search(rf'^      KAFKA_{name.upper().replace(".", "_")}: "?([^"\n]*)"?$', text, re.MULTILINE)
        assert found is not None, name
        assert found[1] == told[name], name
    for name, value in postgres.SETTINGS.items():
        if name not in {"listen_addresses", "unix_socket_directories", "log_line_prefix"}:
            assert f"{name}={value}" in text, name
    version = re.search(r"<kafka.version>(.*)</kafka.version>", (NODE.parent / "pom.xml").read_text())
    assert version is not None
    assert f"image: apache/kafka:{version[1]}\n" in text
    assert set(re.findall(r"^  (\w+):\n    image", text, re.MULTILINE)) == {"kafka", "postgres", "shop", "topics"}
