"""The relays of services as a process of their own, from the start until somebody asks it to stop.

What it guarantees is what `relay` guarantees; this adds the life of a process around it:

    a server away at the start     says so once and tries again, until it is there or the process is asked to stop
    a server away later            the relays do the same; commits elsewhere wait in the journal
    asked to stop                  publishes what is there, as far as the log takes it, and ends
    killed                         nothing is lost: the next relay, here or elsewhere, goes on behind what the log has
    a second one, or a service that relays for itself      the slower of two is refused with the true position

Neighbours: `application.start_relays` runs the relays; `cli` turns signals into `stopped` and prints the reports.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable, Sequence

import msgspec

from millrace.application import Application
from millrace.errors import StoreUnavailable
from millrace.hosting import Host

REPORT_EVERY_S = 10.0
PAUSE_S = 0.2
PAUSE_MAX_S = 5.0


class RelayStanding(msgspec.Struct, frozen=True):
    """How far the relay of a service is: the journal position published, how many positions wait, and what keeps it from going on."""

    service: str
    published: int
    waiting: int
    error: str | None


async def forward(
    app: Application,
    services: Iterable[str] | None,
    *,
    stopped: asyncio.Event,
    met: Callable[[StoreUnavailable], None],
    report: Callable[[Sequence[RelayStanding]], None],
) -> None:
    """Relay services until `stopped` is set.

    Args:
        app: the application, not started.
        services: their names; None: all.
        stopped: set to end it.
        met: told of a server that cannot be reached at the start, once per reason.
        report: called when everything runs, then at most every `REPORT_EVERY_S` seconds if something has changed, and at the end.

    Raises:
        ConfigurationError: there is no such service.
        Recovery: the log has positions that a store never gave.
        StoreUnavailable: log or store refuse, for another reason than that they cannot be reached.
    """
    starting = asyncio.ensure_future(app.start_relays(services, patience=_Patience(met)))
    stopping = asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        starting.result()
        await _report_until(stopped, app, report)
    finally:
        stopping.cancel()
        hosts = list(app.hosts.values())
        await app.stop()
    report([_standing(host, host.relay.published) for host in hosts])


class _Patience:
    """Pauses that grow, with a jitter so that many who wait do not come back at once."""

    def __init__(self, met: Callable[[StoreUnavailable], None]) -> None:
        self._met = met
        self._told: set[tuple[str, str]] = set()
        self._pause = PAUSE_S

    async def __call__(self, error: StoreUnavailable) -> None:
        if (error.name, error.reason) not in self._told:
            self._told.add((error.name, error.reason))
            self._met(error)
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311  # spreads out who comes back
        self._pause = min(self._pause * 2, PAUSE_MAX_S)


async def _report_until(stopped: asyncio.Event, app: Application, report: Callable[[Sequence[RelayStanding]], None]) -> None:
    last: Sequence[RelayStanding] | None = None
    while not stopped.is_set():
        now = await _look(app)
        if now != last:
            report(now)
            last = now
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REPORT_EVERY_S):
                await stopped.wait()


async def _look(app: Application) -> Sequence[RelayStanding]:
    standings: list[RelayStanding] = []
    for host in app.hosts.values():
        try:
            standings.append(_standing(host, await host.store.reader.journal.head()))
        except StoreUnavailable as error:
            standings.append(RelayStanding(host.service.name, host.relay.published, 0, str(error)))
    return standings


def _standing(host: Host, head: int) -> RelayStanding:
    published = host.relay.published
    return RelayStanding(host.service.name, published, max(0, head - published), host.relay.last_error)
