"""Is it well? One entry per dependency, ledger and processor; unhealthy is who has work and does not advance, or has lost something.

What is for people is an alarm and leaves the process well: dead letters beyond their bounds, sagas that are stuck.

A processor whose breaker is open rests because what it calls is down: its entry says so, and the process is well, for taking it out of
service would help nobody. A processor that has stopped itself needs somebody: it is failing.

Neighbours: `application.health` makes it; web routes and `doctor` show it. No secret is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import msgspec

from millrace.breaker import BREAKER_OPEN
from millrace.clock import from_micros
from millrace.consumer_state import PAUSED, RUNNING, STOPPED, LoopState
from millrace.hosting import Host
from millrace.runtime import STUCK_S
from millrace.saga_watch import StuckSagas

OK, ALARM = "ok", "alarm"
WELL = {OK, ALARM, PAUSED, STOPPED, BREAKER_OPEN}


class Entry(msgspec.Struct, frozen=True):
    """One dependency, ledger, processor, pile of dead letters, or saga with stuck instances.

    `state` is ok, failing or stuck; paused or stopped where an operator wants that; breaker open while what it calls is down; alarm where
    somebody has to look but the process is well. A ledger's is ok or differs; its `last_error` names each difference.
    """

    name: str
    kind: str
    state: str
    lag: int = 0
    held: int = 0
    last_error: str | None = None
    since: datetime | None = None
    """Of an open breaker: since when, in business time; of stuck sagas: since when the oldest is."""
    probe_at: datetime | None = None
    """Of an open breaker: when the next message is tried."""
    stuck: int = 0
    """Of a saga: how many instances are stuck."""
    ids: tuple[str, ...] = ()
    """Of a saga: the ids of those that are stuck longest, ten at most."""


class Health(msgspec.Struct, frozen=True):
    """All entries; `status` is ok when each is, rests because an operator wants that, or is an alarm for people."""

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
    if (beyond := host.alarm()) is not None:
        found.append(Entry(f"{name} dead letters", "dead letters", ALARM, held=host.pile.count, last_error=beyond))
    found += [_saga(name, stuck) for stuck in host.sagas.stuck]
    found.append(_ledger(name, host))
    for loop in host.loops.values():
        state = loop.state()
        reason = host.gave_up(state.processor)
        word = "failing" if state.halted or reason else "stuck" if state.stuck_s > STUCK_S else _rest(state)
        error = reason or state.last_error
        since = probe_at = None
        if word == BREAKER_OPEN and state.circuit is not None and (row := state.circuit.row) is not None:
            error, since, probe_at = row.reason, from_micros(row.since), from_micros(row.probe_at)
        found.append(Entry(group(name, state.processor), "processor", word, state.lag, state.held, error, since=since, probe_at=probe_at))
    return found


def _rest(state: LoopState) -> str:
    """Return why a processor that is well does nothing, or that it does."""
    if state.wanted != RUNNING:
        return state.wanted
    return BREAKER_OPEN if state.circuit is not None and state.circuit.open else OK


def _saga(name: str, stuck: StuckSagas) -> Entry:
    since = from_micros(stuck.since)
    return Entry(f"{name} saga {stuck.saga}", "saga", ALARM, last_error=stuck.text, since=since, stuck=stuck.count, ids=stuck.ids)


def _ledger(name: str, host: Host) -> Entry:
    """Return what the ledger's watch has found: a loss is nothing that a restart would mend, so readiness does not depend on it."""
    wrong = [f"{alarm.text}, since {from_micros(alarm.since).isoformat(timespec='seconds')}" for alarm in host.watch.alarms.values()]
    return Entry(f"{name} ledger", "ledger", "differs" if wrong else OK, last_error="; ".join(wrong) or None)


def _dependency(name: str, error: str | None) -> Entry:
    return Entry(name, "dependency", "failing" if error else OK, last_error=error)
