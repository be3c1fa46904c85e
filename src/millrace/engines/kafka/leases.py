"""Who owns which partition, by Kafka's group protocol; and how far each group has read, for Kafka's own tools.

Theory. A process is one member of one group of the installation. What it subscribes to are empty topics of the engine's own, one per
*unit*: all processors of a service together are a unit, a build of a view that is under way is one of its own, because operators run it
elsewhere. Partition n of a unit's topic is the lease on partition number n of all topics of all its processors, so records of one number
are handled together, whatever topics they lie in. The group's coordinator shares the partitions of each topic out among those who subscribe
to it (round robin) and takes them back from who was silent for a session.

    a process stops              it leaves the group; its partitions are owned by others as soon as they have joined again
    one with a lasting name      its partitions wait for its return, or are free after the session: librdkafka sends no LeaveGroup for such
      stops                      members, and its client for administration cannot remove them
    a process dies               its partitions are free after the session. With a name that lasts (`instance`) it gets them back at once
    one with a lasting name      the coordinator hands it what it had, though it subscribes to other units now; where that does not fit it
      runs other services          joins once more with one topic more, which the coordinator takes for a change and shares out anew
    a process is stopped         as if it had died; when it goes on its commits are refused by the fencing tokens in the store
    a rebalance is under way     everybody goes on with what he had until the new assignment is there: safety never rests on leases, only
                                 progress does, and a pause at every join would be felt
    the coordinator is away      the same

Positions of truth are in the stores. `reached` writes them to Kafka afterwards, as the offsets of one group per processor, so that every
tool shows the lag there is. These groups have no members: they are written by the client for questions.

Rejected: a consumer per processor, as Kafka means it. Measured with 25 groups in one process on one node, against one group with as many
topics: all joined after 0.15 s against 0.07; 100 more threads against 4, and as many again per broker; 15 MB against 1.2; 0.9 % of a core
idle against 0.15. That is bearable; what decided is that topics of one processor would have to be shared out alike, which
assignors do not promise, and that each build of a view would join and leave a group. Rejected: KIP-848 (`group.protocol=consumer`), where
the brokers set session and heartbeat, five seconds by default: a second member waits for two of them. Rejected: giving partitions up at
the start of a rebalance.

Neighbours: implements `Leases` and `Progress` of `leasing`; the application calls `refresh` twice a second.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from millrace.engines.kafka.client import LONGEST_S, Client, reason_of
from millrace.engines.kafka.driver import Codes, Consumer, Failure, GroupOffsets, KafkaException, Message, TopicPartition
from millrace.engines.kafka.driver import Place as Assigned
from millrace.engines.kafka.fetcher import Place
from millrace.engines.kafka.relaying import MARKS
from millrace.engines.kafka.topics import Topics
from millrace.leasing import GroupSpec

JOIN_S = 10.0
"""How long the first look waits for an assignment, beyond a session; brokers hold a new group back for 3 s by default."""
METADATA_S = 2.0
POLL_S = 0.1
REPEATED_S = 5.0
"""A refusal that the library does not repeat for so long is over: it tells no success."""
GROUP = "leases"
LEASES = "leases."

log = logging.getLogger("millrace")


class KafkaLeases:
    """The leases of one process.

    Args:
        client: the brokers.
        instance: a name that no other process has; shown by Kafka's tools as client id.
        follow: told which partitions are owned here.
    """

    def __init__(self, client: Client, instance: str, *, follow: Callable[[Iterable[Place]], None]) -> None:
        self._client = client
        self._settings = client.settings
        self._instance = instance
        self.instance = client.settings.instance or instance
        self._follow = follow
        self._group = self._settings.internal(GROUP)
        self._groups: dict[str, GroupSpec] = {}
        self._made: dict[str, int] = {}
        self._released: set[tuple[str, int]] = set()
        self._written: dict[str, dict[Place, int]] = {}
        self._member: Member | None = None

    async def join(self, groups: Mapping[str, GroupSpec]) -> None:
        """Take part in groups, and in those only."""
        self._groups = dict(groups)
        units: dict[str, int] = {}
        for name, spec in groups.items():
            units[spec.unit or name] = max(spec.partitions, units.get(spec.unit or name, 0))
        new = {unit: count for unit, count in units.items() if self._made.get(unit, 0) < count}
        if new:
            await self._create(new)
        if units and self._member is None:
            self._member = Member(self._client, self._group, self._instance, more=self._settings.internal(MARKS))
        if self._member is not None:
            self._member.subscribe(sorted(self._topic(unit) for unit in units))
        if gone := [unit for unit in self._made if unit not in units and "@" in unit]:
            await self._delete(gone)

    def _topic(self, unit: str) -> str:
        return self._settings.internal(_topic_of(unit))

    async def _create(self, units: Mapping[str, int]) -> None:
        topics = Topics(self._client, moved=lambda: None)
        await topics.create(
            {_topic_of(unit): {} for unit in units}, {_topic_of(unit): count for unit, count in units.items()}, internal=True
        )
        self._made.update(units)

    async def _delete(self, units: Iterable[str]) -> None:
        """Remove the topics of builds that are no more; whoever still runs one is told by the next look at his store."""
        gone = {unit: self._topic(unit) for unit in units}
        for unit in gone:
            del self._made[unit]
        futures = self._client.admin.delete_topics(list(gone.values()))
        await self._client.answers(futures, what="deleting topic", allowed=[Codes.UNKNOWN_TOPIC, Codes.TOPIC_REFUSED])

    async def refresh(self) -> Mapping[str, frozenset[int]]:
        """Return what is owned now; the first time, when there is an assignment.

        Raises:
            StoreUnavailable: the coordinator refuses us.
        """
        if self._member is None:
            return dict.fromkeys(self._groups, frozenset())
        owned = await self._member.owned(self._settings.session_s + JOIN_S)
        found: dict[str, frozenset[int]] = {}
        for name, spec in self._groups.items():
            mine = owned.get(self._topic(spec.unit or name), frozenset())
            found[name] = frozenset(p for p in mine if p < spec.partitions and (name, p) not in self._released)
        self._follow((topic, p) for name, spec in self._groups.items() for topic in spec.topics for p in found[name])
        return found

    async def release(self, group: str, partition: int) -> None:
        """Handle one partition no more; the others of its unit stay, so nobody else has it before this process leaves."""
        self._released.add((group, partition))

    async def leave(self) -> None:
        """Give everything back."""
        if self._member is not None:
            member, self._member = self._member, None
            await asyncio.to_thread(member.leave)

    async def owners(self, group: str) -> Mapping[int, str]:
        """Return the instance that holds each partition of a group, as the coordinator knows it."""
        described = await self._described()
        found: dict[int, str] = {}
        for unit in (group.partition(".")[0], group):  # a build under way is a unit of its own
            for members in described.values():
                for member in members.members:
                    places: list[Assigned] = member.assignment.topic_partitions if member.assignment else []
                    found |= {place.partition: _name_of(member) for place in places if place.topic == self._topic(unit)}
        return found

    async def members(self) -> frozenset[str]:
        """Return every member of the group of leases, as the coordinator knows it."""
        return frozenset(_name_of(member) for described in (await self._described()).values() for member in described.members)

    async def _described(self) -> Mapping[str, Any]:
        return await self._client.ask_groups(
            lambda admin: admin.describe_consumer_groups([self._group], request_timeout=LONGEST_S),
            what="describing group",
            allowed=[Codes.NO_GROUP, Codes.NO_COORDINATOR],
        )

    async def reached(self, group: str, offsets: Mapping[Place, int]) -> None:
        """Write how far a group has read, for Kafka's tools; what a broker does not take now is tried again next time."""
        before = self._written.get(group, {})
        moved = {place: offset for place, offset in offsets.items() if before.get(place) != offset}
        if not moved:
            return
        partitions = [TopicPartition(self._settings.topic(topic), p, offset) for (topic, p), offset in moved.items()]
        asked = [GroupOffsets(self._settings.topic(group), partitions)]
        answers = await self._client.ask_groups(
            lambda admin: admin.alter_consumer_group_offsets(asked, request_timeout=LONGEST_S),
            what="writing offsets of group",
            right="READ on group {}",
        )
        # A broker that has just started may not know a partition yet: that one is written with the next beat.
        refused = {
            (each.topic, each.partition) for answer in answers.values() for each in answer.topic_partitions if each.error is not None
        }
        taken = {place: offset for place, offset in moved.items() if (self._settings.topic(place[0]), place[1]) not in refused}
        self._written[group] = {**before, **taken}

    def sever(self) -> None:
        """End without a word, as a killed process does."""
        if self._member is not None:
            member, self._member = self._member, None
            member.die()


