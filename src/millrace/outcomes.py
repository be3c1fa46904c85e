"""What becomes of the messages of a turn that failed, and whether the consumer goes on.

Every failure of a handler is judged here, once, inside the transaction that also moves the position:

    NotYet        waits for another message of its key
    refused       the asker gets its answer; the message is done with
    transient     waits and is tried again; dead when its attempts are used up, of which none is used while its breaker is open
    poison        dead at this try
    fatal         kept, first of its key, with no attempt used; the consumer stops

A consumer stops as an operator would stop it: the wish is saved in the turn's own transaction, with the reason, so every instance obeys and
a restart does not begin again, and with an alarm. It stops for a fatal failure, and where too many messages die (`retry.FailureLimit`). The
turn is cut there: what comes after stays unread. So does what comes after the moment at which a breaker opens, for handlers that are called
in the turn.

How many died lately is counted in a tally that is written only when it changes for the worse or back to nothing in a row, so a turn without
failures writes nothing for it.

Neighbours: `turn` handles messages and asks here about those that failed; `retry` makes the rows; `runtime` keeps what outlives a turn.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from millrace import retry
from millrace.alarm import consumer_alarm, raise_alarm
from millrace.breaker import Circuit, Tally
from millrace.classification import Kind
from millrace.consumer_state import KIND as WISHES
from millrace.consumer_state import STOPPED, Wish, save_wish
from millrace.delivery import Delivery
from millrace.errors import NotYet, Rejected, StoreUnavailable
from millrace.fingerprint import fingerprint_of, fingerprint_of_reason
from millrace.held import HeldRow
from millrace.intake import TIMERS, Intake
from millrace.message import Command, declaration, kebab
from millrace.ports import StoreReader
from millrace.processor import Mode
from millrace.unit_of_work import UnitOfWork

TALLIES = "@failures"
"""The kind of the rows that keep how many messages of a processor died lately."""


class Memory(msgspec.Struct):
    """What a loop remembers of failures from turn to turn.

    Attributes:
        tally: of messages that died and that were handled.
        circuit: of what its handlers call, if they name something.
    """

    tally: Tally
    circuit: Circuit | None = None


async def load_tally(tables: StoreReader, processor: str) -> Tally:
    """Return what is stored of a processor."""
    row = (await tables.states.load(TALLIES, [processor])).get(processor)
    return Tally() if row is None else msgspec.json.decode(row, type=Tally)


class Outcomes:
    """The failures of one try of a turn.

    Args:
        intake: the processor.
        memory: what the loop remembers; taken over by `accept`, when the turn has been committed.
        probing: the turn tries one message, to see whether a dependency is back.

    Attributes:
        stop: why the consumer stops; empty while it goes on.
        cut: nothing more of this turn is to be handled.
    """

    def __init__(self, intake: Intake, memory: Memory, *, probing: bool = False) -> None:
        self.stop = ""
        self.cut = False
        self._told = ""
        self._intake = intake
        self._memory = memory
        self._tally = msgspec.structs.replace(memory.tally)
        self._limit = intake.policy.limit
        self._probing = probing
        self._before = memory.tally.run
        self._died = False
        self._seen = 0

    def failed(self, delivery: Delivery, error: BaseException, unit: UnitOfWork, *, before: HeldRow | None, handled: int) -> HeldRow | None:
        """Return the row that holds a message whose function raised, None if that was an answer.

        Args:
            delivery: the message.
            error: what was raised.
            unit: the turn's transaction.
            before: the row that held it before.
            handled: how many messages the turn has handled so far.

        Raises:
            BaseException: what is not the message's failure.
        """
        name, now = self._intake.name, unit.now_micros
        if isinstance(error, NotYet):
            row = retry.not_yet(delivery, error, processor=name, before=before, now_micros=now, unmoved_micros=unit.unmoved_micros)
            if row.state == retry.DEAD:
                row.fingerprint, row.last_at = fingerprint_of_reason(row.reason, delivery.envelope.type), now
            self._judge(row, handled)
            return row
        if isinstance(error, Exception) and self._intake.policy_of(delivery).kind_of(error) is Kind.REFUSED:
            try:
                self._reply(delivery, error, unit)
            except Exception as failure:  # noqa: BLE001  # a rejection class that cannot carry the refusal is a failure
                error = failure
            else:
                return None
        if isinstance(error, asyncio.CancelledError):
            error = RuntimeError("the function was cancelled by something it awaited")
        if isinstance(error, StoreUnavailable) and self._intake.mode is Mode.TRANSACTION and error.reason != "failed":
            raise error  # this very transaction cannot go on; anywhere else it is some other store, and the message's failure
        if not isinstance(error, Exception):
            raise error
        self._intake.note(error)
        row = self._held(delivery, error, now, handled)
        row.fingerprint, row.last_at = fingerprint_of(error), now
        return row

    def _held(self, delivery: Delivery, error: Exception, now: int, handled: int) -> HeldRow:
        name, policy, circuit = self._intake.name, self._intake.policy_of(delivery), self._memory.circuit
        kind = policy.kind_of(error)
        if kind is Kind.FATAL:
            self._stop(f"{name} cannot handle {delivery.envelope.type} {delivery.envelope.id}: {type(error).__name__}", detail=str(error))
            return retry.failed_row(delivery, error, processor=name, now_micros=now)
        if circuit is not None and kind is Kind.TRANSIENT:
            called = delivery.result is error  # else an activity was answered, and what follows from the answer failed
            if self._intake.mode is Mode.TRANSACTION:
                circuit.failed(error, now=now, probe=self._probing)
                self.cut, called = self.cut or circuit.open, True
            if circuit.open and called:
                return policy.uncounted(delivery, error, processor=name, now_micros=now)
        row = policy.after_failure(delivery, error, processor=name, now_micros=now)
        self._judge(row, handled)
        return row

    def unreadable(self, delivery: Delivery, now: int, *, handled: int) -> HeldRow:
        """Return the row of a record that cannot be read: dead at its first try."""
        row = retry.held_row(delivery, retry.DEAD, processor=self._intake.name, now_micros=now)
        row.reason, row.detail = delivery.result
        row.attempts = delivery.attempt
        row.fingerprint, row.last_at = fingerprint_of_reason(row.reason, row.detail), now
        self._judge(row, handled)
        return row

    def _judge(self, row: HeldRow, handled: int) -> None:
        """Count a message that died, and stop where too many do."""
        limit = self._limit
        if row.state != retry.DEAD or limit is None:
            return
        self._died = True
        self._tally.note_good(handled - self._seen, of=limit.of)
        self._seen = handled
        self._tally.note_bad(of=limit.of)
        if not self.stop and (reached := self._tally.exceeds("messages", run=limit.run, share=limit.share, of=limit.of)):
            self._stop(f"{reached} became dead letters; the last one with {row.reason}", detail=_last_line(row.detail))

    def _stop(self, reason: str, *, detail: str) -> None:
        """Stop; the text of an error, `detail`, may be personal and is no part of the alarm."""
        self.stop, self.cut = f"{reason}: {detail}"[:1000], True
        self._told = reason

    def _reply(self, delivery: Delivery, refusal: Exception, unit: UnitOfWork) -> None:
        cls = self._intake.rejection
        if cls is None or not isinstance(delivery.message, Command) or delivery.topic == TIMERS:
            return
        declared = declaration(type(delivery.message))
        reply: Any = cls(**{declaration(cls).key: delivery.key, "command": declared.name, "reason": reason_of(refusal)})
        unit.drafts.append(unit.draft(reply, delivery))

    async def write(self, unit: UnitOfWork, *, handled: int) -> None:
        """Store what has to outlive this process, if anything has happened."""
        if (limit := self._limit) is not None:
            self._tally.note_good(handled - self._seen, of=limit.of)
            self._seen = handled
        name, states = self._intake.name, unit.transaction.states
        if self.stop:
            self._tally = Tally()
            rows = await states.load(WISHES, [name])
            wish = msgspec.json.decode(rows[name], type=Wish) if name in rows else Wish()
            await save_wish(unit.transaction, name, msgspec.structs.replace(wish, state=STOPPED, reason=self.stop, since=unit.now_micros))
            await raise_alarm(unit, consumer_alarm(name, group=self._intake.group, reason=self._told))
        if self._died or self._tally.run != self._before:
            row = msgspec.json.encode(self._tally)
            await (states.save([(TALLIES, name, row)]) if self._tally != Tally() else states.delete([(TALLIES, name)]))

    def accept(self) -> None:
        """The turn was committed: its tally is what the loop remembers."""
        self._memory.tally = self._tally


def reason_of(refusal: BaseException) -> str:
    """Return why a command was refused, in the one word that its answer gives."""
    return refusal.reason if isinstance(refusal, Rejected) else kebab(type(refusal).__name__).replace("-", "_")


def _last_line(detail: str) -> str:
    return detail.strip().rpartition("\n")[2][:300]


__all__ = ["Memory", "Outcomes", "load_tally", "reason_of"]
