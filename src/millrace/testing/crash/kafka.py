"""Listens to the Kafka engine of this process: every record that the brokers have acknowledged.

The library's producer is compiled, so nothing of it can be replaced; the engine gets another one instead, which hands records on to it in
their order. Records to one partition that wait together are one step: they are handed on when no other commit is under way, and the next
ones when all of them are acknowledged. So an append to three partitions is three steps or more, and a process that dies between two of
them leaves a part of it, as the brokers may at any time. The acknowledgement is told before whoever appended hears of it.

A record that is appended without waiting is a step as any other. The offsets of groups are not heard: they are written for tools.

Neighbours: `tracing` calls `listen` where the library is installed; `counting` counts; `naming` names.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from millrace.engines.kafka import producer as engine
from millrace.engines.kafka.driver import Failure, KafkaException, failure_of
from millrace.engines.kafka.relaying import MARKS
from millrace.engines.kafka.settings import INTERNAL
from millrace.testing.crash.counting import PATIENCE_S, Counter
from millrace.testing.crash.naming import fact_in

FULL_S = 0.005
"""How long to wait where the library's own queue is full."""

Acknowledged = Callable[[Failure | None, Any], None]


def listen(counter: Counter) -> None:
    """Hear every producer that is made from now on."""
    make = engine.Producer

    def make_heard(configuration: Mapping[str, Any]) -> HeardProducer:
        return HeardProducer(make(configuration), counter, service=configuration["client.id"])

    engine.Producer = make_heard


class Record(NamedTuple):
    """A record as it was handed in; stands for itself where the library refuses it."""

    place: tuple[str, int]
    value: bytes
    key: bytes | None
    options: dict[str, Any]
    on_delivery: Acknowledged | None

    def topic(self) -> str:
        """Return the topic."""
        return self.place[0]

    def partition(self) -> int:
        """Return the partition."""
        return self.place[1]


class Answer(NamedTuple):
    """What came of a record."""

    record: Record
    error: Failure | None
    message: Any


class HeardProducer:
    """What the engine uses of a producer.

    Args:
        producer: the library's.
        counter: is told.
        service: who appends.
    """

    def __init__(self, producer: Any, counter: Counter, *, service: str) -> None:
        self._producer = producer
        self._counter = counter
        self._service = service
        self._changed = threading.Condition()
        self._waiting: deque[Record] = deque()
        self._under_way = 0
        threading.Thread(target=self._run, name="kafka steps", daemon=True).start()

    def produce(self, *record: Any, on_delivery: Acknowledged | None = None, **options: Any) -> None:
        """Take topic, value, key and partition of a record; it follows those that were taken before."""
        topic, value, key, partition = record
        with self._changed:
            self._waiting.append(Record((topic, partition), value, key, options, on_delivery))
            self._changed.notify_all()

    def poll(self, timeout: float) -> int:
        """Hear what the brokers say."""
        return self._producer.poll(timeout)

    def purge(self) -> None:
        """Forget what has not been sent."""
        with self._changed:
            self._waiting.clear()
        self._producer.purge()

    def __len__(self) -> int:
        """Return how many are not acknowledged."""
        return len(self._waiting) + self._under_way

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
            self._counter.enter(self._service)
            answers = self._append(self._next())
            self._counter.leave(self._service, (_operation(answer.record) for answer in answers if answer.error is None))
            for answer in answers:
                if answer.record.on_delivery is not None:
                    answer.record.on_delivery(answer.error, answer.message)

    def _next(self) -> list[Record]:
        """Return the next records, all to one partition; none where they were forgotten meanwhile."""
        found: list[Record] = []
        with self._changed:
            while self._waiting and (not found or self._waiting[0].place == found[0].place):
                found.append(self._waiting.popleft())
            self._under_way = len(found)
        return found

    def _append(self, records: list[Record]) -> list[Answer]:
        """Hand records on, and return what became of them when that is known of all; an answer that comes later is not told."""
        answers: list[Answer] = []
        for record in records:
            self._hand_on(record, answers)
        with self._changed:
            self._changed.wait_for(lambda: len(answers) == len(records), PATIENCE_S)
            self._under_way = 0
            return list(answers)

    def _hand_on(self, record: Record, answers: list[Answer]) -> None:
        def answered(error: Failure | None, message: Any) -> None:
            with self._changed:
                answers.append(Answer(record, error, message))
                self._changed.notify_all()

        while True:
            try:
                self._producer.produce(record.topic(), record.value, record.key, record.partition(), on_delivery=answered, **record.options)
            except BufferError:
                with self._changed:
                    self._changed.wait(FULL_S)
            except KafkaException as error:
                answered(failure_of(error), record)
                return
            else:
                return


def _operation(record: Record) -> str:
    verb = "mark" if record.topic().endswith(f"{INTERNAL}{MARKS}") else "publish"
    return f"{verb} {fact_in(record.value)}"