def _name_of(member: Any) -> str:
    """Return the name of a member; who comes back under one that lasts is still shown with the client id of its first process."""
    return member.group_instance_id or member.client_id


def _topic_of(unit: str) -> str:
    """Return the name of a unit's topic; builds are named with characters that Kafka does not take."""
    return LEASES + re.sub(r"[^A-Za-z0-9._-]", "-", unit)


class Member:
    """This process as a member of the group, in a thread of its own.

    Args:
        client: the brokers.
        group: of leases.
        instance: the name of this process.
        more: a topic that is there, to be subscribed to where a subscription has to be another one.
    """

    def __init__(self, client: Client, group: str, instance: str, *, more: str) -> None:
        self._client = client
        self._more = more
        self._returning = bool(client.settings.instance)
        static = {"group_instance_id": client.settings.instance} if client.settings.instance else {}
        session_ms = int(client.settings.session_s * 1000)
        self._consumer: Any = client.made(
            Consumer,
            group_id=group,
            client_id=instance,
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=max(100, min(1000, session_ms // 3)),
            partition_assignment_strategy="roundrobin",
            enable_auto_commit=False,
            auto_offset_reset="latest",
            queued_min_messages=1,
            queued_max_messages_kbytes=64,
            fetch_wait_max_ms=10_000,
            allow_auto_create_topics=False,
            topic_metadata_refresh_interval_ms=1000,  # a topic that was just made may not be known yet to the broker that is asked
            **static,
        )
        self._topics: list[str] = []
        self._wanted: list[str] = []
        self._subscribed: list[str] = []
        self._owned: dict[str, frozenset[int]] | None = None
        self._group = group
        self._error: Failure | None = None
        self._right = ""
        self._failed_at = 0.0
        self._leaving = False
        self._dying = False
        self._thread = threading.Thread(target=self._run, name="kafka leases", daemon=True)
        self._thread.start()

    def subscribe(self, topics: list[str]) -> None:
        """Take part in the units of these topics."""
        if topics != self._topics:
            self._topics = self._wanted = topics

    async def owned(self, patience_s: float) -> dict[str, frozenset[int]]:
        """Return the partitions per topic; waits for the first assignment.

        Raises:
            StoreUnavailable: the coordinator refuses us.
        """
        until = time.monotonic() + patience_s
        while self._owned is None and time.monotonic() < until:
            self._check()
            await asyncio.sleep(0.02)
        self._check()
        return self._owned or {}

    def _check(self) -> None:
        if self._error is not None and time.monotonic() < self._failed_at + REPEATED_S:
            raise self._client.unavailable(self._error, what="taking part in the group of leases", right=self._right)

    def _run(self) -> None:
        while not (self._leaving or self._dying):
            try:
                self._work()
            except Exception:
                log.exception("taking part in the group of leases failed; trying again")
                time.sleep(1.0)
        consumer, self._consumer = self._consumer, None
        if consumer is not None and self._leaving:
            try:
                consumer.close()
            except KafkaException:
                log.debug("leaving the group of leases", exc_info=True)

    def _work(self) -> None:
        consumer = self._consumer
        if consumer is None:
            return
        if self._wanted != self._subscribed and self._are_known(consumer, self._wanted):
            self._subscribed = self._wanted
            consumer.subscribe(self._wanted, on_assign=self._assigned, on_revoke=self._revoked)
        message: Message | None = consumer.poll(POLL_S if self._owned is not None else POLL_S / 5)
        error = message.error() if message is not None else None
        if error is not None and reason_of(error.code()) == "unauthorized":  # what else happens passes by itself
            self._fail(error, f"READ on topic {message.topic()}" if message is not None and message.topic() else "")

    def _fail(self, error: Failure, right: str) -> None:
        self._right = right if error.code() == Codes.TOPIC_REFUSED and right else f"READ on group {self._group}"
        self._error, self._failed_at = error, time.monotonic()

    def _are_known(self, consumer: Any, topics: list[str]) -> bool:
        """Return whether the brokers know all topics by now; who joins earlier gets nothing and has to join again."""
        for topic in topics:
            found = consumer.list_topics(topic, timeout=METADATA_S).topics.get(topic)
            if found is None or found.error is not None or not found.partitions:
                if found is not None and found.error is not None and found.error.code() == Codes.TOPIC_REFUSED:
                    self._fail(found.error, f"READ on topic {topic}")
                return False
        return True

    def _assigned(self, consumer: Any, partitions: list[Assigned]) -> None:
        consumer.assign(partitions)
        if partitions:
            consumer.pause(partitions)
        owned: dict[str, set[int]] = {}
        for each in partitions:
            owned.setdefault(each.topic, set()).add(each.partition)
        self._owned = {topic: frozenset(numbers) for topic, numbers in owned.items()}
        self._error = None
        if self._returning and owned.keys() - {self._more} != set(self._subscribed):
            self._wanted = [*self._wanted, self._more]
        self._returning = False

    def _revoked(self, consumer: Any, partitions: list[Assigned]) -> None:
        consumer.unassign()  # what was owned is used until the next assignment is known

    def leave(self) -> None:
        """Leave the group; blocks."""
        self._leaving = True
        self._thread.join(10)

    def die(self) -> None:
        """Say nothing any more."""
        self._dying = True


__all__ = ["KafkaLeases"]
