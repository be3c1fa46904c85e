"""Is it well? One entry per dependency and per processor; unhealthy is who has work and does not advance.

A processor whose breaker is open rests because what it calls is down: its entry says so, and the process is well, for taking it out of
service would help nobody. A processor that has stopped itself needs somebody: it is failing.

Neighbours: `application.health` makes it; web routes and `doctor` show it. No secret is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from millrace.breaker import BREAKER_OPEN
from millrace.consumer_state import PAUSED, RUNNING, STOPPED, LoopState
from millrace.hosting import Host
from millrace.runtime import STUCK_S

OK, ALARM = "ok", "alarm"
WELL = {OK, ALARM, PAUSED, STOPPED, BREAKER_OPEN}


class Entry(msgspec.Struct, frozen=True):
    """One dependency, processor or pile of dead letters.

    `state` is ok, failing or stuck; paused or stopped where an operator wants that; breaker open while what it calls is down; alarm where
    somebody has to look but the process is well.
    """

    name: str
    kind: str
    state: str
    lag: int = 0
    held: int = 0
    last_error: str | None = None
    since: int | None = None
    """Of an open breaker: since when, in microseconds of business time."""
    probe_at: int | None = None
    """Of an open breaker: when the next message is tried."""


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
    for loop in host.loops.values():
        state = loop.state()
        reason = host.gave_up(state.processor)
        word = "failing" if state.halted or reason else "stuck" if state.stuck_s > STUCK_S else _rest(state)
        error = reason or state.last_error
        since = probe_at = None
        if word == BREAKER_OPEN and state.circuit is not None and (row := state.circuit.row) is not None:
            error, since, probe_at = row.reason, row.since, row.probe_at
        found.append(Entry(group(name, state.processor), "processor", word, state.lag, state.held, error, since=since, probe_at=probe_at))
    return found


def _rest(state: LoopState) -> str:
    """Return why a processor that is well does nothing, or that it does."""
    if state.wanted != RUNNING:
        return state.wanted
    return BREAKER_OPEN if state.circuit is not None and state.circuit.open else OK


def _dependency(name: str, error: str | None) -> Entry:
    return Entry(name, "dependency", "failing" if error else OK, last_error=error)


def metrics(hosts: Mapping[str, Host]) -> str:
    """Return the figures of running services as Prometheus text."""
    lines = [
        "# HELP millrace_commits_total Transactions committed by the writer of a service.",
        "# TYPE millrace_commits_total counter",
        *(f'millrace_commits_total{{service="{name}"}} {host.writer.commits}' for name, host in hosts.items()),
        "# HELP millrace_commands_waiting Work items that wait for the writer of a service.",
        "# TYPE millrace_commands_waiting gauge",
        *(f'millrace_commands_waiting{{service="{name}"}} {host.writer.waiting}' for name, host in hosts.items()),
        "# HELP millrace_timers_waiting Timers that wait in the store of a service, as counted some seconds ago.",
        "# TYPE millrace_timers_waiting gauge",
        *(f'millrace_timers_waiting{{service="{name}"}} {host.timers.waiting}' for name, host in hosts.items()),
    ]
    for metric, text, field in (
        ("millrace_dead_letters", "Dead letters of a service, as measured about once a minute.", "count"),
        ("millrace_dead_letters_bytes", "Bytes of the dead letters of a service.", "size"),
    ):
        lines += [f"# HELP {metric} {text}", f"# TYPE {metric} gauge"]
        lines += [f'{metric}{{service="{name}"}} {getattr(host.pile, field)}' for name, host in hosts.items()]
    for metric, kind, text in (
        ("millrace_lag_messages", "gauge", "Records of owned partitions that are not read yet."),
        ("millrace_held_keys", "gauge", "Keys with a message that waits or is dead."),
        ("millrace_handled_total", "counter", "Messages handled by this process."),
        ("millrace_running", "gauge", "1 where the processor runs, 0 where an operator has paused or stopped it."),
        ("millrace_fenced_total", "counter", "Partitions given up with work in hand, because they have another owner."),
    ):
        lines += [f"# HELP {metric} {text}", f"# TYPE {metric} {kind}"]
        for name, host in hosts.items():
            for loop in host.loops.values():
                state = loop.state()
                values = {
                    "lag_messages": state.lag,
                    "held_keys": state.held,
                    "handled_total": loop.handled,
                    "running": int(state.wanted == RUNNING),
                    "fenced_total": loop.fenced,
                }
                value = values[metric.removeprefix("millrace_")]
                lines.append(f'{metric}{{service="{name}",processor="{state.processor}"}} {value}')
    lines += _breaker_lines(hosts)
    return "\n".join(lines) + "\n"


def _breaker_lines(hosts: Mapping[str, Host]) -> list[str]:
    lines: list[str] = []
    for metric, kind, text in (
        ("millrace_breaker_open", "gauge", "1 while calls of a dependency are held back, but for probes."),
        ("millrace_breaker_opened_total", "counter", "How often this process has opened a breaker."),
    ):
        lines += [f"# HELP {metric} {text}", f"# TYPE {metric} {kind}"]
        for name, host in hosts.items():
            for circuit in host.circuits.all():
                value = int(circuit.open) if metric == "millrace_breaker_open" else circuit.opened
                lines.append(f'{metric}{{service="{name}",breaker="{circuit.breaker.name}"}} {value}')
    return lines
