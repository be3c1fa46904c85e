"""The engine's SQL, loaded from the `.sql` files beside this module by name.

A query opens with `-- name: <name>`; the name is kept as a comment in front of the statement, so traces and crash tests can
say which operation ran. Neighbours: every table module of this engine.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files


def load_queries(file: str) -> dict[str, str]:
    """Return name -> statement of a `.sql` file in this folder."""
    text = (files(__package__ or "millrace.engines.sqlite") / file).read_text(encoding="utf-8")
    queries: dict[str, str] = {}
    for block in text.split("-- name: ")[1:]:
        name, _, body = block.partition("\n")
        lines = [line for line in body.splitlines() if not line.startswith("--")]
        queries[name.strip()] = f"/* {name.strip()} */ " + "\n".join(lines).strip()
    return queries


@cache
def migrations(kind: str) -> tuple[str, ...]:
    """Return the texts of `<kind>_001.sql` and on, in order; how many there are is the version that this release writes."""
    folder = files(__package__ or "millrace.engines.sqlite")
    names = sorted(each.name for each in folder.iterdir() if re.fullmatch(rf"{kind}_\d+\.sql", each.name))
    return tuple((folder / name).read_text(encoding="utf-8") for name in names)


STORE = load_queries("store.sql")
LOG = load_queries("log.sql")
TRANSFER = load_queries("transfer.sql")
