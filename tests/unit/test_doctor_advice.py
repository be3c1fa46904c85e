"""Whatever an engine finds wrong with its servers, `millrace doctor` says what to do about it."""

from __future__ import annotations

import pytest

from millrace import doctor
from millrace.engines.kafka import check as kafka
from millrace.engines.postgres import checkup as postgres

BAD_BROKER = {"unclean.leader.election.enable": "true", "auto.create.topics.enable": "true"}
BAD_SERVER = (120_000, "12.9", "off", "off", "off", "minimal", 10_000_000, 20, 15, True, False)
CLUSTERS = {
    "nobody": kafka.Found("c", [], {}, {}, {}, {}),
    "few copies": kafka.Found("c", ["1", "2", "3"], {"1": BAD_BROKER}, {"t": {}}, {"t": 1}, {"cleanup.policy": "delete"}),
    "all needed": kafka.Found("c", ["1", "2", "3"], {}, {"t": {"min.insync.replicas": "3"}}, {"t": 3}, {"cleanup.policy": "compact"}),
}


@pytest.mark.parametrize("name", CLUSTERS)
def test_what_is_wrong_with_a_cluster_has_advice(name: str) -> None:
    """Each check of Kafka that can fail does here, and its name is known to the doctor."""
    wrong = {what for what, well, _ in kafka.judge(CLUSTERS[name]) if not well}
    assert wrong
    assert wrong <= doctor.ADVICE.keys()


def test_every_check_of_a_cluster_was_seen_to_fail() -> None:
    """No check is left out above; a broker's version is told and never wrong."""
    checks = {what for found in CLUSTERS.values() for what, *_ in kafka.judge(found)}
    failed = {what for found in CLUSTERS.values() for what, well, _ in kafka.judge(found) if not well}
    assert checks == failed


def test_what_is_wrong_with_a_server_has_advice() -> None:
    """The same for PostgreSQL: every check fails here, and its name is known to the doctor."""
    findings = postgres.judge(BAD_SERVER, before=20.0, after=20.1, version=-1)
    assert not any(well for _, well, _ in findings)
    assert {what for what, *_ in findings} <= doctor.ADVICE.keys()
