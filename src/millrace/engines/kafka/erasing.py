"""Deleting an installation from a cluster: its declared topics, the engine's own, and its groups; nothing else in its namespace.

Who still runs is a member of the group of leases. A process that was killed, or that keeps its name over restarts, counts until its
session has run out, so that is waited for.

Neighbours: `engine` calls it.
"""

from __future__ import annotations

import asyncio
import re
import time

from millrace.engines.kafka.client import LONGEST_S, Client
from millrace.engines.kafka.driver import Codes
from millrace.engines.kafka.leases import GROUP
from millrace.erasure import Belongings
from millrace.errors import StoreUnavailable

GONE_S = 10.0
LOOK_S = 0.2


async def erase(client: Client, names: Belongings, *, dry_run: bool) -> list[str]:
    """Delete what is there; see `Erasure`."""
    await _check_unused(client)
    topics = await _topics(client, names)
    groups = await _groups(client, names)
    if not dry_run:
        await _delete(client, topics, groups)
    return [f"Kafka topic {name}" for name in topics] + [f"Kafka group {name}" for name in groups]


async def _check_unused(client: Client) -> None:
    until = time.monotonic() + client.settings.session_s + 1
    while members := await _members(client):
        if time.monotonic() > until:
            raise StoreUnavailable(client.name, reason="locked", detail=f"these processes use it: {', '.join(members)}; stop them first")
        await asyncio.sleep(LOOK_S)


async def _members(client: Client) -> list[str]:
    found = await client.ask_groups(
        lambda admin: admin.describe_consumer_groups([client.settings.internal(GROUP)], request_timeout=LONGEST_S),
        what="describing group",
        allowed=[Codes.NO_GROUP, Codes.NO_COORDINATOR],
    )
    return sorted(member.client_id for each in found.values() for member in each.members)


async def _topics(client: Client, names: Belongings) -> list[str]:
    found = await client.cluster(what="listing topics")
    ours = {client.settings.topic(name) for name in names.topics}
    internal = client.settings.internal("")
    return sorted(name for name in found.topics if name in ours or name.startswith(internal))


async def _groups(client: Client, names: Belongings) -> list[str]:
    found = await client.answers({"": client.admin.list_consumer_groups()}, what="listing groups")
    ours = {client.settings.topic(name) for name in names.groups} | {client.settings.internal(GROUP)}
    return sorted({each.group_id for each in found[""].valid if re.sub(r"@\d+$", "", each.group_id) in ours})


async def _delete(client: Client, topics: list[str], groups: list[str]) -> None:
    if groups:
        await client.ask_groups(
            lambda admin: admin.delete_consumer_groups(groups, request_timeout=LONGEST_S),
            what="deleting group",
            allowed=[Codes.NO_GROUP],
        )
    if topics:
        asked = client.admin.delete_topics(topics)
        await client.answers(asked, what="deleting topic", allowed=[Codes.UNKNOWN_TOPIC])
    until = time.monotonic() + GONE_S
    while topics:
        found = await client.cluster(what="listing topics")
        topics = [name for name in topics if name in found.topics]
        if topics and time.monotonic() > until:
            raise client.silent(f"waiting until topics {topics} are gone")


__all__ = ["erase"]
