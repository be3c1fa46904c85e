"""What operators ask of an installation: topics, consumers, views, the ledger.

Neighbours: everything is read from an `Inspection`; `cli` prints the rows, `doctor` judges them, `rebuild_watch` runs
a rebuild.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from millrace.application import Application
from millrace.breaker import BREAKER_OPEN, CircuitRow, load_circuits
from millrace.clock import from_micros
from millrace.consumer_state import RUNNING, STOPPED, Wish, load_wishes
from millrace.errors import Recovery
from millrace.inspection import Inspection
from millrace.intake import TIMERS
from millrace.ledger import LedgerLine, check_ledger
from millrace.ports import LogParts, PositionRow, Store, TopicInfo
from millrace.rebuild import processor_of
from millrace.service import Service
from millrace.view import topics_of


class PartitionRange(msgspec.Struct, frozen=True):
    """The offsets [start, end) that a partition has."""

    partition: int
    start: int
    end: int


class TopicRow(msgspec.Struct, frozen=True):
    """A topic as found in the log."""

    topic: str
    records: int
    partitions: tuple[PartitionRange, ...]
    retention_s: int | None
    newest_at: int | None
    """When its newest record was appended, in microseconds; None for an empty topic."""
    declared: bool
    identity: str


async def list_topics(inspection: Inspection) -> list[TopicRow]:
    """Return every topic of the log, by name."""
    declared = {spec.name for spec in inspection.app.topics()}
    return [
        TopicRow(
            topic=info.name,
            records=sum(end - start for start, end in info.ranges),
            partitions=tuple(PartitionRange(number, *offsets) for number, offsets in enumerate(info.ranges)),
            retention_s=info.retention_s,
            newest_at=await newest_at(inspection.log, info),
            declared=info.name in declared,
            identity=info.identity,
        )
        for info in sorted(await inspection.log.log.topics(), key=lambda info: info.name)
    ]


async def newest_at(parts: LogParts, info: TopicInfo) -> int | None:
    """Return when the newest record of a topic was appended, in microseconds."""
    found: list[int] = []
    for partition, (start, end) in enumerate(info.ranges):
        if end > start:
            found += [record[3] for record in await parts.log.read(info.name, partition, offset=end - 1, limit=1)]
    return max(found, default=None)


class ConsumerRow(msgspec.Struct, frozen=True):
    """How far one processor has read one partition, and who reads it now as far as is known."""

    group: str
    service: str
    processor: str
    topic: str
    partition: int
    position: int | None
    """The next offset it will read; None when it has never read this partition."""
    end: int
    lag: int
    """Records that it has not read."""
    lag_s: float
    """Age of the first of these, by its append time; 0 when there is none."""
    held: int
    """Messages that wait or are dead."""
    held_keys: int
    """Keys that these messages belong to; later ones of a key wait behind them."""
    state: str
    """What is wanted of the processor: running, paused or stopped; "breaker open" where it would run and waits for what it calls."""
    owner: str | None
    declared: bool
    received: int
    """Records that it has read here; the sum of the six that follow."""
    handled: int
    duplicate: int
    """Publications of a record that it had read before."""
    ignored: int
    """Records that none of its functions takes."""
    skipped: int
    """Messages that an operator took away unhandled."""
    waiting: int
    dead: int
    reason: str = ""
    """Why it has stopped itself, or why its breaker is open."""
    since: datetime | None = None
    """Since when, in business time."""
    breaker: str | None = None
    """The dependency that it calls, as it is declared."""
    probe_at: datetime | None = None
    """When the next message is tried, while the breaker is open; in business time."""


COUNTERS = ("received", "handled", "duplicate", "ignored", "skipped", "waiting", "dead")
"""What a position counts; all but the first add up to it."""


async def list_consumers(inspection: Inspection) -> list[ConsumerRow]:
    """Return every partition of every processor that is declared or has a position."""
    infos = {info.name: info for info in await inspection.log.log.topics()}
    rows: list[ConsumerRow] = []
    for service, store in inspection.services():
        declared = await declared_processors(inspection.app, service, store)
        known = await store.reader.positions.processors()
        held = await store.reader.held.counts()
        wishes, circuits = await load_wishes(store.reader), await load_circuits(store.reader)
        breakers = {each.name: each.breaker.name for each in service.processors(inspection.app.catalogue) if each.breaker is not None}
        for processor in sorted({*declared, *known}):
            group = inspection.app.group_of(service.name, processor)
            standing = _standing_of(wishes.get(processor, Wish()), breakers.get(processor), circuits)
            owners = await inspection.leases.owners(group) if standing["state"] != STOPPED else dict[int, str]()
            keys = Counter((first.topic, first.partition) for first in await store.reader.held.blocked(processor) if first.key)
            places = await _places(store, processor, declared.get(processor, ()), infos)
            for (topic, partition), row in sorted(places.items()):
                start, end = _range_of(infos, topic, partition)
                offset = start if row is None else row.offset
                counted = row or PositionRow(processor, topic, partition)
                rows.append(
                    ConsumerRow(
                        group=group,
                        service=service.name,
                        processor=processor,
                        topic=topic,
                        partition=partition,
                        position=None if row is None else offset,
                        end=end,
                        lag=max(0, end - offset),
                        lag_s=await _age(inspection, topic, partition, max(offset, start)) if end > offset else 0.0,
                        held=sum(held.get((processor, topic, partition), (0, 0))),
                        held_keys=keys[topic, partition],
                        owner=owners.get(partition),
                        declared=processor in declared,
                        **standing,
                        **{name: getattr(counted, name) for name in COUNTERS},
                    )
                )
    return rows


def _standing_of(wish: Wish, breaker: str | None, circuits: Mapping[str, CircuitRow]) -> dict[str, Any]:
    """Return the fields of a row that say whether a processor does anything, and why not."""
    if breaker is None or (circuit := circuits.get(breaker)) is None or wish.state != RUNNING:
        since = from_micros(wish.since) if wish.since else None
        return {"state": wish.state, "reason": wish.reason, "since": since, "breaker": breaker}
    open_since = {"since": from_micros(circuit.since), "probe_at": from_micros(circuit.probe_at)}
    return {"state": BREAKER_OPEN, "reason": circuit.reason, "breaker": breaker} | open_since


async def declared_processors(app: Application, service: Service, store: Store) -> dict[str, Sequence[str]]:
    """Return processor -> topics, as the service is written now; one processor per build of a view."""
    found: dict[str, Sequence[str]] = {processor.name: processor.topics() for processor in service.processors(app.catalogue)}
    definitions = {definition.name: definition for definition in service.views}
    for build in await store.reader.views.list():
        if build.name in definitions:
            found[processor_of(build)] = topics_of(definitions[build.name])
    return found


async def _places(
    store: Store, processor: str, topics: Sequence[str], infos: dict[str, TopicInfo]
) -> dict[tuple[str, int], PositionRow | None]:
    places: dict[tuple[str, int], PositionRow | None] = {
        (topic, partition): None for topic in topics if topic in infos for partition in range(len(infos[topic].ranges))
    }
    rows = await store.reader.positions.load(processor)
    places.update({(row.topic, row.partition): row for row in rows if row.topic != TIMERS})
    return places


def _range_of(infos: dict[str, TopicInfo], topic: str, partition: int) -> tuple[int, int]:
    ranges = infos[topic].ranges if topic in infos else ()
    return ranges[partition] if partition < len(ranges) else (0, 0)


async def _age(inspection: Inspection, topic: str, partition: int, offset: int) -> float:
    try:
        found = await inspection.log.log.read(topic, partition, offset=offset, limit=1)
    except Recovery:
        return 0.0  # the record is gone; the ledger and the doctor say so
    return max(0, inspection.now - found[0].at) / 1_000_000 if found and found[0].position >= 0 else 0.0


class ViewRow(msgspec.Struct, frozen=True):
    """A build of a view, or a view that has none yet (build None)."""

    view: str
    service: str
    build: int | None
    version: int
    declared_version: int | None
    """What the code says now; None for a view that it does not declare any more."""
    state: str
    documents: int
    lag: int
    """Records that the build has not read."""


async def list_views(inspection: Inspection) -> list[ViewRow]:
    """Return every build of every view, and the views that have none."""
    consumers = await list_consumers(inspection)
    rows: list[ViewRow] = []
    for service, store in inspection.services():
        versions = {definition.name: definition.kind.version for definition in service.views}
        builds = await store.reader.views.list()
        for build in builds:
            lag = sum(row.lag for row in consumers if (row.service, row.processor) == (service.name, processor_of(build)))
            documents = await store.reader.documents.count(build.id)
            rows.append(
                ViewRow(
                    build.name,
                    service.name,
                    build.id,
                    build.version,
                    versions.get(build.name),
                    build.state,
                    documents,
                    lag,
                )
            )
        missing = sorted(versions.keys() - {build.name for build in builds})
        rows += [ViewRow(name, service.name, None, versions[name], versions[name], "not built", 0, 0) for name in missing]
    return sorted(rows, key=lambda row: (row.view, row.service, row.build or 0))


async def balance(inspection: Inspection) -> list[LedgerLine]:
    """Return every equation of the ledger."""
    stores = [(inspection.source_of(service.name), store) for service, store in inspection.services()]
    return await check_ledger(stores, inspection.log)
