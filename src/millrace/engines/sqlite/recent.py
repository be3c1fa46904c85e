"""The newest records of each partition, kept in memory: what this process has just published is read from here by all its processors.

A fact is read by several processors within milliseconds of its append. A run holds consecutive offsets that end where this process's last
append ended; an append of another process in between leaves a gap, and the run starts anew behind it. Whatever is not here is in the file.

Neighbours: `log` adds what it has committed and asks here before it asks the file.
"""

from __future__ import annotations

from millrace.ports import Record

RECORDS_MAX = 512
BYTES_MAX = 1 << 20


class Run:
    """Consecutive records of one partition, the newest ones."""

    def __init__(self) -> None:
        self.first = 0
        self.size = 0
        self.records: list[Record] = []

    def extend(self, records: list[Record]) -> None:
        """Add records; a gap before them, or more than fits, forgets what was there."""
        offset = records[0].offset
        if offset != self.first + len(self.records):
            self.first, self.size, self.records = offset, 0, []
        self.records += records
        self.size += sum(len(record.value) for record in records)
        if len(self.records) > 2 * RECORDS_MAX or self.size > BYTES_MAX:
            self._trim()

    def _trim(self) -> None:
        gone, size = max(0, len(self.records) - RECORDS_MAX), self.size - sum(len(record.value) for record in self.records[:-RECORDS_MAX])
        while size > BYTES_MAX // 2 and gone < len(self.records):
            size -= len(self.records[gone].value)
            gone += 1
        del self.records[:gone]
        self.first, self.size = self.first + gone, size


class Recent:
    """The runs of all partitions."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, int], Run] = {}

    def add(self, place: tuple[str, int], records: list[Record]) -> None:
        """Remember records that are durable now."""
        run = self._runs.get(place)
        if run is None:
            run = self._runs[place] = Run()
        run.extend(records)

    def read(self, place: tuple[str, int], offset: int, limit: int) -> list[Record] | None:
        """Return the records from an offset on, or None when the file has to be asked."""
        run = self._runs.get(place)
        if run is None or not run.first <= offset < run.first + len(run.records):
            return None
        start = offset - run.first
        return run.records[start : start + limit]

    def forget(self) -> None:
        """Keep nothing; retention has removed records."""
        self._runs.clear()
