"""Where the shops of tests keep their data: a folder, or servers beside it; no test names an engine.

`PARCOMOLO_TEST_ENGINE` says which log with which stores, `kafka/postgres` or `sqlite/postgres` say; without it both are files. The
servers are those of the conformance suite. Each folder has a namespace of its own, which a note beside the folder keeps, so that a shop
that is started again finds its data. It is deleted beside later tests, because brokers with thousands of topics make every start slow, or
when the tests have ended.

Neighbours: whoever starts a shop for a test asks for the settings of its folder.
"""

from __future__ import annotations

import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

from millrace import MillraceError
from millrace.testing.conformance.servers import KAFKA, POSTGRES, server
from parcomolo.bootstrap import engine, erase
from parcomolo.configuration import INSTALLATION, configuration
from parcomolo.resetting import alone

CHOICE = "PARCOMOLO_TEST_ENGINE"
SERVERS = {"kafka": ("log", KAFKA, "kafka://"), "postgres": ("store", POSTGRES, "")}

KEPT = 4
"""So many of the newest shops may still be at work without a process that could be noticed: in this one, or between two starts."""
TOGETHER = 4

_left: list[dict[str, str]] = []
_sweeper = ThreadPoolExecutor(1, "sweeper")


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


def session_of(folder: Path) -> float:
    """Return for how many seconds a process of the shop may be dead before others take its partitions."""
    log = getattr(engine(configuration({"data": str(folder), **settings_of(folder)})), "of_log", None)
    return log.settings.session_s if hasattr(log, "settings") else 0.0


def _server(name: str) -> tuple[str, str]:
    assert name in SERVERS, f"{CHOICE}: {name!r} is none of sqlite, {', '.join(SERVERS)}"
    setting, variable, scheme = SERVERS[name]
    return setting, f"{scheme}{server(variable).removeprefix(scheme)}"


def _namespace(folder: Path, settings: dict[str, str]) -> str:
    note = folder.parent / f".{folder.name}.namespace"
    note.parent.mkdir(parents=True, exist_ok=True)
    if not note.exists():
        note.write_text(f"t-{uuid.uuid4().hex[:12]}")
        if len(_left) >= KEPT:
            _sweeper.submit(_forget, _left.pop(0))
        _left.append({**settings, "namespace": note.read_text(), "data": str(folder)})
    return note.read_text()


def disown(folder: Path) -> None:
    """Leave what the shop of a folder has on servers to whoever deletes it, or the servers, himself."""
    _left[:] = [settings for settings in _left if settings["data"] != str(folder)]


def forget_all() -> None:
    """Delete what is left."""
    _sweeper.shutdown()
    with ThreadPoolExecutor(TOGETHER) as threads:
        list(threads.map(lambda settings: _forget(settings, last=True), _left))
    _left.clear()


def _forget(settings: dict[str, str], *, last: bool = False) -> None:
    """Delete what a shop has on servers; one that still runs waits for the end. A server that is gone has nothing to delete."""
    config = configuration(settings)
    try:
        with alone(config.data) if (config.data / INSTALLATION).exists() else nullcontext(enter_result=True) as free:
            if free:
                erase(config, dry_run=False)
            elif not last:
                _left.append(settings)
    except MillraceError as error:
        if getattr(error, "reason", "") == "locked" and not last:
            _left.append(settings)
