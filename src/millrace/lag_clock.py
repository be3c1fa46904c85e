"""How far a processor is behind, in seconds: how long what it reads next has been there, as far as this process has seen it come.

The ends of partitions are noted about once a second. The first note whose end lies above a position says when the record at that
position was there at the latest; so nothing is read for it, and it is exact to a second. A backlog that was there at the start counts from
the start. Of a partition 512 notes are kept; where a backlog is older, every second one goes, and the figure gets coarser, never smaller.

Neighbours: `hosting` notes; `metrics` asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Place = tuple[str, int]
NOTES_MAX = 512
APART_S = 1.0


class LagClock:
    """Notes of the ends of partitions."""

    def __init__(self) -> None:
        self._notes: dict[Place, list[tuple[float, int]]] = {}
        self._last = float("-inf")

    def note(self, now: float, ends: Mapping[Place, int], positions: Iterable[Mapping[Place, int]]) -> None:
        """Note where partitions end, if the last note is old enough; what every position has passed is forgotten."""
        if now < self._last + APART_S:
            return
        self._last = now
        lowest: dict[Place, int] = {}
        for offsets in positions:
            for place, offset in offsets.items():
                lowest[place] = min(offset, lowest.get(place, offset))
        self._notes = {place: notes for place, notes in self._notes.items() if place in lowest}
        for place, offset in lowest.items():
            notes = [note for note in self._notes.get(place, []) if note[1] > offset]
            end = ends.get(place, 0)
            if end > offset and (not notes or notes[-1][1] < end):
                notes.append((now, end))
            self._notes[place] = notes if len(notes) <= NOTES_MAX else [*notes[:-1:2], notes[-1]]

    def behind_s(self, now: float, ends: Mapping[Place, int], offsets: Mapping[Place, int]) -> float:
        """Return how long the oldest record that was not read has been there, in seconds; 0 where all is read."""
        oldest = now
        for place, offset in offsets.items():
            if ends.get(place, 0) > offset:
                oldest = min(oldest, next((at for at, end in self._notes.get(place, ()) if end > offset), now))
        return now - oldest


__all__ = ["LagClock"]
