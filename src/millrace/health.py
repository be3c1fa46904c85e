"""Is it well? One entry per dependency and per processor; unhealthy is who has work and does not advance.

Neighbours: `application.health` makes it; web routes and `doctor` show it. No secret is in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from millrace.runtime import STUCK_S

if TYPE_CHECKING:
    from millrace.application import Application


class Entry(msgspec.Struct, frozen=True):
    """One dependency or processor; `state` is ok, failing or stuck."""

    name: str
    kind: str
    state: str
    lag: int = 0
    held: int = 0
    last_error: str | None = None


class Health(msgspec.Struct, frozen=True):
    """All entries; `status` is ok when each is."""

    status: str
    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, app: Application) -> Health:
        """Look at a running application."""
        entries = [entry for name in app.hosts for entry in _host_entries(app, name)]
        status = "ok" if all(entry.state == "ok" for entry in entries) else "failing"
        return cls(status, tuple(entries))


def _host_entries(app: Application, name: str) -> list[Entry]:
    host = app.hosts[name]
    found = [
        _dependency(f"{name} store", host.writer.last_error),
        _dependency(f"{name} relay", host.relay.last_error),
    ]
    for loop in host.loops.values():
        state = loop.state()
        word = "failing" if state.halted else "stuck" if state.stuck_s > STUCK_S else "ok"
        found.append(Entry(app.group_of(name, state.processor), "processor", word, state.lag, state.held, state.last_error))
    return found


def _dependency(name: str, error: str | None) -> Entry:
    return Entry(name, "dependency", "failing" if error else "ok", last_error=error)


def metrics(app: Application) -> str:
    """Return the figures of a running application as Prometheus text."""
    lines = [
        "# HELP millrace_commits_total Transactions committed by the writer of a service.",
        "# TYPE millrace_commits_total counter",
        *(f'millrace_commits_total{{service="{name}"}} {host.writer.commits}' for name, host in app.hosts.items()),
        "# HELP millrace_commands_waiting Work items that wait for the writer of a service.",
        "# TYPE millrace_commands_waiting gauge",
        *(f'millrace_commands_waiting{{service="{name}"}} {host.writer.waiting}' for name, host in app.hosts.items()),
    ]
    for metric, kind, text in (
        ("millrace_lag_messages", "gauge", "Records of owned partitions that are not read yet."),
        ("millrace_held_keys", "gauge", "Keys with a message that waits or is dead."),
        ("millrace_handled_total", "counter", "Messages handled by this process."),
    ):
        lines += [f"# HELP {metric} {text}", f"# TYPE {metric} {kind}"]
        for name, host in app.hosts.items():
            for loop in host.loops.values():
                state = loop.state()
                value = {"millrace_lag_messages": state.lag, "millrace_held_keys": state.held}.get(metric, loop.handled)
                lines.append(f'{metric}{{service="{name}",processor="{state.processor}"}} {value}')
    return "\n".join(lines) + "\n"
