"""Why is this message here? The chain of its causes, as far back as it is known.

The id of a fact says where it was said: `<service>-<epoch>-<position>`. So a cause is looked up in that service's journal first. What
retention has removed there, or a foreign producer said, is looked for in the log: in the partition of the letter's key, in the topics
that the service writes or all there are, among the last records of each. The chain ends where a message has no cause, where none is found,
or after `CHAIN_MAX` of them; it never loops.

Neighbours: `letters` shows it; everything is read from an `Inspection`.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from millrace.errors import DecodeError, Recovery
from millrace.inspection import Inspection
from millrace.partitioning import partition_of
from millrace.ports import TopicInfo
from millrace.serialization import Envelope, open_envelope
from millrace.trace_search import FACT, Search

CHAIN_MAX = 20
LOOK_BACK = 2000
"""So many records at the end of a partition are looked through."""
TOGETHER = 500


class Cause(msgspec.Struct, frozen=True):
    """A message from which another one followed; without a type where it is not known here any more."""

    id: str
    found_in: str | None = None
    """The journal and position, or topic, partition and offset."""
    type: str | None = None
    source: str | None = None
    time: str | None = None
    key: str | None = None


async def causes_of(inspection: Inspection, message: Envelope, *, key: str) -> tuple[Cause, ...]:
    """Return the causes of a message, the direct one first; `key` is that of its partition."""
    chain: list[Cause] = []
    met, wanted = {message.id}, message.causationid
    while wanted and wanted not in met and len(chain) < CHAIN_MAX:
        met.add(wanted)
        place, found = await _find(inspection, wanted, key=key)
        if found is None:
            return (*chain, Cause(wanted))
        chain.append(Cause(wanted, place, found.type, found.source, found.time, found.partitionkey or found.subject))
        wanted = found.causationid
    return tuple(chain)


async def _find(inspection: Inspection, wanted: str, *, key: str) -> tuple[str | None, Envelope | None]:
    said = FACT.fullmatch(wanted)
    if said is not None and (fact := await Search(inspection).fact(wanted)) is not None:
        return f"journal of {said['service']}, position {int(said['position'])}", fact.envelope
    written = next((each.writes() for each in inspection.app.services if said is not None and each.name == said["service"]), None)
    if inspection.parts is not None:
        for info in await inspection.log.log.topics():
            if (written is None or info.name in written) and not info.name.startswith("internal."):
                place, found = await _find_in(inspection, info, wanted, key=key)
                if found is not None:
                    return place, found
    return None, None


async def _find_in(inspection: Inspection, info: TopicInfo, wanted: str, *, key: str) -> tuple[str | None, Envelope | None]:
    partition = partition_of(key, len(info.ranges))
    first, end = info.ranges[partition]
    for offset in _backwards(max(first, end - LOOK_BACK), end):
        try:
            records = await inspection.log.log.read(info.name, partition, offset=offset, limit=TOGETHER)
        except Recovery:
            break  # retention was faster
        for record in records:
            if record.position >= 0 and wanted.encode() in record.value and (found := _opened(record.value, wanted)) is not None:
                return f"{info.name}/{partition}/{record.offset}", found
    return None, None


def _backwards(first: int, end: int) -> Iterable[int]:
    return reversed(range(first, end, TOGETHER))


def _opened(value: bytes, wanted: str) -> Envelope | None:
    try:
        envelope = open_envelope(value, bytes_max=None)
    except DecodeError:
        return None
    return envelope if envelope.id == wanted else None


__all__ = ["Cause", "causes_of"]
