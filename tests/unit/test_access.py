"""What each service needs on servers, as it follows from what services declare; nothing is opened for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from millrace import Application, ConfigurationError
from millrace.access import needs_of, rights_on_log, roles_for_stores
from millrace.cli import main
from millrace.engines.kafka import KafkaEngine
from millrace.engines.postgres import PostgresEngine
from millrace.engines.sqlite import SqliteEngine
from millrace.rights import Needs
from millrace.split import SplitEngine
from millrace.testing.conformance.sample import APPLICATION, Behaviour, clerk, counter, teller
from tests.command_line import Millrace

ALARMS, CALLS = "internal.alarms", "internal.control"
"""Where operators call every service, and each answers."""


def on_servers() -> Application:
    """The sample application on servers that nobody has started."""
    log = KafkaEngine("kafka://nowhere:9092?namespace=ns.")
    stores = PostgresEngine("postgresql://nobody@nowhere/x", namespace="ns")
    return Application(APPLICATION, [teller(), counter(Behaviour()), clerk(Behaviour())], engine=SplitEngine(log=log, stores=stores))


def test_needs_follow_from_declarations() -> None:
    """A service reads the topics of its processors and views and writes those of what it says; timers and local commands need no topic."""
    assert needs_of(on_servers()) == [
        Needs("teller", reads=(CALLS, "tally.commands"), writes=(ALARMS, CALLS, "tally")),
        Needs("counter", reads=(CALLS, "ready", "tally"), writes=("counts", ALARMS, CALLS)),
        Needs("clerk", reads=(CALLS, "tally"), writes=("counts", ALARMS, CALLS, "reminders")),
    ]


def test_rights_are_no_more_than_needed() -> None:
    """Only what a service says it may write, only what its processors read it may read, in its namespace and under its user's name."""
    rights = [right for right in rights_on_log(on_servers(), principal="User:app-{service}") if right.service == "counter"]
    assert {right.principal for right in rights} == {"User:app-counter"}
    assert all(right.name.startswith("ns.") for right in rights)
    for operation, topics in (("READ", {"ns.ready", "ns.tally"}), ("WRITE", {"ns.counts", f"ns.{ALARMS}"})):
        found = {right.name for right in rights if right.resource == "topic" and operation in right.operations}
        assert {name for name in found if "__millrace" not in name} == topics | {f"ns.{CALLS}"}
    assert {right.name for right in rights if right.resource == "group"} == {"ns.__millrace.leases", "ns.counter."}


def test_roles_own_one_schema_each() -> None:
    """The role of a service is given its schema, whatever both are called."""
    roles = roles_for_stores(on_servers(), role="shop_{service}")
    assert [(role.role, role.schema) for role in roles] == [(f"shop_{name}", f"ns_{name}") for name in ("teller", "counter", "clerk")]


@pytest.mark.parametrize("command", ["topics acls", "stores roles"])
def test_files_have_no_users(command: str, millrace: Millrace, data: Path) -> None:
    """On the embedded engine there is nothing to grant: one line, status 2."""
    ran = millrace(command)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "sqlite" in ran.err


@pytest.mark.parametrize("command", ["topics acls", "stores roles"])
def test_json_is_one_array(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` prints what is printed as text, as one value."""
    assert main(["--app", f"{__name__}:on_servers", *command.split(), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["service"] for row in rows} == {"teller", "counter", "clerk"}
    assert main(["--app", f"{__name__}:on_servers", *command.split()]) == 0
    text = capsys.readouterr().out
    assert all(row.get("command", row.get("sql")) in text for row in rows)


def test_embedded_is_refused_by_name(tmp_path: Path) -> None:
    """The engine that has no users is named."""
    app = Application(APPLICATION, [teller()], engine=SqliteEngine(tmp_path))
    for ask in (rights_on_log, roles_for_stores):
        with pytest.raises(ConfigurationError, match="sqlite"):
            ask(app)
