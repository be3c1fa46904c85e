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
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator
from typing import Any

import msgspec

from millrace import Application, Clock, ConfigurationError, Role, Service, SplitEngine, StoreUnavailable, VirtualClock
from millrace.engines.sqlite import SqliteEngine
from millrace.errors import OtherClock
from millrace.moving import Moved, MoveProgress
from millrace.moving import move as move_application
from parcomolo.catalogue import service as catalogue
from parcomolo.configuration import (
    CLOCK,
    CLOCKS,
    CONSUME,
    EMBEDDED,
    HOST,
    KAFKA_CONFIG,
    LOG,
    PORT,
    RELAY,
    STORE,
    Configuration,
    Setting,
    clock_of,
    configuration,
    settle_checkout,
    stored_checkout,
)
from parcomolo.instances import instance_name
from parcomolo.inventory import service as inventory
from parcomolo.operations import service as operations
from parcomolo.orders import service as orders
from parcomolo.outages import Outages
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
_ADVICE = {
    "unreachable": "start the server, or name one that runs and can be reached from here",
    "unauthorized": f"check the rights of the user in {KAFKA_CONFIG.option} ({KAFKA_CONFIG.variable})",
}


def application() -> Application:
    """Return the application as the environment describes it, for those who only look at it or look after it."""
    config = configuration()
    stored_checkout(config)
    return assemble(config)


def assemble(config: Configuration, *, clock: Clock | None = None, instance: str = "") -> Application:
    """Return the application, not started; see `engine`. Without a clock it has that of the settings."""
    chosen = clock_of(config)
    if clock is None and chosen == CLOCKS[1]:
        clock = VirtualClock()
    role = Role(services=config.services, relaying=config.relaying, consuming=config.consuming)
    return Application("parcomolo", services(config), engine=engine(config, instance=instance), hosted=role, clock=clock)


def engine(config: Configuration, *, instance: str = "") -> Any:
    """Return where log and stores are.

    Args:
        config: all settings.
        instance: a name that this process has again after a restart, for Kafka to give it its partitions back at once.

    Raises:
        ConfigurationError: an address cannot be used, or the driver for it is not installed.
    """
    if config.log == config.store == EMBEDDED:
        return SqliteEngine(config.data)
    files = SqliteEngine(config.data)
    return SplitEngine(
        log=files if config.log == EMBEDDED else _kafka(config, instance),
        stores=files if config.store == EMBEDDED else _postgres(config),
    )


def _kafka(config: Configuration, instance: str) -> Any:
    with _driver(LOG, "kafka"):
        from millrace.engines.kafka import KafkaEngine, KafkaSettings, read_properties
    try:
        settings = KafkaSettings.of(config.log)
    except ConfigurationError as error:
        raise ConfigurationError(f"{LOG.option} ({LOG.variable}): {error}") from error
    settings = msgspec.structs.replace(settings, instance=settings.instance or instance)
    if config.namespace:
        settings = msgspec.structs.replace(settings, namespace=f"{config.namespace}.")
    if config.kafka_config is not None:
        try:
            settings = msgspec.structs.replace(settings, properties={**settings.properties, **read_properties(config.kafka_config)})
        except ConfigurationError as error:
            raise ConfigurationError(f"{KAFKA_CONFIG.option} ({KAFKA_CONFIG.variable}): {error}") from error
    return KafkaEngine(settings)


def _postgres(config: Configuration) -> Any:
    with _driver(STORE, "postgres"):
        from millrace.engines.postgres import PostgresEngine
    return PostgresEngine(config.store, namespace=config.namespace)


@contextlib.contextmanager
def _driver(setting: Setting, extra: str) -> Generator[None]:
    """Say what to install where the driver of an engine is not there."""
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(
            f"{setting.option} ({setting.variable}) needs a driver that is not installed ({error.name}); "
            f"pip install 'millrace[{extra}]', or 'millrace[kafka,postgres]' for both"
        ) from error


