"""Repeats of a request: the `Idempotency-Key` header, per route and key.

A repeat with the same parsed body gets the first answer again, byte for byte; another body is a conflict.

Neighbours: routes hand the keys to `execute`, which stores the answer with the command.
"""

from __future__ import annotations

import hashlib

from millrace import IdempotencyKey
from parcomolo.web.endpoint import Call, encode
from parcomolo.web.problems import field_problem

_NAME = b"idempotency-key"
KEY_MAX = 200


def fingerprint(*parts: object) -> str:
    """Return what must be equal in a repeat: a digest of the parsed request."""
    return hashlib.blake2b(encode(parts), digest_size=16).hexdigest()


def keys_of(call: Call, route: str, *request: object) -> tuple[IdempotencyKey, ...]:
    """Return the key that a call carries, if any; `request` is what must be equal in a repeat.

    Raises:
        Problem: the header is empty or too long (422).
    """
    key = call.header(_NAME)
    if key is None:
        return ()
    if not 1 <= len(key) <= KEY_MAX:
        raise field_problem("Idempotency-Key", f"expected 1 to {KEY_MAX} characters")
    return (IdempotencyKey(route, key, fingerprint(*request)),)
