"""Ids of orders: a client's UUID, or one of ours that sorts by the time it was made (UUID version 7, RFC 9562)."""

from __future__ import annotations

import os
import time
from uuid import UUID


def new_id() -> str:
    """Return a fresh id: 48 bits of time in milliseconds, then chance."""
    number = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
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
