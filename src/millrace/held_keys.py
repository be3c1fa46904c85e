"""The keys of a processor behind whose first message others wait: what a loop tries again, and when.

Kept in memory, as read from the store last: when partitions are taken over, when a turn has held or released something, and when another
process has committed. `again` names the keys of which a message was handled since, so that what said NotYet is tried at once.

Neighbours: `runtime` has one per loop; `retry` describes the states; turns take `blocked` along.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from millrace import retry
from millrace.held import Held

KeyPlace = tuple[str, int, str]
"""(topic, partition, key)."""


class HeldKeys:
    """The first held message of each key.

    Args:
        asked: whether a key's message is being called right now; such a key is left out.

    Attributes:
        blocked: (state, due in microseconds) of the first held message per key.
        again: (partition, key) of messages that were handled since the last look.
    """

    def __init__(self, asked: Callable[[KeyPlace], bool]) -> None:
        self.blocked: dict[KeyPlace, tuple[str, int]] = {}
        self.again: set[tuple[int, str]] = set()
        self._asked = asked

    async def load(self, held: Held, processor: str) -> None:
        """Read them from the store."""
        rows = await held.blocked(processor)
        self.blocked = {(topic, partition, key): (state, due) for topic, partition, key, state, due, _ in rows}

    def first(self, partitions: Collection[int]) -> list[KeyPlace]:
        """Return the key that has waited for its retry longest, if there is one."""
        waiting = [
            (due, place)
            for place, (state, due) in self.blocked.items()
            if state == retry.RETRY and place[1] in partitions and not self._asked(place)
        ]
        return [min(waiting)[1]] if waiting else []

    def due(self, partitions: Collection[int], *, now: int, limit: int) -> list[KeyPlace]:
        """Return the keys whose first message is to be tried, no more than one turn takes.

        Those come first that were woken, then who has waited longest: so the tries go round. Who was woken stays so until its turn.
        """
        due = [
            place
            for place, (state, due) in self.blocked.items()
            if state != retry.DEAD
            and place[1] in partitions
            and (due <= now or (state == retry.NOT_YET and place[1:] in self.again))
            and not self._asked(place)
        ]
        due.sort(key=lambda place: (place[1:] not in self.again, self.blocked[place][1]))
        self.again.intersection_update(place[1:] for place in due[limit:])
        return due[:limit]

    def earliest(self, partitions: Collection[int]) -> int | None:
        """Return when the first retry of these partitions is due."""
        dues = (
            due for place, (state, due) in self.blocked.items() if state != retry.DEAD and place[1] in partitions and not self._asked(place)
        )
        return min(dues, default=None)


__all__ = ["HeldKeys", "KeyPlace"]
