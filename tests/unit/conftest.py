"""Fixtures for tests of the command line: a data folder as a shop left it, and `millrace` on it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from millrace import cli
from tests.command_line import Millrace, Ran, fill


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder as a shop left it; copy it before use."""
    folder = tmp_path_factory.mktemp("filled") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_DATA", str(folder))
        folder.mkdir()
        asyncio.run(fill(folder))
    return folder


@pytest.fixture
def data(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder that the test may break."""
    folder = tmp_path / "data"
    shutil.copytree(filled, folder)
    monkeypatch.setenv("SHOP_DATA", str(folder))
    return folder


@pytest.fixture
def millrace(capsys: pytest.CaptureFixture[str]) -> Millrace:
    """The command line, in this process."""

    def run(command: str, *, app: str = "tests.sample_shop") -> Ran:
        capsys.readouterr()
        try:
            status = cli.main(["--app", app, *command.split()])
        except SystemExit as end:
            status = int(end.code or 0)
        return Ran(status, *capsys.readouterr())

    return run
