"""What a user installs: the toolkit's wheel, without the application and without this repository."""

import os
import subprocess
import sys
import venv
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

from tests.architecture.source_tree import ROOT, code

pytestmark = pytest.mark.slow

USED_BY_THE_CORE = {"apsw", "msgspec"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    run("-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder), cwd=ROOT)
    (built,) = folder.glob("millrace-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment in which nothing but the wheel and what it asks for was installed."""
    folder = tmp_path_factory.mktemp("user")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run("-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt"), str(wheel), python=python)
    return folder


def run(*arguments: str, python: Path | str = sys.executable, cwd: Path | None = None) -> str:
    """Standard output of a Python command that has to succeed, run away from this repository's packages."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    process = subprocess.run([str(python), *arguments], capture_output=True, check=False, cwd=cwd, env=environment, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def metadata(wheel: Path) -> Message:
    """The wheel's core metadata."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        return message_from_string(archive.read(name).decode())


def test_the_wheel_carries_the_toolkit_alone(wheel: Path) -> None:
    """Every module and SQL file is in it, and nothing of the application or the tests."""
    expected = {path.removeprefix("src/") for path in code(".py", ".sql", ".typed", below=("src/millrace",))}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    assert expected <= names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"millrace"}


def test_the_wheel_asks_for_two_packages(wheel: Path) -> None:
    """Only the codec and the default engine's driver come along; everything else is an extra."""
    described = metadata(wheel)
    unconditional = [each for each in described.get_all("Requires-Dist", []) if "extra ==" not in each]

    assert {each.split(">")[0].strip() for each in unconditional} == USED_BY_THE_CORE
    assert described["License-Expression"] == "Apache-2.0"
    assert described["Requires-Python"] == ">=3.11"


def test_the_wheel_works_alone(installed: Path, tmp_path: Path) -> None:
    """In an environment of its own the package imports, finds its engine's SQL and answers on the command line."""
    python = installed / "bin" / "python"
    listed = run("-m", "pip", "list", "--format", "freeze", python=python, cwd=tmp_path).split()
    packages = {line.partition("==")[0] for line in listed} - {"pip", "setuptools"}

    assert packages == {"millrace"} | USED_BY_THE_CORE
    run("-c", "import millrace, millrace.engines.sqlite", python=python, cwd=tmp_path)
    run(str(installed / "bin" / "millrace"), "--help", python=python, cwd=tmp_path)
