"""What an installation on Kafka is told: where the brokers are, client properties, names, copies.

    KafkaSettings.of("kafka://one:9092,two:9092")
    KafkaSettings.of("kafka://one:9092?properties=client.properties&namespace=test.&replication=3")

Client properties are librdkafka's (`security.protocol`, `sasl.username`, `ssl.ca.location` ...), one `name=value` a line, passed through
unchanged to every client. They may hold secrets: no text made here or anywhere else contains their values.

Neighbours: `client` makes librdkafka's configuration from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs

import msgspec

from millrace.errors import ConfigurationError

SESSION_S = 6.0
"""Brokers refuse less unless `group.min.session.timeout.ms` says otherwise."""
INTERNAL = "__millrace."
"""Topics that begin so after the namespace belong to the engine."""
_OPTIONS = {"properties", "namespace", "replication", "session", "instance"}
SECRET_MIN = 3
_SECRET = ("password", "secret", "key", "token", "jaas", "oauth", "credential")
_NAME = re.compile(r"[A-Za-z0-9._-]*")


class KafkaSettings(msgspec.Struct, frozen=True):
    """See the module.

    Attributes:
        brokers: `host:port,host:port`, some of the cluster's.
        properties: client properties; their values are never printed.
        namespace: put in front of the names of topics and groups, so that installations can share a cluster.
        replication: copies of each record; None: three where there are three brokers, else one.
        session_s: how long an owner of partitions may be silent before others take them.
        instance: a name that this process keeps over restarts (a pod's in a stateful set): it gets its partitions back without a
            rebalance when it returns within the session. Empty: it gives them back when it stops.
    """

    brokers: str
    properties: Mapping[str, str] = {}
    namespace: str = ""
    replication: int | None = None
    session_s: float = SESSION_S
    instance: str = ""

    def __repr__(self) -> str:
        """Return a text without the values of properties."""
        return f"KafkaSettings({self.brokers!r}, properties={sorted(self.properties)}, namespace={self.namespace!r})"

    @classmethod
    def of(cls, url: str) -> KafkaSettings:
        """Read a URL, and the file of properties that it names.

        Raises:
            ConfigurationError: it is no such URL, or the file cannot be read.
        """
        scheme, _, rest = url.partition("://")
        brokers, _, query = rest.partition("?")
        if scheme != "kafka" or not brokers or "@" in brokers or "/" in brokers:
            raise ConfigurationError("a log on Kafka is named kafka://host:port,host:port; credentials go into a file: ?properties=...")
        options = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
        if unknown := sorted(options.keys() - _OPTIONS):
            raise ConfigurationError(f"kafka://{brokers}: unknown options {unknown}; these are known: {sorted(_OPTIONS)}")
        try:
            return cls(
                brokers,
                properties=read_properties(Path(options["properties"])) if "properties" in options else {},
                namespace=_checked(options.get("namespace", "")),
                replication=int(options["replication"]) if "replication" in options else None,
                session_s=float(options.get("session", SESSION_S)),
                instance=options.get("instance", ""),
            )
        except ValueError as error:
            raise ConfigurationError(f"kafka://{brokers}: {error}") from None

    @property
    def principal(self) -> str:
        """Return under which user the brokers know this process, as far as its properties tell."""
        if user := self.properties.get("sasl.username"):
            return f"User:{user}"
        if certificate := self.properties.get("ssl.certificate.location"):
            return f"the user of certificate {certificate}"
        return "this process's user"

    def without_secrets(self, text: str) -> str:
        """Return a text of the library's with the values of secret properties blotted out."""
        for name, value in self.properties.items():
            if len(value) >= SECRET_MIN and any(word in name for word in _SECRET):
                text = text.replace(value, "***")
        return text

    def topic(self, name: str) -> str:
        """Return the name of a topic on the brokers."""
        return self.namespace + name

    def internal(self, name: str) -> str:
        """Return the name of a topic of the engine's own."""
        return f"{self.namespace}{INTERNAL}{name}"

    def declared(self, topic: str) -> str | None:
        """Return the name under which services know a topic, None for one of the engine's or of somebody else."""
        name = topic.removeprefix(self.namespace)
        return None if not topic.startswith(self.namespace) or name.startswith("__") else name


def _checked(namespace: str) -> str:
    if not _NAME.fullmatch(namespace):
        raise ValueError(f"namespace {namespace!r}: use letters, digits, '.', '_' and '-'")
    return namespace


def read_properties(path: Path) -> dict[str, str]:
    """Read a file of properties: `name=value` lines, `#` comments.

    Raises:
        ConfigurationError: it cannot be read, or a line has no `=`; the line itself is not told, it may hold a secret.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise ConfigurationError(f"properties {path}: {error.strerror}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        name, equals, value = line.strip().partition("=")
        if not name or name.startswith(("#", "!")):
            continue
        if not equals:
            raise ConfigurationError(f"properties {path}, line {number}: expected name=value")
        found[name.strip()] = value.strip()
    return found


__all__ = ["INTERNAL", "SESSION_S", "KafkaSettings", "read_properties"]
