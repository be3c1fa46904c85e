"""Is this installation sound? Every file, setting and figure that can be judged from outside, and what to change.

A finding is `ok`, `look` (worth knowing, nothing is broken) or `wrong` (something has to change; says what). What
cannot be opened is a finding like any other, by name and reason.

Neighbours: judges a tolerant `Inspection`; engines report on their files by `check`; `cli` prints it and exits 1 on
`wrong`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

import msgspec

from millrace.administration import list_consumers, newest_at
from millrace.breaker import BREAKER_OPEN
from millrace.clock import VirtualClock, to_micros
from millrace.errors import DecodeError, MillraceError, StoreUnavailable
from millrace.inspection import Inspection
from millrace.intake import TIMERS
from millrace.letter_watch import measure
from millrace.letters import count_held
from millrace.ports import LogAdministration, PositionRow, Store, TopicInfo, TopicSpec
from millrace.retry import DEAD, RELAY
from millrace.saga_watch import SagaWatch
from millrace.serialization import open_envelope
from millrace.terminal import span

OK, LOOK, WRONG = "ok", "look", "wrong"
FUTURE_S = 5.0
RELAY_LATE_S = 10.0

ADVICE = {
    "writable": "give the user that runs the application the right to write it",
    "journal_mode": "stop every process of the application and start it again; it sets WAL",
    "synchronous": "use a release of the engine that sets it to full",
    "schema": "run the release that wrote it",
    "quick_check": "stop the application, keep the file, restore it from a backup",
    "free_disk": "free space on this disk, or move the data folder to another",
    "absent": "start the application once; it makes what is missing",
    "lost": "restore log and stores from the same backup",
    "unfinished": "run the command that moves the installation again; it goes on",
    "older_version": "start the application once; it migrates it",
    "newer_version": "run the release that wrote it",
    "corrupt": "stop the application, keep the file, restore it from a backup",
    "not_ours": "move that file away, or name another data folder",
    "locked": "end whatever holds the lock; the application itself never locks out readers",
    "read_only": "give this user the right to write the folder and its files",
    "unreachable": "start the server, or mend its address; for a file: give this user the right to read it, or mount the disk again",
    "network_file_system": "move the data folder to a local disk",
    "full": "free space where this is kept",
    "unauthorized": "correct the user and secret in the settings, or grant this user what the finding names",
    "brokers": "name brokers that are there in the log's address",
    "unclean.leader.election": "set unclean.leader.election.enable=false on the brokers",
    "auto.create.topics": "set auto.create.topics.enable=false on the brokers",
    "replication": "add brokers and reassign the partitions: kafka-reassign-partitions",
    "min.insync.replicas": "set min.insync.replicas to one less than there are copies, two at least: kafka-configs --alter",
    "max.message.bytes": "raise max.message.bytes of these topics: kafka-configs --alter",
    "message.timestamp.type": "set message.timestamp.type=LogAppendTime on these topics: kafka-configs --alter",
    "marks of relays": "set cleanup.policy=compact on the topic of marks: kafka-configs --alter",
    "server_version": "move the database to a newer server: pg_upgrade, or dump and restore",
    "primary": "name the primary in the store's address, or promote this server",
    "fsync": "set fsync=on in postgresql.conf and reload",
    "full_page_writes": "set full_page_writes=on in postgresql.conf and reload",
    "synchronous_commit": "set synchronous_commit=on in postgresql.conf and reload",
    "wal_level": "set wal_level=replica in postgresql.conf and restart the server",
    "clock": "let this machine and the servers follow one time server",
    "connections": "raise max_connections in postgresql.conf and restart the server, or put a pooler in front",
    "migrate": "grant create on the schema to the role of the service",
}


class Finding(msgspec.Struct, frozen=True):
    """What was looked at, what was found, and what to do about it."""

    where: str
    what: str
    state: str
    found: str
    advice: str | None = None


async def examine(inspection: Inspection) -> list[Finding]:
    """Return every finding, in the order in which one would look."""
    findings = [_closed(problem) for problem in inspection.problems]
    if inspection.parts is None and inspection.stores:
        findings.append(Finding("log", "lost", WRONG, "there are stores but no log that can be read", ADVICE["lost"]))
    for name, store in inspection.stores.items():
        findings += await _guarded(_file(f"store {name}", store))
    if inspection.parts is not None:
        parts = inspection.log
        findings += await _guarded(_file("log", parts.administration))
        findings += await _guarded(_clock(inspection))
        findings += await _guarded(_topics(inspection))
        findings += await _guarded(_relays(inspection))
        findings += await _guarded(_positions(inspection))
    findings += await _guarded(_held(inspection))
    findings += await _guarded(_sagas(inspection))
    return findings


async def _guarded(findings: AsyncIterator[Finding]) -> list[Finding]:
    """Collect findings; what breaks on the way is the last of them."""
    found: list[Finding] = []
    try:
        async for each in findings:
            found.append(each)  # noqa: PERF401  # what was found before an error counts
    except StoreUnavailable as error:
        found.append(_closed(error))
    except MillraceError as error:
        found.append(Finding("log", "unexpected", WRONG, str(error), "compare with `ledger`"))
    return found


def _closed(problem: StoreUnavailable) -> Finding:
    state = LOOK if problem.reason == "absent" else WRONG
    return Finding(problem.name, problem.reason, state, problem.detail, ADVICE.get(problem.reason))


async def _file(where: str, checked: Store | LogAdministration) -> AsyncIterator[Finding]:
    for what, well, found in await checked.check():
        yield Finding(where, what, OK if well else WRONG, found, None if well else ADVICE.get(what))


async def _clock(inspection: Inspection) -> AsyncIterator[Finding]:
    parts = inspection.log
    moments = [at for info in await parts.log.topics() if (at := await newest_at(parts, info))]
    ahead = (max(moments, default=0) - inspection.now) / 1_000_000
    if ahead > FUTURE_S:
        yield Finding(
            "log",
            "clock",
            WRONG,
            f"the newest record was appended {ahead:,.0f} s in the future",
            "set this machine's clock, or wait for it",
        )
    else:
        yield Finding("log", "clock", OK, "no record is from the future")
    clock = inspection.app.clock
    if isinstance(clock, VirtualClock):
        yield Finding("application", "clock", LOOK, f"virtual, {span(clock.offset.total_seconds())} ahead of the machine's")


async def _topics(inspection: Inspection) -> AsyncIterator[Finding]:
    found = {info.name: info for info in await inspection.log.log.topics()}
    declared = {spec.name: spec for spec in inspection.app.topics()}
    well = 0
    for name, spec in declared.items():
        if name not in found:
            yield Finding(f"topic {name}", "declared", LOOK, "not there yet", ADVICE["absent"])
            continue
        if drift := _drift(spec, found[name]):
            advice = "declare it as it is, or move its records to a new topic"
            yield Finding(f"topic {name}", "settings", WRONG, drift, advice)
        else:
            well += 1
    yield Finding("log", "topics", OK, f"{well:,} as declared")
    for name in sorted(found.keys() - declared.keys()):
        yield Finding(f"topic {name}", "declared", LOOK, "no service declares it; it is kept and nobody here reads it")


def _drift(spec: TopicSpec, info: TopicInfo) -> str:
    parts: list[str] = []
    if spec.partitions != len(info.ranges):
        parts.append(f"{spec.partitions} partitions declared, {len(info.ranges)} found")
    if spec.retention_s != info.retention_s:
        parts.append(f"retention_s={spec.retention_s} declared, {info.retention_s} found")
    return "; ".join(parts)


async def _relays(inspection: Inspection) -> AsyncIterator[Finding]:
    log = inspection.log.log
    for service, store in inspection.services():
        where, journal = f"store {service.name}", store.reader.journal
        head = await journal.head()
        position = await log.published(inspection.source_of(service.name), await store.epoch())
        if position > head:
            yield Finding(
                where,
                "restore",
                WRONG,
                f"the log has its position {position:,}, it has {head:,} itself: it was restored from an older copy",
                "restore the newer store",
            )
            continue
        yield await _relay(inspection, where, store, position=position)


async def _relay(inspection: Inspection, where: str, store: Store, *, position: int) -> Finding:
    journal = store.reader.journal
    waiting = (await journal.counts(await journal.head()))[3] - (await journal.counts(position))[3]
    if not waiting:
        return Finding(where, "relay", OK, "everything is published")
    late_s = await _waits_for(inspection, store, position)
    found = f"{waiting:,} journal rows wait to be published, the first for {late_s:,.0f} s"
    if late_s <= RELAY_LATE_S:
        return Finding(where, "relay", OK, found)
    return Finding(where, "relay", WRONG, found, "start the application; when it runs, its /health says what keeps the relay")


async def _waits_for(inspection: Inspection, store: Store, position: int) -> float:
    while True:
        rows, looked = await store.reader.journal.tail(position, limit=100)
        if rows:
            try:
                since = to_micros(datetime.fromisoformat(open_envelope(rows[0][4]).time))
            except (DecodeError, ValueError):
                return 0.0
            return max(0.0, (to_micros(inspection.app.clock.now()) - since) / 1_000_000)
        if looked == position:
            return 0.0
        position = looked


async def _positions(inspection: Inspection) -> AsyncIterator[Finding]:
    infos = {info.name: info for info in await inspection.log.log.topics()}
    for service, store in inspection.services():
        wrong = 0
        for processor in await store.reader.positions.processors():
            for row in await store.reader.positions.load(processor):
                if row.topic != TIMERS and (text := _misplaced(row, infos)):
                    wrong += 1
                    where = f"{inspection.app.group_of(service.name, processor)} on {row.topic}/{row.partition}"
                    yield Finding(where, "position", WRONG, text, "restore log and stores from the same backup")
        if not wrong:
            yield Finding(f"store {service.name}", "positions", OK, "every processor stands inside the log")
    consumers = await list_consumers(inspection)
    for group, row in {row.group: row for row in consumers if row.reason}.items():
        if row.state == BREAKER_OPEN:
            yield Finding(group, BREAKER_OPEN, LOOK, row.reason, f"see what is wrong with {row.breaker}; it is tried again by itself")
        else:
            yield Finding(group, "stopped itself", WRONG, row.reason, "mend the cause, then `consumers start`")
    for row in consumers:
        if not row.declared and row.processor != RELAY and row.partition == 0:
            yield Finding(
                f"{row.group} on {row.topic}",
                "declared",
                LOOK,
                "no service declares this processor; it was renamed or removed",
            )


def _misplaced(row: PositionRow, infos: dict[str, TopicInfo]) -> str | None:
    """Return what does not fit between a position and the log; the same rules stop a processor at its start."""
    info = infos.get(row.topic)
    if info is None or row.partition >= len(info.ranges):
        return "the log has no such partition"
    start, end = info.ranges[row.partition]
    if row.identity != info.identity:
        return "the topic was created anew since it was read"
    if row.offset > end:
        return f"position {row.offset:,} is above the log's end {end:,}: the log was restored from an older copy"
    if row.offset < start:
        return f"position {row.offset:,} is gone, the log begins at {start:,}: records were removed before they were read"
    return None


async def _held(inspection: Inspection) -> AsyncIterator[Finding]:
    dead = await count_held(inspection, state=DEAD)
    waiting = await count_held(inspection, state=None) - dead
    now = to_micros(inspection.app.clock.now())
    for service, store in inspection.services():
        if beyond := (await measure(store.reader)).beyond(service.letter_bounds, now_micros=now):
            advice = "see `dead-letters list --group`, then redrive, edit or discard them"
            yield Finding(f"store {service.name}", "dead letters", WRONG, beyond, advice)
    if dead:
        yield Finding("messages", "dead letters", LOOK, f"{dead:,} dead letters", "see `dead-letters list`")
    if waiting:
        yield Finding("messages", "held", LOOK, f"{waiting:,} messages wait", "see `dead-letters list --state all`")
    if not dead and not waiting:
        yield Finding("messages", "held", OK, "nothing waits, nothing is dead")


async def _sagas(inspection: Inspection) -> AsyncIterator[Finding]:
    for service, store in inspection.services():
        watch = SagaWatch(service.sagas)
        await watch.count(store.reader.states)
        for stuck in watch.stuck:
            advice = "see `sagas list --status stuck`, then `sagas retry`, `skip` or `take-over`"
            yield Finding(f"saga {stuck.saga}", "stuck", WRONG, stuck.text, advice)
