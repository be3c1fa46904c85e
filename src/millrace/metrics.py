"""The figures of running services as Prometheus text.

What OpenTelemetry's semantic conventions for messaging (1.36, status "development") have a name for carries that name, translated as its
specification for Prometheus says: dots become underscores, `s` becomes `_seconds`, counters end in `_total`, units in braces fall away.

    messaging.client.consumed.messages    messaging_client_consumed_messages_total
    messaging.client.sent.messages        messaging_client_sent_messages_total
    messaging.process.duration            messaging_process_duration_seconds (histogram)

Everything else begins with `millrace_`. Nothing here is counted per message, and nothing is read: what a store holds is what was
seen there last, some seconds ago.

Neighbours: `application.metrics` asks; `meter`, `lag_clock`, `ledger_watch` and `saga_watch` keep the figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import NamedTuple

from millrace.consumer_state import RUNNING
from millrace.hosting import Host
from millrace.meter import BOUNDS_S, Meter
from millrace.retry import DEAD, RETRY
from millrace.runtime import Loop, LoopState

SYSTEM = 'messaging_system="millrace"'
Sample = tuple[str, float]
"""Labels and value."""
Group = Callable[[str, str], str]


def metrics(hosts: Mapping[str, Host], *, group: Group) -> str:
    """Return the figures.

    Args:
        hosts: the services of this process.
        group: makes the name of a consumer group from (service, processor).
    """
    lines = [*_of_services(hosts), *_of_loops(hosts), *_of_breakers(hosts), *_by_convention(hosts, group), *_of_stores(hosts)]
    return "\n".join(lines) + "\n"


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *(f"{name}{{{labels}}} {_number(value)}" for labels, value in samples)]


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6f}".rstrip("0").rstrip(".")


def _label(text: str) -> str:
    """Return a label's value as the text form has it."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _of_services(hosts: Mapping[str, Host]) -> list[str]:
    def each(figure: Callable[[Host], float]) -> list[Sample]:
        return [(f'service="{name}"', figure(host)) for name, host in hosts.items()]

    return [
        *_family(
            "millrace_commits_total", "counter", "Transactions committed by the writer of a service.", each(lambda h: h.writer.commits)
        ),
        *_family(
            "millrace_commands_waiting", "gauge", "Work items that wait for the writer of a service.", each(lambda h: h.writer.waiting)
        ),
        *_family(
            "millrace_conflicts_total",
            "counter",
            "Transactions that lost to another process and were taken again.",
            each(lambda h: h.writer.conflicts),
        ),
    ]


class _Running(NamedTuple):
    """A loop with its service and what the outside may see of it."""

    service: str
    host: Host
    loop: Loop
    state: LoopState

    @property
    def behind_s(self) -> float:
        """Return how far it is behind, in seconds."""
        return self.host.lags.behind_s(time.monotonic(), self.loop.ends(), self.loop.offsets())


_FIGURES: tuple[tuple[str, str, str, Callable[[_Running], float]], ...] = (
    ("millrace_lag_messages", "gauge", "Records of owned partitions that are not read yet.", lambda r: r.state.lag),
    (
        "millrace_lag_seconds",
        "gauge",
        "How long the oldest record of owned partitions that is not read has been there, to a second.",
        lambda r: r.behind_s,
    ),
    ("millrace_held_keys", "gauge", "Keys with a message that waits or is dead.", lambda r: r.state.held),
    ("millrace_handled_total", "counter", "Messages handled by this process.", lambda r: r.loop.handled),
    ("millrace_retries_total", "counter", "Tries of messages that failed and are tried again.", lambda r: r.loop.meter.failed[RETRY]),
    ("millrace_dead_total", "counter", "Messages that went to the dead letters.", lambda r: r.loop.meter.failed[DEAD]),
    ("millrace_refused_total", "counter", "Commands from topics that were refused.", lambda r: r.loop.meter.refused),
    (
        "millrace_running",
        "gauge",
        "1 where the processor runs, 0 where an operator has paused or stopped it.",
        lambda r: int(r.state.wanted == RUNNING),
    ),
    (
        "millrace_fenced_total",
        "counter",
        "Partitions given up with work in hand: they have another owner.",
        lambda r: r.loop.fenced,
    ),
)


def _of_loops(hosts: Mapping[str, Host]) -> list[str]:
    found = [_Running(name, host, loop, loop.state()) for name, host in hosts.items() for loop in host.loops.values()]
    lines: list[str] = []
    for name, kind, text, figure in _FIGURES:
        lines += _family(name, kind, text, [(f'service="{r.service}",processor="{r.state.processor}"', figure(r)) for r in found])
    return lines


