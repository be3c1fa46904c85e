"""What a process does for the services of an application: a part of them, and for these a part of the work.

    relaying and consuming    everything; what a process does unless told otherwise
    consuming                 publishes nothing: a relay process does (`millrace relay`). It needs no right to write topics
    relaying                  commands and queries, and publishes; whatever reads topics, keeps views or fires timers runs elsewhere
    neither                   commands and queries from the stores alone: it needs no broker, not even to start

Commands, their answers and the journal are in the store in every case, so what was answered is said, and reaches the log when a relay
looks. Timers fire and views move where the service is consumed: both follow what was read, and only who reads can say so.

Neighbours: users hand one to `Application(hosted=...)`.
"""

from __future__ import annotations

import msgspec


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """The part of an application that a process runs.

    Args:
        services: names of the services; None: all.
        relaying: publish what they say.
        consuming: run what reads topics, keeps views and fires timers.
    """

    services: tuple[str, ...] | None = None
    relaying: bool = True
    consuming: bool = True

    @property
    def on_log(self) -> bool:
        """Return whether it takes the log to play it."""
        return self.relaying or self.consuming


__all__ = ["Role"]