def services(config: Configuration) -> tuple[Service, ...]:
    """Return every service, those that run elsewhere too: their messages are part of the application."""
    behaviour, outages = config.behaviour, Outages(config.data)
    return (
        catalogue.build(),
        orders.build(),
        inventory.build(behaviour),
        payments.build(SimulatedProvider(config.data / PROVIDER_LEDGER, outage=outages.provider)),
        shipping.build(behaviour, SimulatedCarrier(outages.carrier)),
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
    from parcomolo.web.guard import Guard

    settle_checkout(config)
    listener = _listener(config)
    streams = Streams()
    with contextlib.closing(listener), occupied(config.data), instance_name(config.data) as instance:
        app = assemble(config, instance=instance)
        guard = Guard(config.admin_token, loopback=_is_loopback(listener))
        server = _server(web_application(app, services=config.services, streams=streams, guard=guard, outages=Outages(config.data)))
        _stop_on_signals(server, streams)
        await _start(app, config)
        try:
            await app.caught_up()  # prices, for instance: orders that come at once find them
            _welcome(config, listener)
            gc.freeze()
            await server.serve(sockets=[listener])
        finally:
            await app.stop()
    _say("Stopped.")


async def _start(app: Application, config: Configuration) -> None:
    """Start it; where a server does not answer, say which setting names it and what to do.

    Raises:
        ConfigurationError: a server cannot be used.
        StoreUnavailable: the data cannot be used.
    """
    try:
        await app.start()
    except OtherClock as error:
        raise ConfigurationError(f"{CLOCK.option} ({CLOCK.variable}) is {clock_of(config)!r}: {error}") from error
    except StoreUnavailable as error:
        setting = LOG if error.name.startswith("kafka ") else STORE
        if error.reason not in _ADVICE or (config.log if setting is LOG else config.store) == EMBEDDED:
            raise
        said = str(error).removesuffix("; trying again")
        raise ConfigurationError(f"{setting.option} ({setting.variable}) cannot be used: {said}; {_ADVICE[error.reason]}") from error


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


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


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


def erase(config: Configuration, *, dry_run: bool) -> list[str]:
    """Delete what the installation keeps on servers, or only look; return what was found.

    Raises:
        ConfigurationError: a server cannot be used.
        StoreUnavailable: a process of the installation runs, or a server refuses.
    """
    return asyncio.run(assemble(config).erase(dry_run=dry_run))


def move(source: Configuration, target: Configuration, *, report: Callable[[MoveProgress], None]) -> Moved:
    """Move topics and stores, or go on with that; return what was moved.

    Raises:
        ConfigurationError: an address cannot be used.
        StoreUnavailable: a server or file cannot be used, or the target holds something else.
    """
    stored_checkout(source)
    return asyncio.run(move_application(assemble(source), engine(target), report=report))


def places(config: Configuration) -> str:
    """Return where the data are, without secrets."""
    servers = [name for name, address in (("Kafka", config.log), ("PostgreSQL", config.store)) if address != EMBEDDED]
    named = f" (namespace {config.namespace})" if config.namespace and servers else ""
    return " and ".join([str(config.data), *servers]) + named


def _welcome(config: Configuration, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    order = '{"customer_id": "ada", "lines": [{"sku": "cheese", "quantity": 2}], "payment": {"token": "tok_ok"}}'
    elsewhere = [f"{setting.name} off" for setting, here in ((RELAY, config.relaying), (CONSUME, config.consuming)) if not here]
    lines = (
        f"Parcomolo    {address}   ({', '.join((*config.services, *elsewhere))})",
        "Try first    buy a burger there, or:",
        f"             curl {address}/api/orders -H 'content-type: application/json' -d '{order}'",
        f"Look around  {address}/docs; millrace --app parcomolo topics",
        f"Stop, reset  Ctrl-C finishes what is in hand; parcomolo reset deletes the data in {places(config)}",
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
