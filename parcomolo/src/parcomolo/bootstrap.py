"""Puts Parcomolo together: services, engine, routes, server. The only file that names an engine or a server.

`application` is what `millrace --app parcomolo` loads; `serve` runs everything in one loop of one process.

Stopping: no new connections, streams end, requests in hand are answered (for up to `GRACE_S`), then the application
finishes what is in hand and gives its partitions back. A second signal stops waiting for requests.

Neighbours: `configuration` says what is wanted; contexts bring their services and routes; `web` serves them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import sys
from collections.abc import Generator
from typing import Any

from millrace import Application, Clock, Service
from millrace.engines.sqlite import SqliteEngine
from parcomolo.catalogue import service as catalogue
from parcomolo.configuration import HOST, PORT, Configuration, configuration, settle_checkout, stored_checkout
from parcomolo.inventory import service as inventory
from parcomolo.operations import service as operations
from parcomolo.orders import service as orders
from parcomolo.payments import service as payments
from parcomolo.payments.provider import SimulatedProvider
from parcomolo.reports import service as reports
from parcomolo.resetting import occupied
from parcomolo.rewards import service as rewards
from parcomolo.shipping import service as shipping
from parcomolo.shipping.carrier import SimulatedCarrier

GRACE_S = 3
PROVIDER_LEDGER = "payment-provider.db"
BACKLOG = 2048
_PORT_ERRORS = (errno.EADDRINUSE, errno.EACCES)


def application() -> Application:
    """Return the application as the environment describes it, for those who only look at it or look after it."""
    config = configuration()
    stored_checkout(config)
    return assemble(config)


def assemble(config: Configuration, *, clock: Clock | None = None) -> Application:
    """Return the application, not started."""
    return Application("parcomolo", services(config), engine=SqliteEngine(config.data), hosted=config.services, clock=clock)


def services(config: Configuration) -> tuple[Service, ...]:
    """Return every service, those that run elsewhere too: their messages are part of the application."""
    behaviour = config.behaviour
    return (
        catalogue.build(),
        orders.build(),
        inventory.build(behaviour),
        payments.build(SimulatedProvider(config.data / PROVIDER_LEDGER)),
        shipping.build(behaviour, SimulatedCarrier()),
        rewards.build(),
        operations.build(behaviour),
        reports.build(),
    )


async def serve(config: Configuration) -> None:
    """Run until a signal asks to stop.

    Raises:
        ConfigurationError: the address is taken, or a setting cannot work.
        StoreUnavailable: the data cannot be used.
    """
    from parcomolo.web.assembly import web_application
    from parcomolo.web.events import Streams

    settle_checkout(config)
    listener = _listener(config)
    streams = Streams()
    app = assemble(config)
    server = _server(web_application(app, services=config.services, streams=streams))
    _stop_on_signals(server, streams)
    with contextlib.closing(listener), occupied(config.data):
        async with app:
            await app.caught_up()  # prices, for instance: orders that come at once find them
            _welcome(config, listener)
            gc.freeze()
            await server.serve(sockets=[listener])
    _say("Stopped.")


def _listener(config: Configuration) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
    except OSError as error:
        raise HOST.wrong(config.host, f"an address of this machine ({error})") from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        wrong = PORT if error.errno in _PORT_ERRORS else HOST
        value = str(config.port) if wrong is PORT else config.host
        raise wrong.wrong(value, f"one that is free here ({error.strerror})") from error
    return listener


def _server(asgi: Any) -> Any:
    import uvicorn

    class Server(uvicorn.Server):
        """Leaves signals to `serve`."""

        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None]:
            yield

    config = uvicorn.Config(
        asgi,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_S,
    )
    return Server(config)


def _stop_on_signals(server: Any, streams: Any) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.force_exit = server.should_exit
        server.should_exit = True
        streams.close()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


def _welcome(config: Configuration, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    order = '{"customer_id": "ada", "lines": [{"sku": "cheese", "quantity": 2}], "payment": {"token": "tok_ok"}}'
    lines = (
        f"Parcomolo    {address}   ({', '.join(config.services)})",
        "Try first    buy a burger there, or:",
        f"             curl {address}/api/orders -H 'content-type: application/json' -d '{order}'",
        f"Look around  {address}/docs; millrace --app parcomolo topics",
        f"Stop, reset  Ctrl-C finishes what is in hand; parcomolo reset deletes the data in {config.data}",
    )
    _say(*lines)


def run(config: Configuration) -> None:
    """Serve in a loop of the fastest kind there is."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(config))


def _say(*lines: str) -> None:
    """Print where somebody may read it; who has closed the pipe behind the first line wants no more, and no failure either."""
    try:
        print(*lines, sep="\n", flush=True)  # noqa: T201  # the terminal is where a server says so
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