def _of_breakers(hosts: Mapping[str, Host]) -> list[str]:
    found = [
        (f'service="{name}",breaker="{_label(circuit.breaker.name)}"', circuit)
        for name, host in hosts.items()
        for circuit in host.circuits.all()
    ]
    held_back, opened = "1 while calls of a dependency are held back, but for probes.", "How often this process has opened a breaker."
    return [
        *_family("millrace_breaker_open", "gauge", held_back, [(labels, int(circuit.open)) for labels, circuit in found]),
        *_family("millrace_breaker_opened_total", "counter", opened, [(labels, circuit.opened) for labels, circuit in found]),
    ]


def _by_convention(hosts: Mapping[str, Host], group: Group) -> list[str]:
    loops = [
        (f'{SYSTEM},messaging_operation_name="process",messaging_consumer_group_name="{group(name, loop.name)}"', loop.meter)
        for name, host in hosts.items()
        for loop in host.loops.values()
    ]
    sent = [(f'{SYSTEM},messaging_operation_name="send",service="{n}"', h.relay.sent) for n, h in hosts.items() if h.relay.here]
    duration = "messaging_process_duration_seconds"
    return [
        *_family(
            "messaging_client_consumed_messages_total",
            "counter",
            "Records taken from the log.",
            [(labels, meter.consumed) for labels, meter in loops],
        ),
        *_family("messaging_client_sent_messages_total", "counter", "Journal rows published by this process.", sent),
        f"# HELP {duration} Duration of turns: a batch, handled and durable.",
        f"# TYPE {duration} histogram",
        *(line for labels, meter in loops for line in _histogram(duration, labels, meter)),
    ]


def _histogram(name: str, labels: str, meter: Meter) -> list[str]:
    counts = list(accumulate(meter.turns))
    bounds = [*(f"{bound:g}" for bound in BOUNDS_S), "+Inf"]
    return [
        *(f'{name}_bucket{{{labels},le="{bound}"}} {count}' for bound, count in zip(bounds, counts, strict=True)),
        f"{name}_sum{{{labels}}} {_number(meter.seconds)}",
        f"{name}_count{{{labels}}} {counts[-1]}",
    ]


def _of_stores(hosts: Mapping[str, Host]) -> list[str]:
    rows = [(name, processor, rows) for name, host in hosts.items() for processor, rows in host.watch.positions.items()]
    alarms = [(name, alarm) for name, host in hosts.items() for alarm in host.watch.alarms.values()]
    held = [
        (f'service="{name}",processor="{_label(processor)}",state="{state}"', sum(getattr(row, state) for row in each))
        for name, processor, each in rows
        for state in ("waiting", "dead")
    ]
    differences = [
        (f'service="{name}",equation="{alarm.what}",place="{_label(alarm.where)}"', alarm.found - alarm.expected) for name, alarm in alarms
    ]
    places = [(f'service="{name}"', len(host.watch.alarms)) for name, host in hosts.items()]
    timers = [(f'service="{name}"', host.timers.waiting) for name, host in hosts.items()]
    sagas = [
        (f'service="{name}",saga="{_label(saga)}",status="{status}"', count)
        for name, host in hosts.items()
        for (saga, status), count in host.sagas.counts.items()
    ]
    letters = [(f'service="{name}"', host.pile.count) for name, host in hosts.items()]
    sizes = [(f'service="{name}"', host.pile.size) for name, host in hosts.items()]
    return [
        *_family("millrace_dead_letters", "gauge", "Dead letters of a service, as measured about once a minute.", letters),
        *_family("millrace_dead_letters_bytes", "gauge", "Bytes of the dead letters of a service.", sizes),
        *_family("millrace_held_messages", "gauge", "Messages that wait or are dead, in all partitions of the store.", held),
        *_family("millrace_timers_waiting", "gauge", "Timers that wait in the store of a service, as counted some seconds ago.", timers),
        *_family("millrace_sagas", "gauge", "Sagas that have not ended, by status, as counted some seconds ago.", sagas),
        *_family("millrace_ledger_differences", "gauge", "Equations of the ledger that do not hold: alarms.", places),
        *_family("millrace_ledger_difference", "gauge", "Found less expected, of each equation that does not hold.", differences),
    ]


__all__ = ["metrics"]
