"""The tables of keyed rows: states, and first answers by idempotency key.

Theory of `Guarded`. Two transactions on the same shared state must behave as if one ran after the other. Rows that are there are locked
as they are loaded, in key order, so the second reads what the first has written. A row that is absent cannot be locked, so its
absence is written down and held to its word later:

- a row that was found absent and is then saved goes through a plain insert. If it is there by now, somebody else was faster, and the
  unique index says so: a conflict, and the work is done again on what is there;
- a row that was found absent and is not saved is looked for once more before the commit, under the lock of the journal's head. Any two
  transactions that each build on the absence of what the other adds both look there, one after the other, and the second one sees it.

Rejected: an advisory lock per absent key (a batch of a thousand new keys fills the server's shared lock table), inserting empty rows
first (every new row is written twice), SERIALIZABLE (its predicate locks are per page, and a batch touches all of them).

Neighbours: implements `States` and `Answers` of `ports`; `documents` is guarded in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from millrace.engines.postgres.arrays import blobs, integers, restored, restored_keys, scalar, texts
from millrace.engines.postgres.session import Step
from millrace.engines.postgres.table import Place, Table
from millrace.ports import StoredAnswer


class Guarded(Table):
    """A table of keyed rows that remembers what was absent."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._absent: dict[str, set[str]] = {}
        if self._writing:
            place.add_check(self)

    def _note(self, group: str, keys: Sequence[str], found: dict[str, bytes]) -> None:
        """Remember which of the keys were not found."""
        if self._writing and len(found) != len(keys):
            self._absent.setdefault(group, set()).update(key for key in keys if key not in found)

    def _split(self, group: str, keys: Iterable[str]) -> tuple[list[str], list[str]]:
        """Return keys of rows to add, because they were found absent, and of rows to replace, both in order."""
        ordered, absent = sorted(keys), self._absent.get(group)
        if not absent:
            return [], ordered
        new = [key for key in ordered if key in absent]
        old = [key for key in ordered if key not in absent]
        absent.difference_update(new)
        return new, old

    def steps(self) -> list[Step]:
        """Return the statements that fail where a row that was absent is there by now."""
        absent = sorted((group, key) for group, keys in self._absent.items() for key in keys)
        if not absent:
            return []
        values = texts([group for group, _ in absent]), texts([key for _, key in absent])
        return [Step(self._place.sql[self._expectation], values)]

    _expectation = ""


class PostgresStates(Guarded):
    """See `ports.States`."""

    _expectation = "expect_no_states"

    async def load(self, kind: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the rows that exist, locked in a write transaction."""
        found = restored_keys(await self._locked("load_states", scalar(kind), texts(sorted(keys))))
        self._note(kind, keys, found)
        return found

    async def save(self, rows: Sequence[tuple[str, str, bytes]]) -> None:
        """Insert or replace (kind, key, value)."""
        kinds: dict[str, dict[str, bytes]] = {}
        for kind, key, value in rows:
            kinds.setdefault(kind, {})[key] = value
        for kind, values in sorted(kinds.items()):
            for query, keys in zip(("add_states", "save_states"), self._split(kind, values), strict=True):
                if keys:
                    self._put(query, scalar(kind), texts(keys), blobs([values[key] for key in keys]))

    async def delete(self, rows: Sequence[tuple[str, str]]) -> None:
        """Remove (kind, key)."""
        if rows:
            self._put("delete_states", texts([kind for kind, _ in rows]), texts([key for _, key in rows]))

    async def page(self, kind: str, *, after: str, limit: int) -> list[tuple[str, bytes]]:
        """Return (key, value) above `after`."""
        rows = await self._all("page_states", scalar(kind), scalar(after), scalar(limit))
        return [(restored(key), value) for key, value in rows]


class PostgresAnswers(Table):
    """See `ports.Answers`. What two transactions add at once is a conflict for the second."""

    async def find(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], StoredAnswer]:
        """Return what is stored for (scope, key)."""
        rows = await self._all("find_answers", texts([scope for scope, _ in keys]), texts([key for _, key in keys]))
        return {(restored(scope), restored(key)): StoredAnswer(restored(mark), *rest) for scope, key, mark, *rest in rows}

    async def add(self, rows: Sequence[tuple[str, str, StoredAnswer]]) -> None:
        """Store (scope, key, answer)."""
        if rows:
            scopes, keys, answers = zip(*rows, strict=True)
            marks, values, times = zip(*answers, strict=True)
            self._put("add_answers", texts(scopes), texts(keys), texts(marks), blobs(values), integers(times))

    async def seen(self, processor: str, ids: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return which foreign records a processor has had."""
        rows = await self._all("find_seen", scalar(processor), texts([source for source, _ in ids]), texts([name for _, name in ids]))
        return {(restored(source), restored(name)) for source, name in rows}

    async def remember(self, processor: str, ids: Sequence[tuple[str, str]], *, now_micros: int) -> None:
        """Store foreign records."""
        if ids:
            sources, names = texts([source for source, _ in ids]), texts([name for _, name in ids])
            self._put("add_seen", scalar(processor), sources, names, scalar(now_micros))

    async def expire(self, *, before: int) -> int:
        """Forget answers and foreign ids from before a time."""
        answers = await self._all("expire_answers", scalar(before))
        seen = await self._all("expire_seen", scalar(before))
        return answers[0][0] + seen[0][0]
