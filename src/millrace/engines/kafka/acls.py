"""The access control lists that the users of services need on a cluster, and the commands that make them.

    its topics          READ what its processors read, WRITE what it says; CREATE, for whoever starts first makes a topic
    marks of relays     READ and WRITE: all relays of an installation keep their standing in one topic
    leases              READ of the group of leases, and of the topics that stand for its own partitions; DESCRIBE of those of all
                        services, for any member may be the one that the group lets share the partitions out
    groups              READ of the groups that bear its name: how far it has read is written there for Kafka's tools

READ and WRITE bring DESCRIBE with them. Not asked for: DELETE, so the brokers remove old records by themselves; anything of the cluster.
Every service may write the marks of every other one, so users of services that must not trust each other at all need clusters, or at
least namespaces, of their own.

Neighbours: `engine` returns this; the texts are for an administrator.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from millrace.engines.kafka.leases import GROUP, LEASES
from millrace.engines.kafka.relaying import MARKS
from millrace.engines.kafka.settings import KafkaSettings
from millrace.rights import Needs, Right

LITERAL, PREFIXED = "literal", "prefixed"
_SEEN = "DESCRIBE_CONFIGS"


def acls(settings: KafkaSettings, needs: Sequence[Needs], *, principal: str) -> list[Right]:
    """Return the rights of the users of services; see `GuardedLog`."""
    return [
        _right(settings, each.service, principal.replace("{service}", each.service), resource)
        for each in needs
        for resource in _resources(settings, each)
    ]


Resource = tuple[str, str, str, tuple[str, ...]]


def _resources(settings: KafkaSettings, needs: Needs) -> Iterator[Resource]:
    for topic in sorted({*needs.reads, *needs.writes}):
        operations = [word for word, topics in (("READ", needs.reads), ("WRITE", needs.writes)) if topic in topics]
        yield "topic", settings.topic(topic), LITERAL, (*operations, "CREATE", _SEEN)
    yield "topic", settings.internal(MARKS), LITERAL, ("READ", "WRITE", "CREATE", _SEEN)
    yield "topic", settings.internal(LEASES + needs.service), LITERAL, ("READ", "CREATE")
    yield "topic", settings.internal(f"{LEASES}{needs.service}."), PREFIXED, ("READ", "CREATE", "DELETE")
    yield "topic", settings.internal(LEASES), PREFIXED, ("DESCRIBE",)
    yield "group", settings.internal(GROUP), LITERAL, ("READ",)
    yield "group", settings.topic(f"{needs.service}."), PREFIXED, ("READ",)


def _right(settings: KafkaSettings, service: str, principal: str, resource: Resource) -> Right:
    kind, name, pattern, operations = resource
    words = ["kafka-acls", "--bootstrap-server", settings.brokers, "--command-config", "admin.properties", "--add"]
    words += ["--allow-principal", principal, f"--{kind}", name, "--resource-pattern-type", pattern]
    words += [word for operation in operations for word in ("--operation", operation)]
    return Right(service, principal, kind, name, pattern, operations, shlex.join(words))


__all__ = ["acls"]
