"""Listens to the PostgreSQL engine of this process: every transaction that its sessions have committed, and what it wrote.

The engine drives libpq itself, and the driver's types are compiled, so neither the driver's cursors nor its connections can be listened to.
Everything goes through `Session.run`, which is wrapped; a transaction is told when it has returned from the pipeline with the commit, that
is when the server has said that it is durable, and before whoever waits for it knows. While a commit is under way the event loop runs on,
as it would; only other commits wait. Connections that an application opens by itself are not heard.

A statement has whole columns of a batch as its values, packed; those that say what it is about are unpacked here.

Neighbours: `tracing` calls `listen` where the driver is installed; `counting` counts; `naming` names.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from weakref import WeakKeyDictionary

from millrace.engines.postgres.session import OwnSql, Rows, Session, Step, Timeouts
from millrace.testing.crash.counting import Counter
from millrace.testing.crash.naming import fact_in, name_of, operation_of

_HEADER = 20
_length = struct.Struct(">i").unpack_from
Packed = Sequence[bytes | None]


def listen(counter: Counter) -> None:
    """Hear every session that is opened from now on."""
    connect, run = Session.connect, Session.run
    heard: WeakKeyDictionary[Session, Listener] = WeakKeyDictionary()

    async def connect_heard(url: str, name: str, *, timeouts: Timeouts) -> Session:
        session = await connect(url, name, timeouts=timeouts)
        heard[session] = Listener(counter, name)
        return session

    async def run_heard(self: Session, steps: Sequence[Step | OwnSql]) -> list[Rows]:
        listener = heard.get(self)
        if listener is None or not listener.begins(steps):
            return await run(self, steps)
        return await listener.commit(lambda: run(self, steps))

    Session.connect = connect_heard
    Session.run = run_heard


class Listener:
    """Follows the transactions of one session.

    Args:
        counter: is told.
        service: whose store it is.
    """

    def __init__(self, counter: Counter, service: str) -> None:
        self._counter = counter
        self._service = service
        self._operations: set[str] = set()
        self._inside = False

    def begins(self, steps: Sequence[Step | OwnSql]) -> bool:
        """Statements are about to run; return whether they make something durable."""
        if not self._inside:
            self._operations.clear()
        committed = False
        for step in steps:
            name = "" if isinstance(step, OwnSql) else step.statement.name
            if name == "begin":
                self._inside = True
            elif name == "commit":
                committed, self._inside = True, False
            elif name == "rollback":
                self._operations.clear()
                self._inside = False
            else:
                self._operations.update(operations_of(step))
        return bool(self._operations) and (committed or not self._inside)

    async def commit(self, run: Callable[[], Awaitable[list[Rows]]]) -> list[Rows]:
        """Run what makes something durable, and tell of it when it is."""
        operations, durable = set(self._operations), set[str]()
        await self._counter.entered(self._service)
        try:
            rows = await run()
            durable = operations
        finally:
            self._counter.leave(self._service, durable)
        return rows


def operations_of(step: Step | OwnSql) -> set[str]:
    """Return what a statement writes; one of the engine's may write about several things at once."""
    if isinstance(step, OwnSql):
        operation = operation_of(step.sql, step.values)
        return set() if operation is None else {operation}
    name = name_of(step.statement.text.decode())
    if name is None:
        return set()
    about = _ABOUT.get(name)
    return {name} if about is None else {f"{name} {each}" for each in about(step.values)}


def items_of(array: bytes | None) -> Iterator[bytes | None]:
    """Unpack an array of one dimension."""
    place = _HEADER
    while array is not None and place < len(array):
        (length,) = _length(array, place)
        place += 4
        yield None if length < 0 else array[place : place + length]
        place += max(length, 0)


def _facts_in(column: int) -> Callable[[Packed], set[str]]:
    return lambda values: {fact_in(value) for value in items_of(values[column])}


def _one(column: int) -> Callable[[Packed], set[str]]:
    return lambda values: {_word(values[column])}


def _each(*columns: int) -> Callable[[Packed], set[str]]:
    return lambda values: {" of ".join(map(_word, row)) for row in zip(*(items_of(values[column]) for column in columns), strict=True)}


def _word(value: bytes | None) -> str:
    return "" if value is None else value.decode(errors="replace")


_ABOUT: Mapping[str, Callable[[Packed], set[str]]] = {
    "append_journal": _facts_in(6),
    "save_positions": _each(0, 1),
    "claim_positions": _one(0),
    "add_states": _one(0),
    "save_states": _one(0),
    "delete_states": _each(0),
    "set_timers": _each(2, 0),
    "cancel_timers": _each(2, 0),
    "save_held": _each(0),
    "remove_held": _each(0),
    "add_answers": _each(0),
    "add_seen": _one(0),
}
