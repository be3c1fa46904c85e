"""What happens to an instance of a saga: `advance(saga, instance, message) -> (instance, items)`, pure, with no engine in it.

An instance goes forward through stages of steps (those beside each other make a stage) or back through them. States of a step:

    -          not reached
    sent       its command is out, or an answer is waited for that somebody else causes
    paused     behind the pivot it was refused; it is sent again at its deadline
    done       it has succeeded               passed   there was nothing to send        skipped   an operator says it counts as done
    failed     it was refused: there is nothing to undo
    doubt      given up without an answer: whether it happened is not known, so it is undone like one that is done
    dropped    an answer that somebody else causes is not waited for any more
    undoing    its undo is out                undo_paused   the undo was refused; it is sent again at its deadline
    undone     its undo was answered          undo_skipped  an operator says it counts as undone
    kept       its undo came too late: what it did stays

Invariant: each step whose command was sent and that may have had an effect is sent, done, kept, skipped, in doubt, on its way to be undone,
or undone; and an instance ends as undone only when no step is left that is done or in doubt and has an undo. So whatever it has
caused is either wanted, undone, or visibly stuck.

Back begins with a failure, a time-out or a cancel. What is under way is settled first (an answer decides, at its deadline it is in
doubt), then stages are undone from the last one to the first; steps beside each other at once.

Races, and what happens:

    an answer twice                     the same fact is known by its id, another one by the step's state: nothing happens
    an answer to what was never sent    nothing; where the table waits for somebody else's fact it is kept for when the step is reached
    cancel before the start             remembered; the start then says at once that it was undone
    cancel while a step is under way    its answer is waited for, as long as the step's time, and undone if it was a success; one that can
                                        be interrupted is undone at once, and whatever answers first settles it
    cancel while the pivot is out       waits for the pivot's answer, which decides: done refuses the cancel, failed grants it
    cancel behind the pivot, or after a `kept`      refused
    given up by a message while it is under way     in doubt: undone like one that is done; at any other time the message means nothing
    success after doubt, before the undo            done; undone in its turn
    success while the undo is out       the undo settles it, being behind it in one topic; on two topics one more undo follows
    success after the undo was answered, or after failed, or after the end     the undo is sent (again): the instance is under way anew,
                                        and its end is not said a second time
    failed while the undo is out        it never happened: undone
    `kept` while cancelling             the cancel ends: `refused` is said, what was undone behind it is asked for again, the saga goes on
    `kept` after a time-out or failure  if it is just what was not waited for any more, or passes the pivot, the saga goes on; else it is
                                        stuck there
    a late answer to a stuck step       counts: the saga goes on without an operator
    a takeover                          says what the table has for it, once it has begun; then nothing
    anything after a takeover           is written into the timeline; nothing is sent

A command is repeated with the same content: where `learn` has changed the case meanwhile, the step keeps the one it was sent with.

Deadlines are judged in event time: the timer fires when the input has passed it, so an answer that lay in the log while the service was
down comes first. One timer per instance holds the earliest deadline; it is not moved when that moves away, but finds out when it fires.

Neighbours: `saga_pattern` stores what this returns; the testing kit and property tests call it as it is.
"""

from __future__ import annotations

from typing import Any

import msgspec

from millrace.errors import SagaRefused
from millrace.message import Message
from millrace.processor import items_of
from millrace.saga import Saga
from millrace.saga_instance import COMPLETED, TAKEN_OVER, UNDONE, Cause, Early, SagaInstance, SagaReason, StepRecord, answers_of
from millrace.saga_progress import (
    DONE,
    DOUBT,
    DROPPED,
    FAILED,
    FORWARD,
    KEPT,
    NOWHERE,
    PASSED,
    PAUSED,
    SENT,
    SKIPPED,
    STEP_UNDONE,
    UNDO_PAUSED,
    UNDO_SKIPPED,
    UNDOING,
    Advance,
    Occasion,
    Progress,
    changed,
    detail_of,
    wire_name,
)
from millrace.saga_table import Claim, Step


