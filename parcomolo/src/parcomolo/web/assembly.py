"""Which endpoints a process serves: those of the services that run in it, the probes, and what operators need.

A process without the log has no pages and no stream of events: both tell what is in the log.

Neighbours: `bootstrap` asks for the application to serve.
"""

from __future__ import annotations

from collections.abc import Collection

from millrace import Application
from parcomolo.catalogue import routes as catalogue
from parcomolo.checkout import routes as checkout
from parcomolo.inventory import routes as inventory
from parcomolo.operations import routes as operations
from parcomolo.orders import routes as orders
from parcomolo.orders import settling
from parcomolo.outages import Outages
from parcomolo.payments import routes as payments
from parcomolo.reports import routes as reports
from parcomolo.rewards import routes as rewards
from parcomolo.shipping import routes as shipping
from parcomolo.web import agenda, assets, clock, consumers, dead_letters, descriptions, events, faults, pages, probes, traces
from parcomolo.web.application import WebApplication
from parcomolo.web.endpoint import Endpoint
from parcomolo.web.events import Streams
from parcomolo.web.guard import Guard
from parcomolo.web.transport import Spans

CONTEXTS = {
    "orders": orders,
    "catalogue": catalogue,
    "inventory": inventory,
    "payments": payments,
    "shipping": shipping,
    "rewards": rewards,
    "operations": operations,
    "reports": reports,
}
FAST = (("POST", "/api/orders"),)


def web_application(
    app: Application,
    *,
    services: Collection[str],
    streams: Streams | None = None,
    guard: Guard | None = None,
    outages: Outages | None = None,
    spans: Spans | None = None,
) -> WebApplication:
    """Return what answers HTTP for an application of which these services run here.

    Args:
        app: the application.
        services: those that run here.
        streams: of events.
        guard: who may change something; without one, whoever sits at this machine.
        outages: what can be taken down from the console.
        spans: told of each request, where the application is traced.
    """
    found: list[Endpoint] = []
    for name, context in CONTEXTS.items():
        if name in services:
            found += context.endpoints(app)
    if "checkout" in services or ("orders" in services and not checkout.exists(app)):
        found += checkout.endpoints(app, guard or Guard())
    if "orders" in services and checkout.exists(app):
        found += settling.endpoints(app, guard or Guard())
    found += probes.endpoints(app)
    if app.on_log:
        guard = guard or Guard()
        found += consumers.endpoints(app, guard)
        found += dead_letters.endpoints(app, guard)
        found += clock.endpoints(app, guard)
        found += agenda.endpoints(app, guard)
        found += faults.endpoints(outages, guard) if outages is not None else ()
        found += traces.endpoints(app)
        found += events.endpoints(app, streams or Streams())
    if app.on_log and "orders" in services:
        found += pages.endpoints(app, with_stock="inventory" in services)
    found += assets.endpoints()
    found += descriptions.endpoints(app, tuple(found))
    return WebApplication(found, fast=FAST, spans=spans)
