"""Commands from outside: decided, committed with others that arrived together, answered after the commit.

An idempotency key's first answer is stored in the command's own transaction. A repeat, even one in the same commit, gets the stored
answer; the same key with another fingerprint is refused. A refusal stores nothing, so it may be tried again.

Neighbours: `application.execute` makes one `CommandWork` per call; the service's `writer` runs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec

from millrace.aggregate import Aggregate
from millrace.delivery import Delivery
from millrace.errors import IdempotencyConflict, NotYet
from millrace.keyed import Stream
from millrace.message import Command, Message, key_of
from millrace.partitioning import partition_of
from millrace.ports import StoredAnswer
from millrace.position import Position
from millrace.processor import Pattern
from millrace.serialization import Envelope
from millrace.unit_of_work import Draft, UnitOfWork
from millrace.writer import Waiting


class IdempotencyKey(msgspec.Struct, frozen=True):
    """A caller's key for one logical request.

    Args:
        scope: what the key is unique in, for instance a route.
        key: the caller's key.
        fingerprint: what must be equal in a repeat, for instance a hash of the parsed body.
    """

    scope: str
    key: str
    fingerprint: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """What became of a command.

    Attributes:
        position: where its facts are in the journal; wait for it to read your own writes.
        messages: what was said, in order.
        state: the aggregate after it, None for handlers.
        version: the stream's version after it, 0 for handlers.
        answer: what `answer=` made of it, as stored with the idempotency key.
        repeated: the idempotency key had been used; only `answer` and `position` are meaningful then.
    """

    position: Position
    messages: tuple[Message, ...] = ()
    state: Any = None
    version: int = 0
    answer: bytes | None = None
    repeated: bool = False


class Order(msgspec.Struct, frozen=True):
    """A command with how it is to be executed."""

    command: Command
    expected_version: int | None = None
    keys: tuple[IdempotencyKey, ...] = ()
    answer: Callable[[Outcome], bytes] | None = None
    correlation_id: str = ""


class CommandWork(Waiting):
    """The work item of one command.

    Args:
        order: what to do.
        pattern: who decides.
        partitions: number of partitions of the service's own topic, which owns timers of the key.
    """

    def __init__(self, order: Order, pattern: Pattern, *, partitions: int) -> None:
        super().__init__()
        self.order = order
        self._pattern = pattern
        self._delivery = _delivery(order, partitions)
        self._stored: list[tuple[IdempotencyKey, StoredAnswer]] = []
        self._first: CommandWork | None = None
        self._drafts: list[Draft] = []
        self._stream: Stream | None = None
        self.error: BaseException | None = None
        self.outcome: Outcome | None = None

    async def prepare(self, unit: UnitOfWork) -> None:
        """Name the idempotency keys and the rows."""
        self._delivery.now = unit.now
        self._stored, self._first, self.error, self.outcome = [], None, None, None
        unit.wanted_answers.update((key.scope, key.key) for key in self.order.keys)
        try:
            self._pattern.wants(self._delivery, unit)
        except Exception as error:  # noqa: BLE001  # a selector is the user's code; its failure is the caller's
            self.error = error

    async def run(self, unit: UnitOfWork) -> None:
        """Decide, unless the keys were used before."""
        answers = unit.answers
        self._stored = [(key, answers[key.scope, key.key]) for key in self.order.keys if (key.scope, key.key) in answers]
        if self.error is not None or self._is_repeat(unit):
            return
        if self._pattern.missing is not None:
            if self._lacks_rows(self._pattern.missing, unit):
                await unit.load()
            if self.error is not None:
                return
        before = len(unit.drafts)
        try:
            if isinstance(self._pattern, Aggregate):
                self._stream = self._pattern.decide(self._delivery, unit, expected=self.order.expected_version)
            else:
                self._pattern.react(self._delivery, unit)
        except BaseException as error:  # noqa: BLE001  # refusals and failures are the caller's to see
            self.error = error
            return
        self._drafts = unit.drafts[before:]
        for key in self.order.keys:
            unit.first_commands[key.scope, key.key] = self

    def _lacks_rows(self, missing: Callable[[Delivery, UnitOfWork], bool], unit: UnitOfWork) -> bool:
        """Return whether rows that are named by rows are to be loaded."""
        try:
            return missing(self._delivery, unit)
        except (NotYet, Exception) as error:  # noqa: BLE001  # a selector is the user's code; its failure is the caller's
            self.error = error
            return False

    def _is_repeat(self, unit: UnitOfWork) -> bool:
        for key in self.order.keys:
            first = unit.first_commands.get((key.scope, key.key))
            if isinstance(first, CommandWork):
                self._first = first
                used = next(k for k in first.order.keys if (k.scope, k.key) == (key.scope, key.key))
                if used.fingerprint != key.fingerprint:
                    self.error = IdempotencyConflict(key.scope, key.key)
                return True
        for key, stored in self._stored:
            if stored.fingerprint != key.fingerprint:
                self.error = IdempotencyConflict(key.scope, key.key)
                return True
        return bool(self._stored)

    async def settle(self, unit: UnitOfWork) -> None:
        """Make the outcome, and store it under its keys."""
        if self.error is not None:
            return
        if self._first is not None:
            self.outcome = _repeat_of(self._first.outcome)
            return
        if self._stored:
            self.outcome = _unpack(self._stored[0][1].answer)
            return
        outcome = Outcome(
            position=unit.position_of(self._drafts),
            messages=tuple(draft.message for draft in self._drafts),
            state=self._stream.state if self._stream else None,
            version=self._stream.version if self._stream else 0,
        )
        if self.order.answer is not None:
            outcome = msgspec.structs.replace(outcome, answer=self.order.answer(outcome))
        self.outcome = outcome
        if self.order.keys:
            await self._store(unit, outcome)

    async def _store(self, unit: UnitOfWork, outcome: Outcome) -> None:
        packed = str(outcome.position).encode() + b"\n" + (outcome.answer or b"")
        rows = [(key.scope, key.key, StoredAnswer(key.fingerprint, packed, unit.unmoved_micros)) for key in self.order.keys]
        await unit.transaction.answers.add(rows)

    async def result(self) -> Outcome:
        """Wait for the commit and return the outcome, or raise why there is none."""
        await self.finished
        if self.error is not None:
            raise self.error
        assert self.outcome is not None  # noqa: S101  # settle ran before the commit
        return self.outcome


def _delivery(order: Order, partitions: int) -> Delivery:
    key = key_of(order.command)
    delivery = Delivery()
    delivery.envelope = Envelope(f"{_PROCESS}{next(_NUMBERS):x}", "", "", correlationid=order.correlation_id)
    delivery.message, delivery.key, delivery.partition = order.command, key, partition_of(key, partitions)
    return delivery


def _repeat_of(outcome: Outcome | None) -> Outcome | None:
    return msgspec.structs.replace(outcome, repeated=True) if outcome is not None else None


def _unpack(value: bytes) -> Outcome:
    token, _, answer = value.partition(b"\n")
    return Outcome(position=Position.parse(token.decode()), answer=answer, repeated=True)


_PROCESS = os.urandom(12).hex()
_NUMBERS = count()
"""A command's id is unique without asking the system for randomness each time: random per process, then counted."""

__all__ = ["CommandWork", "IdempotencyKey", "Order", "Outcome"]
