"""Is it well? One entry per dependency, ledger and processor; unhealthy is who has work and does not advance, or has lost something.

Neighbours: `application.health` makes it; web routes and `doctor` show it. No secret is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from millrace.clock import from_micros
from millrace.consumer_state import PAUSED, RUNNING, STOPPED
from millrace.hosting import Host
from millrace.runtime import STUCK_S

OK = "ok"
WELL = {OK, PAUSED, STOPPED}


class Entry(msgspec.Struct, frozen=True):
    """One dependency, ledger or processor; `state` is ok, failing or stuck, and paused or stopped where an operator wants that.

    A ledger's is ok or differs; its `last_error` names each difference.
    """

    name: str
    kind: str
    state: str
    lag: int = 0
    held: int = 0
    last_error: str | None = None


class Health(msgspec.Struct, frozen=True):
    """All entries; `status` is ok when each is, or rests because an operator wants that."""

    status: str
    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, hosts: Mapping[str, Host], *, group: Callable[[str, str], str], shared: Mapping[str, str | None]) -> Health:
        """Look at running services.

        Args:
            hosts: the services of this process.
            group: makes the name of a consumer group from (service, processor).
            shared: what all of them depend on, with its error.
        """
        entries = [_dependency(name, error) for name, error in shared.items()]
        entries += [entry for name, host in hosts.items() for entry in _host_entries(name, host, group)]
        status = OK if all(entry.state in WELL for entry in entries) else "failing"
        return cls(status, tuple(entries))


def _host_entries(name: str, host: Host, group: Callable[[str, str], str]) -> list[Entry]:
    found = [_dependency(f"{name} store", host.writer.last_error)]
    if host.relay.here:
        found.append(_dependency(f"{name} relay", host.relay.last_error))
    found.append(_ledger(name, host))
    for loop in host.loops.values():
        state = loop.state()
        rest = OK if state.wanted == RUNNING else state.wanted
        word = "failing" if state.halted else "stuck" if state.stuck_s > STUCK_S else rest
        found.append(Entry(group(name, state.processor), "processor", word, state.lag, state.held, state.last_error))
    return found


def _ledger(name: str, host: Host) -> Entry:
    """Return what the ledger's watch has found: a loss is nothing that a restart would mend, so readiness does not depend on it."""
    wrong = [f"{alarm.text}, since {from_micros(alarm.since).isoformat(timespec='seconds')}" for alarm in host.watch.alarms.values()]
    return Entry(f"{name} ledger", "ledger", "differs" if wrong else OK, last_error="; ".join(wrong) or None)


def _dependency(name: str, error: str | None) -> Entry:
    return Entry(name, "dependency", "failing" if error else OK, last_error=error)
