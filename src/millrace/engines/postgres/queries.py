"""The engine's SQL, loaded from the `.sql` files beside this module by name and bound to a schema.

A query opens with `-- name: <name>`; the name is kept as a comment in front of the statement, so that the server's own views say which
operation runs. One that is marked `locking` exists a second time as `<name> for update`; one that is marked `fresh` is not prepared.
`{schema}` stands for the quoted schema.

Neighbours: every table module of this engine; `session` prepares a statement the first time it meets it.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from itertools import count

_PACKAGE = __package__ or "millrace.engines.postgres"
_numbers = count(1)


class Statement:
    """One statement: its text for the server, and a name under which a session prepares it, unless it is to be planned each time."""

    __slots__ = ("fresh", "id", "name", "text")

    def __init__(self, name: str, text: str, *, fresh: bool = False) -> None:
        self.name = name
        self.fresh = fresh
        self.text = text.encode()
        self.id = b"m%d" % next(_numbers)


class Statements:
    """The statements of one `.sql` file for one schema.

    Args:
        file: the file's name.
        schema: the schema's name, unquoted.
    """

    def __init__(self, file: str, schema: str = "") -> None:
        self.place = quoted(schema)
        self._found = {
            name: Statement(name, text.replace("{schema}", self.place), fresh=fresh) for name, (text, fresh) in _load(file).items()
        }

    def __getitem__(self, name: str) -> Statement:
        return self._found[name]


@cache
def _load(file: str) -> dict[str, tuple[str, bool]]:
    queries: dict[str, tuple[str, bool]] = {}
    for block in _text(file).split("-- name: ")[1:]:
        title, _, body = block.partition("\n")
        name, _, mark = title.strip().partition(", ")
        lines = [line for line in body.splitlines() if not line.startswith("--")]
        text = f"/* {name} */ " + "\n".join(lines).strip()
        queries[name] = (text, mark == "fresh")
        if mark == "locking":
            locking = text.replace("offset 0", "for update") if "offset 0" in text else f"{text} for update"
            queries[f"{name} for update"] = (locking, False)
    return queries


def _text(file: str) -> str:
    return (files(_PACKAGE) / file).read_text(encoding="utf-8")


def quoted(name: str) -> str:
    """Return a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


@cache
def migrations() -> tuple[str, ...]:
    """Return the texts of `store_001.sql` and on, in order; how many there are is the version that this release writes."""
    names = sorted(each.name for each in files(_PACKAGE).iterdir() if each.name.startswith("store_") and each.name.endswith(".sql"))
    return tuple(_text(name) for name in names)
