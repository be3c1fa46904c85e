"""The suite's own SQL, loaded by name from the `.sql` files beside this module.

Neighbours: `sample` writes rows of its own with it, `sqlite_kit` does damage with it.
"""

from __future__ import annotations

from importlib.resources import files


def load_statements(file: str) -> dict[str, str]:
    """Return name -> statement of a `.sql` file in this folder."""
    blocks = (files("millrace.testing.conformance") / file).read_text(encoding="utf-8").split("-- name: ")[1:]
    return {name.strip(): body.strip() for name, _, body in (block.partition("\n") for block in blocks)}
