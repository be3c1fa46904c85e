"""What the log of a process says about stores that cannot be used: a line when that begins, a line when it is over.

While a disk is full, every loop, relay and lease on it meets the same error several times a second. Each tells it here and
tells when it works again; the first to meet a reason is heard, and the last to get over a store.

Neighbours: `runtime`, `relay`, `hosting` and `application` tell; the errors are those of the engines. Whatever is no
`StoreUnavailable` is nobody's expectation and goes to the log with its traceback, each time.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar, runtime_checkable

from millrace.errors import StoreUnavailable

log = logging.getLogger("millrace")
T = TypeVar("T")
Patience = Callable[[StoreUnavailable], Awaitable[None]]
"""Awaited where a server cannot be reached, before that is tried again."""


@runtime_checkable
class LogTrouble(Protocol):
    """An ability that a log may have: to tell what keeps this process from following it, beside what those who read and append are told."""

    def trouble(self) -> str | None:
        """Return it in words, None when all is well."""
        ...


class Troubles:
    """The stores that cannot be used now, by the name that their errors give, and who suffers from that."""

    def __init__(self) -> None:
        self._reasons: dict[str, set[str]] = {}
        self._sufferers: dict[str, set[str]] = {}

    def met(self, who: str, error: StoreUnavailable) -> None:
        """Somebody could not go on and will try again; logged once per store and reason until the store works again."""
        reasons = self._reasons.setdefault(error.name, set())
        if error.reason not in reasons:
            reasons.add(error.reason)
            log.warning("%s; trying again", error)
        self._sufferers.setdefault(error.name, set()).add(who)

    def over(self, who: str) -> None:
        """Somebody could go on; a store that nobody suffers from any more works again, and the log says so."""
        for name in self._without(who):
            log.warning("%s: works again", name)

    def forget(self, who: str) -> None:
        """Somebody does not try any more, which says nothing about the store."""
        self._without(who)

    def _without(self, who: str) -> list[str]:
        """Take somebody out and return the stores that nobody suffers from since."""
        free: list[str] = []
        for name, sufferers in self._sufferers.items():
            if who in sufferers:
                sufferers.discard(who)
                free += [] if sufferers else [name]
        for name in free:
            del self._sufferers[name], self._reasons[name]
        return free


async def patiently(attempt: Callable[[], Awaitable[T]], patience: Patience) -> T:
    """Return what an attempt returns, tried again as long as a server cannot be reached.

    Raises:
        StoreUnavailable: for any other reason.
    """
    while True:
        try:
            return await attempt()
        except StoreUnavailable as error:
            if error.reason != "unreachable":
                raise
            await patience(error)
