"""How far the processors behind a view, or behind a State class, have read: what waiting for one's own writes asks.

Neighbours: `application` waits with it; `position` is the token of a place in a journal.
"""

from __future__ import annotations

from millrace.hosting import Host
from millrace.ports import ViewInfo
from millrace.position import Position
from millrace.rebuild import processor_of
from millrace.state import State, View, kind_of


async def has_reached(host: Host, view: type[State], position: Position, *, key: str | None) -> bool:
    """Return whether everybody who keeps a view or State class has read up to a position and, with `key`, holds nothing of that key."""
    return all([await _processor_has_reached(host, name, position, key) for name in await keepers(host, view)])


async def keepers(host: Host, view: type[State]) -> list[str]:
    """Return the names of the processors that keep a view, or a State class."""
    if not issubclass(view, View):
        return host.service.processors_of(view)
    name = kind_of(view).name
    return [processor_of(ViewInfo(await host.serving(name), name, 0, ""))]


async def _processor_has_reached(host: Host, name: str, position: Position, key: str | None) -> bool:
    rows = {f"{row.topic}/{row.partition}": row for row in await host.store.reader.positions.load(name)}
    origin = f"{position.source}@{position.epoch}"
    read = set(host.loops[name].topics) if name in host.loops else {row.topic for row in rows.values()}
    if not read and name not in host.loops:
        return False  # a build that this process has not met yet
    for place, wanted in position.places.items():
        if place.rsplit("/", 1)[0] in read and (place not in rows or rows[place].sources.get(origin, 0) < wanted):
            return False
    if key is None:
        return True
    return all(row.state == "dead" for row in await host.store.reader.held.load(name, keys=[key]))


__all__ = ["has_reached", "keepers"]
