"""Which failures are the same: a short hash of what failed and where, without values and line numbers.

Of an exception: its type and those it was raised from, and the functions on the way from the application's code to where it was raised, by
module and name. A message that holds an order number, or a line that moved by an edit above it, gives the same fingerprint; another
exception, or another way to it, gives another one. The toolkit's own frames are left out as long as there are others, so that a release of
it moves no fingerprint; how deep a recursion went does not count.

Of what could not be read: the reason, and what was said of it without figures.

Neighbours: `turn` puts it on what it holds, `letters` groups by it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

FRAMES_MAX = 20
OWN = re.compile(r"millrace(\.(?!testing\b)|$)")
LENGTH = 12


def fingerprint_of(error: BaseException) -> str:
    """Return the fingerprint of an exception."""
    kinds: list[str] = []
    each: BaseException | None = error
    while each is not None and len(kinds) < FRAMES_MAX:
        kinds.append(f"{type(each).__module__}.{type(each).__qualname__}")
        each = each.__cause__
    frames = list(_frames(error))
    return _hashed(*kinds, *([name for name, own in frames if not own] or [name for name, _ in frames])[:FRAMES_MAX])


def fingerprint_of_reason(reason: str, detail: str) -> str:
    """Return the fingerprint of what failed without an exception of the application."""
    return _hashed(reason, re.sub(r"\d+", "#", detail))


def _frames(error: BaseException) -> Iterable[tuple[str, bool]]:
    """Yield the functions that an error passed through, outermost first and each once, and whether they are the toolkit's."""
    met: set[str] = set()
    trace = error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        name = f"{module}:{trace.tb_frame.f_code.co_qualname}"
        if name not in met:
            met.add(name)
            yield name, bool(OWN.match(module))
        trace = trace.tb_next


def _hashed(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:LENGTH]


__all__ = ["fingerprint_of", "fingerprint_of_reason"]
