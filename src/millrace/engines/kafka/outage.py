"""Whether what is known of the log's ends is of now, and for how long after an outage it says nothing yet.

A deadline in event time says that nobody has answered. While no broker answers that cannot be known, and when they are back it cannot be
known at once: what others have to say lies in their journals, and each hop takes its time. So silence counts again when the brokers have
been back for as long as they were away, or for `GRACE_S` if that is less; otherwise every process that waits would ask all its questions
again at the moment when everybody has the most to do.

Neighbours: `log` notes its looks; loops of the toolkit ask.
"""

from __future__ import annotations

import time
from collections.abc import Callable

AWAY_S = 5.0
"""A look that is not answered for so long is an outage; they are begun a second apart."""
GRACE_S = 30.0


class Outage:
    """What the looks at the log tell.

    Args:
        now: seconds of a clock that is never set.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen = now()
        self._until = self._seen

    def seen(self, began: float) -> None:
        """Note that a look was answered which began at a moment."""
        away = began - self._seen
        if away > AWAY_S:
            self._until = max(self._until, self._now() + min(away, GRACE_S))
        self._seen = began

    @property
    def over(self) -> bool:
        """Return whether there is none, and has been none for a while."""
        now = self._now()
        return now - self._seen <= AWAY_S and now >= self._until


__all__ = ["Outage"]
