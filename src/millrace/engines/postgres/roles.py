"""A role for the store of one service: it owns its schema, and nobody else may look into it.

A schema belongs to who made it, so a role that owns one needs no further right, and roles of other services are refused by the server. Only
what `public` may do would open it again; that is taken away. Superusers and members of the role see everything, as always.

Neighbours: `engine` returns this; the statement is in `roles.sql`.
"""

from __future__ import annotations

from importlib.resources import files

from millrace.errors import ConfigurationError
from millrace.rights import Role

NAME_BYTES_MAX = 63
_TAG = "$millrace$"


def role_for(service: str, schema: str, role: str) -> Role:
    """Return the role of a service.

    Raises:
        ConfigurationError: PostgreSQL takes no such name.
    """
    if not role or len(role.encode()) > NAME_BYTES_MAX or _TAG in role or "\0" in role:
        raise ConfigurationError(f"role {role!r}: a name has 1 to {NAME_BYTES_MAX} bytes")
    text = (files(__package__ or "millrace.engines.postgres") / "roles.sql").read_text(encoding="utf-8")
    body = text.partition("-- name: role\n")[2].partition("\n")[2].strip()
    return Role(service, role, schema, body.replace("{role}", _quoted(role)).replace("{schema}", _quoted(schema)) + ";")


def _quoted(text: str) -> str:
    """Return a text as SQL."""
    return "e'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


__all__ = ["role_for"]
