"""The checkout style of an installation on a server holds for all its processes, whatever folders they have."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from millrace.errors import ConfigurationError
from millrace.testing.conformance.postgres_kit import server_address
from parcomolo.bootstrap import _settled, _stored, application
from parcomolo.configuration import SERVICES, Configuration, configuration


@pytest.fixture
def place():
    """Return the settings of a process with a folder of its own; the installation's schemas go at the end."""
    address, namespace = server_address(), f"u{os.urandom(5).hex()}"

    def settings(folder: Path, **more: str) -> Configuration:
        return configuration({"store": address, "namespace": namespace, "data": str(folder)} | more)

    yield settings
    with psycopg.connect(address, autocommit=True) as connection:
        for service in SERVICES:
            connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(f"{namespace}_{service}")))


async def test_the_style_of_the_first_start_holds_everywhere(place, tmp_path: Path) -> None:
    """Another folder, and processes of other services, find it; another value is refused, and leaves nothing behind."""
    first = await _settled(place(tmp_path / "a", checkout="choreography", services="orders"))
    assert (first.checkout, first.services) == ("choreography", ("orders",))
    for more in ({}, {"services": "inventory"}, {"checkout": "choreography"}):
        assert (await _settled(place(tmp_path / "b", **more))).checkout == "choreography"
    with pytest.raises(ConfigurationError, match=r"--checkout .*orchestration.*choreography, as stored"):
        await _settled(place(tmp_path / "c", checkout="orchestration"))
    assert not (tmp_path / "c").exists()
    with pytest.raises(ConfigurationError, match=r"--services .*checkout"):
        await _settled(place(tmp_path / "c", services="checkout"))
    assert await _stored(place(tmp_path / "d")) == "choreography"


async def test_of_two_that_start_at_once_one_decides(place, tmp_path: Path) -> None:
    """The other is refused, or both want the same."""
    styles = ("orchestration", "choreography")
    starts = [_settled(place(tmp_path / style, checkout=style)) for style in styles]
    ended = await asyncio.gather(*starts, return_exceptions=True)
    assert sorted(isinstance(end, ConfigurationError) for end in ended) == [False, True], ended
    [won] = [end.checkout for end in ended if isinstance(end, Configuration)]
    assert await _stored(place(tmp_path / "later")) == won


async def test_who_only_looks_finds_it_too(place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The toolkit's command line has the services of the style."""
    config = await _settled(place(tmp_path / "a", checkout="choreography"))
    monkeypatch.setenv("PARCOMOLO_STORE", config.store)
    monkeypatch.setenv("PARCOMOLO_NAMESPACE", config.namespace)
    monkeypatch.setenv("PARCOMOLO_DATA", str(tmp_path / "b"))
    assert "checkout" not in {service.name for service in application().services}
