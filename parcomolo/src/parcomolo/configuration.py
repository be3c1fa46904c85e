"""Where Parcomolo runs and how: read from arguments over environment, checked before anything starts.

What is not built yet is refused by name, never ignored. Addresses may hold passwords: no text made here shows one.

Neighbours: `cli` and `bootstrap` read it; `bootstrap` makes engines of the addresses.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from millrace import ConfigurationError
from parcomolo.settings import Settings

ORCHESTRATION, CHOREOGRAPHY = "orchestration", "choreography"
STYLES = (ORCHESTRATION, CHOREOGRAPHY)
"""How the services work together; the first is what a new installation gets."""
ORCHESTRATOR = "checkout"
"""The service that exists in orchestration only."""
SERVICES = ("catalogue", "orders", "inventory", "payments", "shipping", ORCHESTRATOR, "rewards", "operations", "reports")
CLOCKS = ("system", "virtual")
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # known to be no address to call, not listened on
"""Addresses that mean every address of the machine, and where such a server is called."""
SWITCH = ("on", "off")
FORMATS = ("text", "json")
SECONDS_MAX = 365 * 86_400
EMBEDDED = "sqlite:"
INSTALLATION = "installation.json"


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """All settings.

    Args:
        host: address to listen on.
        port: port to listen on; 0 lets the system choose.
        data: folder of all state that is kept in files; that of a namespace has the namespace's name below `--data`.
        log: address of the topics.
        store: address of what the services keep; may hold a password, so it is in no `repr`.
        namespace: what the names of topics, groups and schemas begin with; empty for none.
        kafka_config: file of client properties for Kafka; None for none.
        services: those that run in this process, as far as the style has them.
        named: whether somebody has chosen them by name.
        relaying: whether this process publishes what they say.
        consuming: whether it runs what reads topics, keeps views and fires timers.
        checkout: how the services work together; empty: as stored, else the default.
        clock: whose time it is, the machine's or one that can be moved; empty: as stored, else the machine's.
        behaviour: durations of the business.
        admin_token: what operators' requests have to carry; empty: none is set. A secret, so it is in no `repr`.
        tracing: where spans go: empty for nowhere, `otlp` for where the OTEL_* variables say, or a collector's address; in no `repr`.
        log_format: of the lines on stderr.
    """

    host: str
    port: int
    data: Path
    log: str = EMBEDDED
    store: str = field(default=EMBEDDED, repr=False)
    namespace: str = ""
    kafka_config: Path | None = None
    services: tuple[str, ...]
    named: bool = False
    relaying: bool = True
    consuming: bool = True
    checkout: str
    clock: str = ""
    behaviour: Settings
    admin_token: str = field(default="", repr=False)
    tracing: str = field(default="", repr=False)
    log_format: str = "text"


@dataclass(frozen=True)
class Setting:
    """One setting: how arguments and environment name it, its default, and what it is; `unset` says what holds without a value."""

    name: str
    default: str
    help: str
    unset: str = "none"

    @property
    def option(self) -> str:
        """Return the name of the argument."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """Return the name of the environment variable."""
        return f"PARCOMOLO_{self.name.replace('-', '_').upper()}"

    def wrong(self, value: str, allowed: str) -> ConfigurationError:
        """Return the one line that says what is wrong and what is allowed."""
        return ConfigurationError(f"{self.option} ({self.variable}) is {without_secrets(value)!r}; allowed: {allowed}")


HOST = Setting("host", "127.0.0.1", "address to listen on")
PORT = Setting("port", "8000", "port to listen on")
DATA = Setting("data", "./data", "folder of all state")
CHOSEN = Setting("services", "", f"comma list of the services to run here: {', '.join(SERVICES)}", "all")
RELAY = Setting("relay", "on", "publish here what the services say; off: `millrace --app parcomolo relay` does")
CONSUME = Setting("consume", "on", "read topics, keep views and fire timers here; off, with relay off: needs no broker")
LOG = Setting("log", EMBEDDED, "where the topics are: sqlite: or kafka://host:port,host:port")
STORE = Setting("store", EMBEDDED, "where the services keep their state: sqlite: or postgresql://user@host:port/database")
NAMESPACE = Setting("namespace", "", "what the names of topics, groups and schemas begin with: several installations on one server")
KAFKA_CONFIG = Setting("kafka-config", "", "file of client properties for Kafka: TLS, SASL")
CHECKOUT = Setting(
    "checkout", "", f"how the services work together: {' or '.join(STYLES)}", f"as stored at the first start, else {STYLES[0]}"
)
CLOCK = Setting(
    "clock", "", "system, or virtual: one that tests and demonstrations move forward", f"as stored at the first start, else {CLOCKS[0]}"
)
SHIPPING_DELAY = Setting("shipping-delay", "3", "seconds from booking a carrier until the parcel leaves")
LATE_DELIVERY = Setting("late-delivery", "30", "seconds after which a delivery is late")
TRACING = Setting(
    "tracing", "", "where OpenTelemetry spans go: otlp (as OTEL_* variables say), or a collector: http://host:4318", "nowhere"
)
LOG_FORMAT = Setting("log-format", "text", "lines of the log: text or json")
TARGET = (LOG, STORE, NAMESPACE, KAFKA_CONFIG)
ADMIN_TOKEN = Setting("admin-token", "", "what requests that administer the shop have to carry")
"""A secret: read from the environment only, because arguments can be seen by everybody on the machine."""
PLACES = (DATA, LOG, STORE, NAMESPACE, KAFKA_CONFIG)
SETTINGS = (HOST, PORT, *PLACES, CHOSEN, RELAY, CONSUME, CHECKOUT, CLOCK, SHIPPING_DELAY, LATE_DELIVERY, TRACING, LOG_FORMAT)
_BROKERS = r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}"
_KAFKA = re.compile(rf"kafka://{_BROKERS}(?:,{_BROKERS})*(?:\?.*)?", re.ASCII)
_POSTGRES = re.compile(r"postgres(?:ql)?://\S+")
_NAMESPACE = re.compile(r"(?:[a-z][a-z0-9_-]{0,29})?")
_COLLECTOR = re.compile(r"https?://[^\s/]+(?:/\S*)?")
_TOKEN = re.compile(r"[\x21-\x7e]{16,200}")
_SECRETS = (re.compile(r"(?<=//)[^\s,]*:[^\s]*(?=@)"), re.compile(r"(?<=password=)[^&\s]+"))


def configuration(arguments: Mapping[str, str | None] | None = None) -> Configuration:
    """Return the settings: arguments (by setting name) over environment over defaults.

    Raises:
        ConfigurationError: a value cannot work; one line names the setting, the value and what is allowed.
    """
    given = arguments or {}
    if (chosen := given.get(CHOSEN.name)) is not None and not chosen.strip():
        raise CHOSEN.wrong(chosen, f"a comma list of {', '.join(SERVICES)}; without it all run")
    values = {each.name: given.get(each.name) or os.environ.get(each.variable) or each.default for each in SETTINGS}
    _require_address(LOG, values, _KAFKA)
    _require_address(STORE, values, _POSTGRES)
    if not _NAMESPACE.fullmatch(namespace := values["namespace"]):
        raise NAMESPACE.wrong(namespace, "at most 30 of a-z, 0-9, '_' and '-', a letter first; or none")
    if values["tracing"] not in {"", "otlp"} and not _COLLECTOR.fullmatch(values["tracing"]):
        raise TRACING.wrong(values["tracing"], "otlp, or a collector's address: http://host:4318")
    _require(CHECKOUT, values, ("", *STYLES))
    _require(CLOCK, values, ("", *CLOCKS))
    return Configuration(
        host=values["host"],
        port=_port(values["port"]),
        data=Path(values["data"]) / namespace,
        log=values["log"],
        store=values["store"],
        namespace=namespace,
        kafka_config=_file(KAFKA_CONFIG, values),
        services=_services(values["services"]),
        named=bool(values["services"]),
        relaying=_is_on(RELAY, values),
        consuming=_is_on(CONSUME, values),
        checkout=values["checkout"],
        clock=values["clock"],
        behaviour=Settings(shipping_delay=_seconds(SHIPPING_DELAY, values), late_delivery=_seconds(LATE_DELIVERY, values)),
        admin_token=_token(),
        tracing=values["tracing"],
        log_format=log_format(given.get(LOG_FORMAT.name)),
    )


def shop_url(arguments: Mapping[str, str | None]) -> str:
    """Return where a shop with these settings is found from this machine; one that listens everywhere answers on loopback.

    Raises:
        ConfigurationError: the port cannot be one, or the system chooses it.
    """
    host, port = (arguments.get(each.name) or os.environ.get(each.variable) or each.default for each in (HOST, PORT))
    if _port(port) == 0:
        raise PORT.wrong(port, "the port that `serve` has printed; or name the shop with --url")
    host = EVERYWHERE.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{_port(port)}"


def log_format(given: str | None) -> str:
    """Return the format of the log: what is given, else what the environment says.

    Raises:
        ConfigurationError: there is no such format.
    """
    values = {LOG_FORMAT.name: given or os.environ.get(LOG_FORMAT.variable) or LOG_FORMAT.default}
    _require(LOG_FORMAT, values, FORMATS)
    return values[LOG_FORMAT.name]


def _is_on(setting: Setting, values: Mapping[str, str]) -> bool:
    _require(setting, values, SWITCH)
    return values[setting.name] == "on"


def _token() -> str:
    token = os.environ.get(ADMIN_TOKEN.variable, "")
    if token and not _TOKEN.fullmatch(token):
        raise ConfigurationError(f"{ADMIN_TOKEN.variable} cannot be used; allowed: 16 to 200 printable characters without spaces")
    return token


def _require(setting: Setting, values: Mapping[str, str], allowed: tuple[str, ...]) -> None:
    if values[setting.name] not in allowed:
        raise setting.wrong(values[setting.name], ", ".join(value for value in allowed if value))


def _require_address(setting: Setting, values: Mapping[str, str], pattern: re.Pattern[str]) -> None:
    if values[setting.name] != EMBEDDED and not pattern.fullmatch(values[setting.name]):
        raise setting.wrong(values[setting.name], setting.help.partition(": ")[2])


def without_secrets(text: str) -> str:
    """Return an address as it may be shown."""
    for secret in _SECRETS:
        text = secret.sub("***", text)
    return text


def _file(setting: Setting, values: Mapping[str, str]) -> Path | None:
    text = values[setting.name]
    if text and not Path(text).is_file():
        raise setting.wrong(text, "a file of name=value lines")
    if text and values["log"] == EMBEDDED:
        raise setting.wrong(text, f"none with {LOG.option} {EMBEDDED}")
    return Path(text) if text else None


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise PORT.wrong(text, "a number from 0 to 65535")
    return int(text)


def _seconds(setting: Setting, values: Mapping[str, str]) -> timedelta:
    text = values[setting.name]
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= SECONDS_MAX:
        raise setting.wrong(text, f"a number of seconds from 0 to {SECONDS_MAX}")
    return timedelta(seconds=seconds)


def _services(text: str) -> tuple[str, ...]:
    wanted = [name.strip() for name in text.split(",") if name.strip()] if text else list(SERVICES)
    if not wanted or any(name not in SERVICES for name in wanted):
        raise CHOSEN.wrong(text, f"a comma list of {', '.join(SERVICES)}")
    return tuple(name for name in SERVICES if name in wanted)


def in_style(config: Configuration, style: str = "") -> Configuration:
    """Return the settings with a checkout style: the one given, else the one asked for, else the default.

    Raises:
        ConfigurationError: a service is named that the style does not have.
    """
    style = style or config.checkout or STYLES[0]
    services = config.services
    if style != ORCHESTRATION and ORCHESTRATOR in services:
        if config.named:
            allowed = ", ".join(name for name in SERVICES if name != ORCHESTRATOR)
            raise CHOSEN.wrong(",".join(services), f"{allowed}; there is no service {ORCHESTRATOR} with {CHECKOUT.option} {style}")
        services = tuple(name for name in services if name != ORCHESTRATOR)
    return replace(config, checkout=style, services=services)


def stored_in_files(config: Configuration) -> str | None:
    """Return the checkout style that the first start has stored in the folder, or None before it.

    Raises:
        ConfigurationError: it is another one than is asked for, or cannot be read.
    """
    stored = _stored(config, "checkout")
    if stored is not None:
        check_style(config, stored, place=str(config.data / INSTALLATION))
    return stored


def clock_of(config: Configuration) -> str:
    """Return which clock the installation has: as its first start has stored it, else as it is asked for, else the machine's.

    Raises:
        ConfigurationError: another one is stored than is asked for, or the folder cannot be read.
    """
    stored = _stored(config, "clock", before=CLOCKS[0])
    if stored is not None and (stored not in CLOCKS or config.clock not in ("", stored)):
        raise CLOCK.wrong(config.clock or stored, f"{stored}, as stored at the first start in {config.data / INSTALLATION}")
    return stored or config.clock or CLOCKS[0]


def _stored(config: Configuration, name: str, *, before: str | None = None) -> str | None:
    """Return what the first start has stored of a setting, None where there was none; `before` where the setting came later."""
    try:
        content = json.loads((config.data / INSTALLATION).read_text(encoding="utf-8"))
        return str(content[name] if before is None else content.get(name, before))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DATA.wrong(str(config.data), f"a folder whose {INSTALLATION} can be read ({error})") from error


def store_in_files(config: Configuration, style: str) -> str:
    """Store the checkout style in the folder unless one is stored; return what is stored then.

    Raises:
        ConfigurationError: another style is stored, or the folder cannot be used.
    """
    try:
        config.data.mkdir(parents=True, exist_ok=True)
        if not (config.data / INSTALLATION).exists():
            _store(config.data / INSTALLATION, {"checkout": style, "clock": config.clock or CLOCKS[0]})
    except OSError as error:
        raise DATA.wrong(str(config.data), f"a folder that can be written ({error.strerror})") from error
    return stored_in_files(config) or style


def check_style(config: Configuration, stored: str, *, place: str) -> None:
    """Refuse a stored style that is not the one asked for.

    Raises:
        ConfigurationError: it is another one.
    """
    if stored not in STYLES or config.checkout not in ("", stored):
        raise CHECKOUT.wrong(config.checkout or stored, f"{stored}, as stored at the first start in {place}")


def _store(path: Path, content: Mapping[str, str]) -> None:
    """Write the file whole or not at all; of two processes that start at once, the first one's content stays."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(content) + "\n", encoding="utf-8")
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
