"""Who may import whom: the layers of the toolkit, and a core that needs no driver."""

import subprocess
import sys
from pathlib import Path

from tests.architecture.source_tree import ROOT

CORE_MAY_USE = {"millrace", "msgspec"}

IMPORT_WITHOUT_DRIVERS = """
import sys

class Refuse:
    '''Answers for every package but the standard library and those named on the command line.'''
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)

allowed = {*sys.stdlib_module_names, *sys.argv[1].split(",")}
before = set(sys.modules)
sys.meta_path.insert(0, Refuse())
import millrace
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(",".join(sorted(loaded - set(sys.stdlib_module_names))))
"""


def test_the_core_needs_no_driver() -> None:
    """`import millrace` works where only msgspec is installed, and loads no engine, client or web framework."""
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_WITHOUT_DRIVERS, ",".join(sorted(CORE_MAY_USE))],
        capture_output=True,
        check=False,
        text=True,
    )

    assert run.returncode == 0, run.stderr
    assert set(run.stdout.strip().split(",")) <= CORE_MAY_USE


def test_the_core_loads_no_engine() -> None:
    """`import millrace` leaves every engine alone; an application's bootstrap names the one it wants."""
    run = subprocess.run(
        [sys.executable, "-c", "import sys, millrace; print(*(m for m in sys.modules if m.startswith('millrace.')))"],
        capture_output=True,
        check=True,
        text=True,
    )

    assert [name for name in run.stdout.split() if name.startswith(("millrace.engines", "millrace.testing"))] == []


def test_import_direction() -> None:
    """The import contracts in pyproject.toml hold."""
    run = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache", "--no-logo"],
        capture_output=True,
        check=False,
        cwd=ROOT,
        text=True,
    )

    assert run.returncode == 0, run.stdout + run.stderr
