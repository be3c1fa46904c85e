"""Sagas on the loop: one more pattern, whose keyed state is the instance.

It reads every message of the tables it knows, finds the instance by its key, lets `saga_course` move it, and stages what comes of that: the
instance, its place in the index by status, its timer, and what is said - all in the transaction that also moves the read position.

    crash before the commit   nothing has happened; the message is read again and leads to the same
    crash after it            the instance is where it was, what it said is in the journal, its timer is armed

Versions: an instance runs under the definition it began with. Several may be registered; where its own is not, `migrate` of the newest
takes it over, and without that its message fails with an error that names the version, and is held like any other.

One timer per instance stands at its earliest deadline, and after its end at the moment when it is forgotten.

Neighbours: `service` makes one per saga; the runtime drives it; `sagas` stages operators' decisions by the same means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from millrace.clock import from_micros, to_micros
from millrace.delivery import Delivery
from millrace.errors import ConfigurationError
from millrace.message import Message
from millrace.ports import TimerRow
from millrace.processor import Mode
from millrace.saga import Saga, due_class, row_class
from millrace.saga_check import check_saga
from millrace.saga_course import Advance, Occasion, advance, advance_deadline
from millrace.saga_instance import SagaIndex, SagaInstance, StepRecord, index_key, index_value
from millrace.saga_progress import FORWARD, PASSED, next_deadline
from millrace.timers import Timer
from millrace.unit_of_work import UnitOfWork

TIMER = "deadline"


class SagaPattern:
    """The definitions of one saga.

    Args:
        saga: the newest; what starts is started under it.
        earlier: definitions under which instances may still run.

    Raises:
        ConfigurationError: a table cannot work, or two definitions do not belong together.
    """

    mode = Mode.PURE
    replayable = False
    missing = None
    quiet = ()

    def __init__(self, saga: Saga, earlier: Sequence[Saga] = ()) -> None:
        for each in (saga, *earlier):
            check_saga(each)
            if each.name != saga.name:
                raise ConfigurationError(f"saga {saga.name!r}: {each.name!r} is no earlier version of it")
        versions = [each.version for each in (saga, *earlier)]
        if len(set(versions)) != len(versions) or max(versions) != saga.version:
            raise ConfigurationError(f"saga {saga.name!r}: versions {versions}; each once, and those in earlier= below {saga.version}")
        self.name = saga.name
        self.saga = saga
        self.versions = {each.version: each for each in (saga, *earlier)}
        self.row = row_class(saga.name)
        self.due = due_class(saga.name)
        answers = dict.fromkeys(cls for each in (saga, *earlier) for cls in each.table.messages)
        self.messages: tuple[type[Message], ...] = (*answers, self.due)
        self._ids: dict[type[Message], Callable[[Any], str]] = {self.due: lambda message: message.id}
        for each in (*earlier, saga):
            self._ids.update(each.table.ids)

    def said(self) -> set[type[Message]]:
        """Return the classes of what it says, as far as annotations and `says` name them."""
        return {cls for saga in self.versions.values() for cls in saga.said}

    def wants(self, delivery: Delivery, work: UnitOfWork) -> None:
        """Name the instance."""
        id = delivery.keys = self._ids[type(delivery.message)](delivery.message)
        work.rows(self.row).wanted.add(id)

    def react(self, delivery: Delivery, work: UnitOfWork) -> None:
        """Move the instance and stage what comes of it."""
        rows = work.rows(self.row)
        id: str = delivery.keys
        if rows.broken:
            rows.check((id,))
        instance: SagaInstance | None = rows.values[id]
        message = delivery.message
        if type(message) is self.due:
            if instance is not None:
                self._fire(instance, delivery, work)
            return
        instance, saga = self.definition(instance)
        if type(message) not in saga.table.ids:
            return  # a message of another version
        occasion = Occasion(work.now_micros, delivery.id, delivery.correlation_id or id)
        self.stage(instance, advance(saga, instance, message, occasion=occasion), delivery=delivery, work=work)

    def _fire(self, instance: SagaInstance, delivery: Delivery, work: UnitOfWork) -> None:
        """Judge deadlines; an instance that has ended is forgotten."""
        before, passed = msgspec.structs.replace(instance, timer=0), to_micros(delivery.time)
        if instance.ended or not instance.started_at:
            if 0 < self._forgotten_at(instance) <= passed:
                self._forget(instance, work)
            else:
                self.stage(before, Advance(before), delivery=delivery, work=work, fired=instance)
            return
        before, saga = self.definition(before)
        after = advance_deadline(saga, before, Occasion(work.now_micros, passed=passed))
        self.stage(before, after, delivery=delivery, work=work, fired=instance)

    def _forgotten_at(self, instance: SagaInstance) -> int:
        """Return when an instance that has ended, or never began, is forgotten; 0: never."""
        kept = self.saga.kept_for
        return instance.changed_at + int(kept.total_seconds() * 1_000_000) if kept is not None else 0

    def definition(self, instance: SagaInstance | None) -> tuple[Any, Saga]:
        """Return the definition that an instance runs under, and the instance as that takes it.

        Raises:
            ConfigurationError: nobody registers its version, and nothing says how to migrate.
        """
        if instance is None or not instance.started_at:
            return instance, self.saga
        found = self.versions.get(instance.version)
        if found is not None:
            return instance, found
        if self.saga.migrate is None:
            raise ConfigurationError(
                f"saga {self.name!r}, instance {instance.id!r} began under version {instance.version}, and only "
                f"{sorted(self.versions)} are registered here; register it with earlier=[...], or say with migrate= how it goes on"
            )
        return self._migrated(instance), self.saga

    def _migrated(self, instance: SagaInstance) -> SagaInstance:
        """Return an instance of a version that is gone as one of the newest."""
        saga, table = self.saga, self.saga.table
        assert saga.migrate is not None  # noqa: S101  # looked at before
        case = saga.migrate(instance.version, msgspec.json.decode(instance.case))
        steps = {name: record for name, record in instance.steps.items() if name in table.by_name}
        if lost := [n for n, r in instance.steps.items() if n not in steps and r.state in {"sent", "paused", "undoing", "undo_paused"}]:
            raise ConfigurationError(
                f"saga {self.name!r}, instance {instance.id!r} of version {instance.version} is in the midst of {lost}, "
                f"which version {saga.version} does not have; keep these steps, or register the version with earlier=[...]"
            )
        reached = max((table.by_name[name].stage for name in steps), default=-1)
        inserted = {step.name: StepRecord(PASSED) for step in saga.steps if step.stage < reached and step.name not in steps}
        if instance.back is None and not any(record.state not in FORWARD for record in steps.values()):
            inserted |= {s.name: StepRecord(PASSED) for s in saga.steps if s.stage == reached and s.name not in steps}
        return msgspec.structs.replace(
            instance, version=saga.version, case=msgspec.Raw(saga.encode_case(case)), steps={**inserted, **steps}
        )

    def stage(
        self, before: SagaInstance | None, after: Advance, *, delivery: Delivery, work: UnitOfWork, fired: SagaInstance | None = None
    ) -> None:
        """Stage an instance with its index, its timer and what it says; nothing is staged when something of it cannot be encoded."""
        instance = after.instance
        if instance is None or (instance is before and fired is None):
            return
        instance, timer = self._timed(instance, delivery, work)
        row = instance if type(instance) is self.row else self.row(**{n: getattr(instance, n) for n in SagaInstance.__struct_fields__})
        last = fired or before
        old, new = last.status if last is not None else "", row.status
        work.stage([row, *after.items], delivery, processor=self.name)
        if timer is not None:
            work.put_timer(row.id, TIMER, timer, processor=self.name)
        if old != new:
            self._index(row.id, old, new, work)

    def _index(self, id: str, old: str, new: str, work: UnitOfWork) -> None:
        index = work.rows(SagaIndex)
        if old:
            index.dirty[index_key(self.name, old, id)] = b""
        if new:
            index.dirty[index_key(self.name, new, id)] = index_value(work.now_micros)

    def _timed(self, instance: SagaInstance, delivery: Delivery, work: UnitOfWork) -> tuple[SagaInstance, TimerRow | None]:
        """Return the instance with the time at which its timer fires, and the timer if it has to be set anew."""
        if instance.ended or not instance.started_at:
            due = self._forgotten_at(instance)
        else:
            due = next_deadline(instance.steps.values())
            if not due or 0 < instance.timer <= due:
                return instance, None  # an earlier one finds out when it fires
        if due == instance.timer or not due:
            return instance, None
        return msgspec.structs.replace(instance, timer=due), self._timer(instance, due, delivery, work)

    def _timer(self, instance: SagaInstance, due: int, delivery: Delivery, work: UnitOfWork) -> TimerRow:
        timer = Timer(TIMER, self.due(id=instance.id), at=from_micros(due), event_time=True)
        row = work.timer_row(timer, delivery, processor=self.name)
        row.key = instance.id  # which a message of another key may name
        return row

    def _forget(self, instance: SagaInstance, work: UnitOfWork) -> None:
        rows = work.rows(self.row)
        rows.values[instance.id] = None
        rows.dirty[instance.id] = b""
        self._index(instance.id, instance.status, "", work)

    async def call(self, delivery: Delivery, work: UnitOfWork | None) -> Any:
        """Not for sagas."""
        raise NotImplementedError(self.name)
