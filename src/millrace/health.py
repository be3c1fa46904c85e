"""Is it well? One entry per dependency and per processor; unhealthy is who has work and does not advance.

Neighbours: `application.health` makes it; web routes and `doctor` show it. No secret is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from millrace.consumer_state import PAUSED, RUNNING, STOPPED
from millrace.hosting import Host
from millrace.runtime import STUCK_S

OK = "ok"
WELL = {OK, PAUSED, STOPPED}


class Entry(msgspec.Struct, frozen=True):
    """One dependency or processor; `state` is ok, failing or stuck, and paused or stopped where an operator wants that."""

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
    for loop in host.loops.values():
        state = loop.state()
        rest = OK if state.wanted == RUNNING else state.wanted
        word = "failing" if state.halted else "stuck" if state.stuck_s > STUCK_S else rest
        found.append(Entry(group(name, state.processor), "processor", word, state.lag, state.held, state.last_error))
    return found


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
    return "\n".join(lines) + "\n"
