"""Where the shops of tests keep their data: a folder, or servers beside it; no test names an engine.

`PARCOMOLO_TEST_ENGINE` says which log with which stores, `kafka/postgres` or `sqlite/postgres` say; without it both are files. The
servers are those of the conformance suite. Each folder has a namespace of its own, which a note beside
the folder keeps, so that a shop that is started again finds its data; it is deleted when the tests have ended.

Neighbours: whoever starts a shop for a test asks for the settings of its folder.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

from millrace import MillraceError
from millrace.testing.conformance.servers import KAFKA, POSTGRES, server
from parcomolo.bootstrap import erase
from parcomolo.configuration import configuration

CHOICE = "PARCOMOLO_TEST_ENGINE"
SERVERS = {"kafka": ("log", KAFKA, "kafka://"), "postgres": ("store", POSTGRES, "")}

_left: list[dict[str, str]] = []


def settings_of(folder: Path) -> dict[str, str]:
    """Return the settings, by name, that put the shop of a folder where this run wants it; none for the embedded engine."""
    return _with_namespace(folder, servers(os.environ.get(CHOICE, "")))


def servers(pair: str) -> dict[str, str]:
    """Return the settings that name the servers of a log and stores, or skip the test."""
    return dict(_server(name) for name in pair.split("/") if name not in {"", "sqlite"})


def variables_of(folder: Path) -> dict[str, str]:
    """Return the settings of a folder as environment variables."""
    return _variables(settings_of(folder))


def environment_of(folder: Path, settings: dict[str, str]) -> dict[str, str]:
    """Return an environment with servers for a folder, and no other setting of a shop."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PARCOMOLO_")}
    return {**ours, **_variables(_with_namespace(folder, settings))}


def _variables(settings: dict[str, str]) -> dict[str, str]:
    return {f"PARCOMOLO_{name.upper()}": value for name, value in settings.items()}


def _with_namespace(folder: Path, settings: dict[str, str]) -> dict[str, str]:
    return {**settings, "namespace": _namespace(folder, settings)} if settings else {}


def files_of(folder: Path) -> Path:
    """Return the folder of what lies in files whatever the engine is."""
    return folder / settings_of(folder).get("namespace", "")


def _server(name: str) -> tuple[str, str]:
    assert name in SERVERS, f"{CHOICE}: {name!r} is none of sqlite, {', '.join(SERVERS)}"
    setting, variable, scheme = SERVERS[name]
    return setting, f"{scheme}{server(variable).removeprefix(scheme)}"


def _namespace(folder: Path, settings: dict[str, str]) -> str:
    note = folder.parent / f".{folder.name}.namespace"
    note.parent.mkdir(parents=True, exist_ok=True)
    if not note.exists():
        note.write_text(f"t-{uuid.uuid4().hex[:12]}")
        _left.append({**settings, "namespace": note.read_text(), "data": str(folder)})
    return note.read_text()


def disown(folder: Path) -> None:
    """Leave what the shop of a folder has on servers to whoever deletes it, or the servers, himself."""
    _left[:] = [settings for settings in _left if settings["data"] != str(folder)]


def forget_all() -> None:
    """Delete what is left; a server that is gone by now has nothing to delete."""
    while _left:
        with contextlib.suppress(MillraceError):
            erase(configuration(_left.pop()), dry_run=False)