def advance(saga: Saga, instance: SagaInstance | None, message: Message, *, occasion: Occasion) -> Advance:
    """Return the instance after a message, and what is said."""
    cls = type(message)
    course = Course(saga, instance, occasion, id=saga.id_of(message))
    if cls in saga.starts:
        course.start(message)
    elif cls in saga.cancels:
        course.cancel(message)
    else:
        course.answer(message)
    return course.end()


def advance_deadline(saga: Saga, instance: SagaInstance, occasion: Occasion) -> Advance:
    """Return the instance after its timer has fired."""
    course = Course(saga, instance, occasion, id=instance.id)
    course.deadline()
    return course.end()


class Course(Progress):
    """One move of one instance, as it is decided."""

    # What may come

    def start(self, message: Message) -> None:
        """Begin, unless it has begun."""
        if self.started_at or self.ended:
            return
        case = self.saga.begin(message)
        if case is not None:
            self.begin(case, by=wire_name(message))

    def begin(self, case: Any, *, by: str = "") -> None:
        """Begin with a case; where a cancel was faster, end at once."""
        self._case, self._raw = case, msgspec.Raw(self.saga.encode_case(case))
        self.started_at = self._occasion.now
        self._note("started", name=by)
        self._turn(self.back) if self.back is not None else self._forward()

    def cancel(self, message: Message) -> None:
        """Turn back, if that is still possible."""
        if self.ended == COMPLETED or (not self.ended and self.back is None and self._no_way_back()):
            self._refuse(message)
        elif not self.ended and self.back is None:
            self._note("cancel", name=wire_name(message))
            self._turn(Cause("cancelled", "", wire_name(message), detail_of(message)))

    def answer(self, message: Message) -> None:
        """Take an answer to a step, by whichever of them it is."""
        if self.ended == TAKEN_OVER:
            self._note("after takeover", name=wire_name(message))
            return
        for claim in self._table.claims.get(type(message), ()):
            if (claim := self._concerned(claim, message)) is not None:
                self._answer(claim, message)

    def deadline(self) -> None:
        """Judge every deadline that the input has passed."""
        if not self.ended:
            for name, record in list(self.steps.items()):
                if 0 < record.deadline <= self._occasion.passed:
                    self._overdue(self._table.by_name[name], record)
            if self.back is not None:
                self._unwind()

    def retry(self, by: str) -> None:
        """Send what is stuck again, attempts beginning anew.

        Raises:
            SagaRefused: nothing is stuck.
        """
        for name in self._stuck():
            step, record = self._table.by_name[name], self.steps[name]
            self._note("retried", name, id=by)
            self._send_undo(step, record, attempts=1) if record.state in {UNDOING, UNDO_PAUSED, KEPT} else self._send(step, attempts=1)

    def skip(self, name: str | None, reason: str, by: str) -> None:
        """Let a stuck step count as done, or as undone, and go on.

        Raises:
            SagaRefused: it is not stuck; or none was named, and several are.
        """
        stuck = self._stuck()
        if name is None and len(stuck) > 1:
            raise SagaRefused(f"{self._who}: {', '.join(stuck)} are stuck; name one of them")
        if name is not None and name not in stuck:
            raise SagaRefused(f"{self._who}: step {name!r} is not stuck; stuck are {', '.join(stuck)}")
        name = name or stuck[0]
        record = self.steps[name]
        undoing = record.state in {UNDOING, UNDO_PAUSED, KEPT}
        self._set(name, state=UNDO_SKIPPED if undoing else SKIPPED)
        self._note("skipped", name, reason, by)
        self._go_on()

    def take_over(self, reason: str, by: str) -> None:
        """End it for the machine.

        Raises:
            SagaRefused: it has ended.
        """
        if self.ended:
            raise SagaRefused(f"{self._who} is {self.ended}; there is nothing left to take over")
        self.steps = {name: changed(record, deadline=0, stuck=False) for name, record in self.steps.items()}
        self.ended = TAKEN_OVER
        self._note("taken over", name=reason, id=by)
        if self.started_at and self.saga.taken_over is not None:
            why = SagaReason.of(Cause(TAKEN_OVER, detail=reason), answers_of(self._story))
            self.items += items_of(self.saga.taken_over(self.case, why))

    # Answers

    def _concerned(self, claim: Claim, message: Any) -> Claim | None:
        """Return whom a rejection concerns: the step or the undo that sent the rejected command; other answers concern who names them."""
        command = getattr(message, "command", None)
        if claim.role not in {"failed", "undo_failed"} or not isinstance(command, str):
            return claim
        record = self.steps.get(claim.step.name, NOWHERE)
        if command in record.undo_sent:
            return Claim(claim.step, "undo_failed")
        return Claim(claim.step, "failed") if command in record.sent and claim.role == "failed" else None

    def _answer(self, claim: Claim, message: Message) -> None:
        record, id = self.steps.get(claim.step.name, NOWHERE), self._occasion.id
        if id and id in (record.answer, record.undo_answer):
            return  # the very same fact
        match claim.role:
            case "done":
                self._succeeded(claim.step, record, message)
            case "failed":
                self._failed(claim.step, record, message)
            case "undone":
                self._undone(claim.step, record, message)
            case "given_up":
                self._given_up(claim.step, record, message)
            case "undo_failed":
                self._undo_failed(claim.step, record, message)
            case _:
                self._kept(claim.step, record, message)

    def _succeeded(self, step: Step, record: StepRecord, message: Message) -> None:
        match record.state:
            case "":
                self._unasked(step, message)
            case "sent" | "paused":
                self._learn(step, message)
                self._set(step.name, state=DONE, answer=self._occasion.id)
                self._note("done", step.name, wire_name(message), self._occasion.id)
                if self.back is not None and step.pivot:
                    self._resume(step, message)
                self._go_on()
            case "doubt":
                self._set(step.name, state=DONE, answer=self._occasion.id)
                self._note("done late", step.name, wire_name(message), self._occasion.id)
                self._go_on()
            case "undoing" | "undo_paused":
                self._set(step.name, keep=True, answer=self._occasion.id, again=step.repeats_undo)
                self._note("done late", step.name, wire_name(message), self._occasion.id)
            case "undone" | "failed" | "dropped":
                self._give_back(step, message)
            case "undo_skipped" if not record.answer:
                self._give_back(step, message)
            case "skipped":
                self._set(step.name, state=DONE, answer=self._occasion.id)
                self._note("done late", step.name, wire_name(message), self._occasion.id)
            case _:
                pass

    def _unasked(self, step: Step, message: Message) -> None:
        """An answer to a step that was not reached: kept where somebody else causes it, undone where it is not wanted any more."""
        if step.send is not None:
            return
        if self.back is not None and self.started_at:
            self._give_back(step, message)
        elif (self.started_at or step.stage == 0) and all(each.name != wire_name(message) for each in self.early):
            self.early = (*self.early, Early(wire_name(message), msgspec.Raw(self.saga.encode_case(message)), self._occasion.id))
            self._note("early", step.name, wire_name(message), self._occasion.id)

    def _give_back(self, step: Step, message: Message) -> None:
        """A success that is not wanted any more."""
        if step.undo is None:
            return
        self._set(step.name, state=DONE, answer=self._occasion.id)
        self._note("done late", step.name, wire_name(message), self._occasion.id)
        self.ended = ""
        self._unwind()

    def _failed(self, step: Step, record: StepRecord, message: Message) -> None:
        match record.state:
            case "":
                if self.back is None:
                    self._unasked(step, message)
            case "sent":
                self._learn(step, message, back=True)
                record = self.steps[step.name]
                self._note("failed", step.name, wire_name(message), self._occasion.id)
                if step.behind:
                    self._pause(step, record, PAUSED, answer=self._occasion.id)
                    return
                self._set(step.name, state=FAILED, answer=self._occasion.id)
                cause = Cause("failed", step.name, wire_name(message), detail_of(message))
                self._turn(cause) if self.back is None else self._unwind()
            case "doubt":
                self._learn(step, message, back=True)
                self._set(step.name, state=FAILED, answer=self._occasion.id)
                self._note("failed late", step.name, wire_name(message), self._occasion.id)
                self._unwind()
            case "undoing" | "undo_paused":  # it never happened, so there is nothing to undo
                self._learn(step, message, back=True)
                self._set(step.name, state=STEP_UNDONE, undo_answer=self._occasion.id)
                self._note("undone", step.name, wire_name(message), self._occasion.id)
                self._unwind()
            case _:
                pass

    def _given_up(self, step: Step, record: StepRecord, message: Message) -> None:
        """It is not wanted any more, whether it happens or not."""
        if record.state not in {SENT, PAUSED} or step.behind:
            return
        self._learn(step, message, back=True)
        self._set(step.name, state=DOUBT if step.send is not None else DROPPED)
        self._note("given up", step.name, wire_name(message), self._occasion.id)
        cause = Cause("failed", step.name, wire_name(message), detail_of(message))
        self._turn(cause) if self.back is None else self._unwind()

    def _undone(self, step: Step, record: StepRecord, message: Message) -> None:
        if record.state not in {UNDOING, UNDO_PAUSED}:
            return
        self._note("undone", step.name, wire_name(message), self._occasion.id)
        if record.again:
            self._send_undo(step, changed(record, again=False, undo_answer=self._occasion.id), attempts=1)
            return
        self._learn(step, message, back=True)
        self._set(step.name, state=STEP_UNDONE, undo_answer=self._occasion.id)
        self._unwind()

    def _undo_failed(self, step: Step, record: StepRecord, message: Message) -> None:
        if record.state == UNDOING and not record.stuck:
            self._note("undo refused", step.name, wire_name(message), self._occasion.id)
            self._pause(step, record, UNDO_PAUSED, undo_answer=self._occasion.id)

    def _kept(self, step: Step, record: StepRecord, message: Message) -> None:
        """What the step did stays, whatever is wanted."""
        if self.ended or record.state not in {SENT, DONE, DOUBT, UNDOING, UNDO_PAUSED}:
            return
        self._set(step.name, state=KEPT, answer=record.answer, undo_answer=self._occasion.id)
        self._note("kept", step.name, wire_name(message), self._occasion.id)
        if self.back is None:
            self._forward()
        elif self.back.reason == "cancelled" or self._disproves(self.back.step, step, message) or self._passes_pivot(message):
            self._resume(step, message)
            self._forward()
        else:
            self._unwind()

    def _disproves(self, failed: str, kept: Step, message: Message) -> bool:
        """Return whether it is just what was given up that has happened after all."""
        return failed == kept.name or type(message) in self._table.by_name[failed].done

    def _passes_pivot(self, message: Message) -> bool:
        """Return whether a message means that there is no way back, whatever has gone wrong before."""
        pivot = self._table.pivot
        return pivot is not None and type(message) in pivot.done

    # Forward

    def _go_on(self) -> None:
        self._forward() if self.back is None else self._unwind()

    def _forward(self) -> None:
        """Enter what comes next, as far as the steps before are behind; what needs no answer is passed at once."""
        for stage in self._table.stages:
            for step in stage:
                if step.name not in self.steps:
                    self._enter(step)
            if self.back is not None or self.ended:
                return  # an answer that was waiting has decided
            if any(self.steps[step.name].state not in FORWARD for step in stage):
                return
        self.ended = COMPLETED
        self._note("completed")
        if self.saga.completed is not None:
            self.items += items_of(self.saga.completed(self.case))

    def _enter(self, step: Step) -> None:
        if step.needed is not None and not step.needed(self.case):
            self._set(step.name, state=PASSED)
            self._note("passed", step.name)
            return
        if step.send is not None:
            self._send(step, attempts=1)
            return
        deadline = self._occasion.now + step.retry.wait(step.timeout, 1) if step.timeout is not None else 0
        self.steps[step.name] = StepRecord(SENT, 1, deadline)
        self._note("waiting", step.name)
        for early in self.early:
            if self._table.names[early.name] in (*step.done, *step.failed):
                self._take_early(step, early)
                return

    def _take_early(self, step: Step, early: Early) -> None:
        """Settle a step by the answer that came before it was reached."""
        self.early = tuple(each for each in self.early if each is not early)
        message = self._early_message(early)
        if type(message) in step.done:
            self._learn(step, message)
            self.steps[step.name] = StepRecord(DONE, 1, answer=early.id)
            self._note("done", step.name, early.name, early.id)
        elif step.behind:
            self._pause(step, self.steps[step.name], PAUSED, answer=early.id)
        else:
            self.steps[step.name] = StepRecord(FAILED, 1, answer=early.id)
            self._note("failed", step.name, early.name, early.id)
            self._turn(Cause("failed", step.name, early.name, detail_of(message)))

    def _resume(self, last: Step, message: Message) -> None:
        """End a cancel: what comes behind the step that stays is asked for again."""
        if self.back is not None and self.back.reason == "cancelled":
            self._refuse(message)
        self.back = None
        later = {step.name for step in self._table.by_name.values() if step.stage > last.stage}
        self.steps = {n: r for n, r in self.steps.items() if n not in later or r.state in {SENT, *FORWARD}}

    # Back

    def _turn(self, cause: Cause) -> None:
        self.back = cause
        if not self.started_at:
            return
        early, self.early = self.early, ()
        for each in early:
            message = self._early_message(each)
            for claim in self._table.claims[type(message)]:
                if claim.role == "done" and claim.step.name not in self.steps:
                    self._give_back(claim.step, message)
        self._unwind()

    def _early_message(self, early: Early) -> Message:
        return msgspec.json.decode(early.data, type=self._table.names[early.name])

    def _unwind(self) -> None:
        """Undo what is to be undone next, from the last stage on; say so when nothing is left."""
        for stage in reversed(self._table.stages):
            settled = [self._is_settled(step) for step in stage]  # all of a stage are undone at once
            if not all(settled):
                return
        self.ended = UNDONE
        self._note("undone")
        if not self.told and self.saga.undone is not None:
            self.items += items_of(self.saga.undone(self.case, self._summary()))
        self.told = True

    def _is_settled(self, step: Step) -> bool:
        """Return whether nothing of a step is left to undo; begin to undo what is."""
        record = self.steps.get(step.name, NOWHERE)
        match record.state:
            case "sent" | "paused" if step.send is None:
                self._set(step.name, state=DROPPED)
                return True
            case "" if step.undo_anyway and self.back is not None and self.back.reason == "cancelled":
                self._send_undo(step, record, attempts=1)
                return self.steps[step.name].state == STEP_UNDONE
            case "sent" | "paused" if step.interrupt and step.undo is not None:
                self._send_undo(step, record, attempts=1)
                return self.steps[step.name].state == STEP_UNDONE
            case "sent" | "paused" | "undoing" | "undo_paused":
                return False
            case "kept" if step.undo is not None:
                self._set(step.name, keep=True, stuck=True)
                return False
            case "done" | "doubt" if step.undo is not None:
                self._send_undo(step, record, attempts=1)
                return self.steps[step.name].state == STEP_UNDONE
            case _:
                return True

    def _no_way_back(self) -> bool:
        pivot = self._table.pivot
        passed = pivot is not None and self.steps.get(pivot.name, NOWHERE).state in FORWARD
        return passed or any(record.state == KEPT for record in self.steps.values())

    # Time

    def _overdue(self, step: Step, record: StepRecord) -> None:
        match record.state:
            case "sent" if self.back is not None and (step.undo is not None or not step.pivot):
                self._set(step.name, state=DOUBT)
                self._note("in doubt", step.name)
            case "sent" if record.attempts < step.retry.attempts:
                self._again(step, record)
            case "sent":
                self._give_up(step)
            case "paused":
                self._again(step, record)
            case "undoing" if record.attempts >= step.undo_retry.attempts:
                self._stick(step)
            case "undoing" | "undo_paused":
                self._send_undo(step, record, attempts=record.attempts + 1)
            case _:
                self._set(step.name, keep=True)

    def _again(self, step: Step, record: StepRecord) -> None:
        """Send the command again; where there is none, wait on."""
        if step.send is None:
            self._note("waiting on", step.name)
        self._send(step, attempts=record.attempts + 1)

    def _give_up(self, step: Step) -> None:
        """No answer came to any attempt."""
        if step.behind or (step.pivot and step.send is not None and step.undo is None):
            self._stick(step)
            return
        self._set(step.name, state=DOUBT if step.send is not None else DROPPED)
        self._note("no answer", step.name)
        if self.back is None:
            self.back = Cause("timeout", step.name)


__all__ = ["Advance", "Course", "Occasion", "advance", "advance_deadline"]
