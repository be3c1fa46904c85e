"""`millrace doctor` beside a real server that is set up badly: each thing that is wrong is named, with what to change; nothing else is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import psycopg
import pytest

from deploy.servers import postgres
from millrace.engines.postgres import checkup
from millrace.engines.postgres.store import PostgresStore
from millrace.testing.conformance.servers import POSTGRES
from tests.e2e.running_shop import RunningShop, run
from tests.shop_places import CHOICE

pytestmark = pytest.mark.slow
CARELESS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "wal_level": "minimal", "max_wal_senders": "0"}
CONNECTIONS, TAKEN = 40, 24


class Patient:
    """A shop that has stopped, whose stores are on a server that is restarted with other settings."""

    def __init__(self, server: Path, data: Path) -> None:
        self._server = server
        self._data = data
        self.url = postgres.start(server)

    def restart(self, **settings: str) -> None:
        """Let the server come up with settings."""
        postgres.stop(self._server)
        assert postgres.start(self._server, urlsplit(self.url).port or 0, **settings) == self.url

    def mark(self, name: str, *, there: bool) -> None:
        """Put a file by which a server is told something at its start, or take it away."""
        path = postgres.data_of(self._server) / name
        path.touch() if there else path.unlink()

    def wrong(self, **settings: str) -> dict[str, tuple[str, str]]:
        """Return what doctor finds wrong: what -> (where, advice), having checked that each has advice and that the status says so."""
        ran = run("millrace", "--app", "parcomolo", "doctor", "--json", data=self._data, **settings)
        findings = [each for each in ran.json if each["state"] == "wrong"]
        assert ran.status == int(bool(findings)), ran
        assert all(each["advice"] for each in findings), findings
        return {each["what"]: (each["found"], each["advice"]) for each in findings}


@pytest.fixture
def patient(server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    """The shop has run once on the server as it should be, and doctor finds nothing."""
    found = Patient(server, tmp_path / "data")
    monkeypatch.setenv(POSTGRES, found.url)
    monkeypatch.setenv(CHOICE, "sqlite/postgres")
    with RunningShop(tmp_path / "data", shipping_delay="0") as shop:
        shop.completed()
        shop.terminate()
    assert found.wrong() == {}
    yield found
    found.restart()
    assert found.wrong() == {}
    assert run("parcomolo", "reset", "--yes", data=tmp_path / "data").status == 0


def test_settings_that_lose_data_are_named(patient: Patient) -> None:
    """A server that does not wait for its disk, writes half pages and cannot be backed up, and has no connections left."""
    patient.restart(**CARELESS, max_connections=str(CONNECTIONS))
    with ExitStack() as held:
        for _ in range(TAKEN):
            held.enter_context(psycopg.connect(patient.url))
        found = patient.wrong()
    assert set(found) == {"fsync", "full_page_writes", "synchronous_commit", "wal_level", "connections"}
    for name in ("fsync", "full_page_writes", "synchronous_commit", "wal_level"):
        assert name in found[name][1]
    assert "max_connections" in found["connections"][1]


def test_a_standby_is_named(patient: Patient) -> None:
    """A server that only repeats another one, named in the address by mistake."""
    patient.mark("standby.signal", there=True)
    patient.restart()
    found = patient.wrong()
    patient.mark("standby.signal", there=False)
    assert set(found) == {"primary"}


def test_a_role_that_may_not_migrate_is_named(patient: Patient) -> None:
    """A role that sees the tables of the services and may make none."""
    with psycopg.connect(patient.url, autocommit=True) as connection:
        connection.execute("create role looker login in role pg_read_all_data")
        try:
            found = patient.wrong(store=patient.url.replace("//postgres@", "//looker@"))
        finally:
            connection.execute("drop role looker")
    assert set(found) == {"migrate"}


@pytest.mark.parametrize("ahead", [-5.0, 5.0])
async def test_clocks_that_differ_are_named(store: PostgresStore, monkeypatch: pytest.MonkeyPatch, ahead: float) -> None:
    """This machine's clock is five seconds off the server's."""
    monkeypatch.setattr(checkup, "time", SimpleNamespace(time=lambda: time.time() + ahead))
    wrong = {what: text for what, well, text in await store.check() if not well}
    assert set(wrong) == {"clock"}
    assert wrong["clock"].startswith(("+5.", "+4.") if ahead < 0 else ("-5.", "-4.")), wrong
