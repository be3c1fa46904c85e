"""Where a command's facts are in the journal, as a token that travels through HTTP headers.

Form: `<source>@<epoch>;<topic>/<partition>=<position>,...`. Neighbours: `execute` returns one, `wait_for` takes one.
"""

from __future__ import annotations

import re

import msgspec

_FORM = re.compile(r"(?P<source>/[A-Za-z0-9._~/-]+)@(?P<epoch>\d{1,9});(?P<places>[^;]*)")
_PLACE = re.compile(r"(?P<place>[A-Za-z0-9._-]+/\d{1,6})=(?P<position>\d{1,19})")


class Position(msgspec.Struct, frozen=True):
    """The last journal position written per "topic/partition", in one epoch of one source."""

    source: str
    epoch: int
    places: dict[str, int]

    def __str__(self) -> str:
        """Return the token."""
        return f"{self.source}@{self.epoch};" + ",".join(f"{place}={position}" for place, position in sorted(self.places.items()))

    @classmethod
    def parse(cls, text: str) -> Position:
        """Return the position that a token names.

        Raises:
            ValueError: it is malformed.
        """
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"not a position: {text!r}; expected <source>@<epoch>;<topic>/<partition>=<position>,...")
        places: dict[str, int] = {}
        for part in filter(None, found["places"].split(",")):
            place = _PLACE.fullmatch(part)
            if place is None:
                raise ValueError(f"not a position: {part!r} in {text!r}; expected <topic>/<partition>=<position>")
            places[place["place"]] = int(place["position"])
        return cls(source=found["source"], epoch=int(found["epoch"]), places=places)
