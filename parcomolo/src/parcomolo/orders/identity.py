"""Ids of orders: a client's UUID, or one of ours that sorts by the time it was made (UUID version 7, RFC 9562)."""

from __future__ import annotations

import os
import time
from uuid import UUID

_CHANCE = 10
_POOL = _CHANCE * 256


class _Chance:
    """Random bytes of the system, asked for many at a time: one call per order would be felt."""

    def __init__(self) -> None:
        self._pool = b""
        self._at = 0

    def number(self) -> int:
        if self._at >= len(self._pool):
            self._pool, self._at = os.urandom(_POOL), 0
        self._at += _CHANCE
        return int.from_bytes(self._pool[self._at - _CHANCE : self._at], "big")


_chance = _Chance()


def new_id() -> str:
    """Return a fresh id: 48 bits of time in milliseconds, then chance."""
    number = (time.time_ns() // 1_000_000) << 80 | _chance.number()
    number = number & ~(0xF << 76) | 7 << 76
    number = number & ~(0b11 << 62) | 0b10 << 62
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def canonical(text: str) -> str | None:
    """Return an id as orders writes it, or None for what is no UUID."""
    try:
        return str(UUID(text)) if len(text) == 36 else None
    except ValueError:
        return None
