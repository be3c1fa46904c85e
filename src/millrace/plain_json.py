"""How the records of a topic are read that are plain JSON, from producers that know nothing of CloudEvents.

    class Ordered(Event, topic="legacy.orders", key="nr", plain=PlainJson(where={"kind": "ordered"}, id="event.id", time="event.at")):
        nr: str
        total: int

The mapping belongs to the message class that the records become. Fields are named by paths, `event.id` is field `id` of the object `event`.

Neighbours: a message class declares it, `foreign` reads records by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Scalar = str | int | bool | None


class PlainJson(msgspec.Struct, frozen=True):
    """Where a plain JSON record says what a CloudEvent says in its attributes.

    Attributes:
        where: fields with the values that they must have, for topics with records of several kinds; without any, every record is one.
            Records to which the mapping of no class fits are ignored, as unknown types are.
        data: the object that holds the message's fields; default: the record itself. Fields of other names are declared on the message:
            `order_id: str = msgspec.field(name="orderId")`.
        key: what orders and partitions it; default: the record's key, or else the message's.
        id: what tells it from other records of its source, so that a repeated record has no effect twice; default: its place in the topic,
            which tells nothing of repeats.
        time: when it happened: RFC 3339 text, or a number since 1970 UTC; default: when it was appended to the log.
        time_unit: of a number.
        source: who said it, one for all records; default: `/foreign/<topic>`.
    """

    where: Mapping[str, Scalar] = {}
    data: str = ""
    key: str = ""
    id: str = ""
    time: str = ""
    time_unit: Literal["s", "ms", "us"] = "ms"
    source: str = ""

    def fits(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record is one of these."""
        return all(_is_same(at_path(record, path), value) for path, value in self.where.items())


def _is_same(found: Any, wanted: Scalar) -> bool:
    return type(found) is type(wanted) and found == wanted  # true is not 1


def at_path(record: Any, path: str) -> Any:
    """Return the value at a path, None where there is none."""
    for name in path.split("."):
        if not isinstance(record, dict) or name not in record:
            return None
        record = record[name]  # pyright: ignore[reportUnknownVariableType]  # plain JSON
    return record  # pyright: ignore[reportUnknownVariableType]


__all__ = ["PlainJson", "at_path"]
