"""What `doctor` says about a cluster: versions, copies, settings that could lose records, clocks, topics that are not as declared.

Neighbours: `log.check` hands this on; the texts say what to change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from millrace.engines.kafka.client import Client
from millrace.engines.kafka.driver import Codes, TopicCollection, broker_resource
from millrace.engines.kafka.relaying import MARKS
from millrace.engines.kafka.topics import Topics
from millrace.serialization import RECORD_BYTES_MAX

Finding = tuple[str, bool, str]
ENVELOPE_BYTES = 1024
"""What key, header and batch of a record may take beside its value."""


class Found(NamedTuple):
    """What the brokers say of themselves; settings by name, of brokers by number, of topics by the names that services know."""

    cluster: str
    nodes: list[str]
    brokers: Mapping[str, Mapping[str, str]]
    topics: Mapping[str, Mapping[str, str]]
    copies: Mapping[str, int]
    marks: Mapping[str, str]


async def check_cluster(client: Client, topics: Topics) -> list[Finding]:
    """Return (what, well, finding)."""
    cluster = await client.cluster()
    nodes = [str(number) for number in sorted(cluster.brokers)]
    names = {name: client.settings.topic(name) for name in topics.known}
    configurations = await topics.configurations(names)
    found = Found(
        cluster=cluster.cluster_id,
        nodes=nodes,
        brokers=await _brokers(client, nodes),
        topics=configurations,
        copies=await _copies(client, names, configurations),
        marks=(await topics.configurations({MARKS: client.settings.internal(MARKS)})).get(MARKS, {}),
    )
    return judge(found)


def judge(found: Found) -> list[Finding]:
    """Return findings about what the brokers say of themselves."""
    findings: list[Finding] = [("brokers", bool(found.nodes), f"{len(found.nodes)} in cluster {found.cluster}")]
    for node, config in found.brokers.items():
        findings += _broker(node, config)
    findings += _copies_of(found.copies, found.topics, count=len(found.nodes))
    findings += _topics(found.topics)
    policy = found.marks.get("cleanup.policy", "absent")
    advice = "" if policy == "compact" else "; set it to compact"
    findings.append(("marks of relays", not advice, f"cleanup.policy={policy}{advice}"))
    return findings


async def _brokers(client: Client, nodes: list[str]) -> dict[str, dict[str, str]]:
    """Return the settings of brokers; none where this user may not see them."""
    futures: dict[str, Any] = {}
    for node in nodes:  # the library takes one broker per call
        (futures[node],) = client.admin.describe_configs([broker_resource(node)]).values()
    answers = await client.answers(
        futures,
        what="describing the settings of broker",
        allowed=[Codes.CLUSTER_REFUSED],
    )
    return {node: {name: entry.value for name, entry in config.items()} for node, config in answers.items()}


def _broker(node: str, config: Mapping[str, str]) -> Iterator[Finding]:
    version = config.get("inter.broker.protocol.version", config.get("metadata.version", ""))
    if version:
        yield f"broker {node}", True, f"protocol {version}"
    unclean = config.get("unclean.leader.election.enable", "false") == "true"
    yield (
        "unclean.leader.election",
        not unclean,
        f"broker {node}: {'true; acknowledged records can be lost, set it to false' if unclean else 'false'}",
    )
    creates = config.get("auto.create.topics.enable", "false") == "true"
    yield (
        "auto.create.topics",
        not creates,
        f"broker {node}: {'true; a misspelt name becomes a topic with wrong settings, set it to false' if creates else 'false'}",
    )


async def _copies(client: Client, names: Mapping[str, str], known: Mapping[str, Any]) -> dict[str, int]:
    found = await _described(client, [topic for name, topic in names.items() if name in known])
    back = {topic: name for name, topic in names.items()}
    return {back[topic]: min((len(p.replicas) for p in described.partitions), default=0) for topic, described in found.items()}


async def _described(client: Client, topics: list[str]) -> dict[str, Any]:
    """Return descriptions of topics by their names on the brokers."""
    if not topics:
        return {}
    return await client.answers(client.admin.describe_topics(TopicCollection(topics)), what="describing topic")


def _copies_of(copies: Mapping[str, int], configurations: Mapping[str, Mapping[str, str]], *, count: int) -> Iterator[Finding]:
    wanted = 3 if count >= 3 else 1
    few = sorted(name for name, number in copies.items() if number < wanted)
    yield (
        "replication",
        not few,
        f"at least {wanted} of every topic" if not few else f"fewer than {wanted} of {', '.join(few)}; reassign them to more brokers",
    )
    if wanted == 1:
        return
    loose = sorted(name for name, config in configurations.items() if int(config.get("min.insync.replicas", "1")) < 2)
    yield (
        "min.insync.replicas",
        not loose,
        "2 or more" if not loose else f"1 on {', '.join(loose)}: one broker's disk decides whether a record exists; set it to 2",
    )
    tight = sorted(name for name, config in configurations.items() if int(config.get("min.insync.replicas", "1")) >= copies.get(name, 0))
    if tight:
        yield "min.insync.replicas", False, f"as many as copies on {', '.join(tight)}: no broker may be away; lower it"


def _topics(configurations: Mapping[str, Mapping[str, str]]) -> Iterator[Finding]:
    needed = RECORD_BYTES_MAX + ENVELOPE_BYTES
    small = sorted(name for name, config in configurations.items() if int(config.get("max.message.bytes", "0")) < needed)
    yield (
        "max.message.bytes",
        not small,
        f"{needed:,} or more" if not small else f"less than {needed:,} on {', '.join(small)}: large facts stop their relay; raise it",
    )
    clocks = sorted(name for name, config in configurations.items() if config.get("message.timestamp.type") != "LogAppendTime")
    yield (
        "message.timestamp.type",
        not clocks,
        "LogAppendTime" if not clocks else f"not LogAppendTime on {', '.join(clocks)}: a producer's wrong clock decides when records go",
    )


__all__ = ["Found", "check_cluster", "judge"]
