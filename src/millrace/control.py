"""The control topic: how an operator's wish reaches every running instance at once, and who did not answer.

A wish is durable in its service's store before anybody is called (`consumer_state`), so a call that is lost is late, never forgotten:
every instance looks at the store by itself once a second. What the topic adds is an answer. An instance answers when what it was told is
true of it: the turn in hand has ended, partitions are given up or claimed anew. One that does not run the service answers that it does not.

Who has to answer is what the leases say, asked again and again while one waits: an instance that dies or leaves needs not answer, and one
that starts meanwhile reads the wish at its start.

Records are of the toolkit alone, no CloudEvents; they are kept for an hour. A process follows the topic from its start.

Neighbours: `application` runs a `Control` per process; `consumers` calls.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import msgspec

from millrace.errors import StoreUnavailable
from millrace.following import Follower
from millrace.ports import LogParts, TopicSpec

CONTROL = TopicSpec("internal.control", partitions=1, retention_s=3600)
LOOK_S = 0.25
"""How often it is asked who is there while answers are missing."""
AGAIN_S = 1.0

log = logging.getLogger("millrace")


class Call(msgspec.Struct, frozen=True, tag="call"):
    """Look at what is wanted of a processor; with `renew`, its positions were moved. `timekeeping` calls for the clock."""

    id: str
    service: str
    processor: str
    renew: bool = False


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """What is true of an instance now: `state` is None where the processor does not run, `error` says why it could not obey."""

    id: str
    instance: str
    state: str | None = None
    error: str = ""


class InstanceAnswers(msgspec.Struct, frozen=True):
    """Instances that obeyed, that did not answer in time, and that could not obey, with their reasons."""

    answered: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    failed: dict[str, str] = {}

    @property
    def complete(self) -> bool:
        """Return whether every running instance obeyed."""
        return not (self.silent or self.failed)


Members = Callable[[], Awaitable[frozenset[str]]]
Obey = Callable[[Call], Awaitable[str | None]]


class Control:
    """Answers calls, one per process.

    Args:
        parts: the log.
        instance: the name of this process among its leases.
        obey: does what is wanted, and returns what is true then.
    """

    def __init__(self, parts: LogParts, instance: str, *, obey: Obey) -> None:
        self._parts = parts
        self._instance = instance
        self._obey = obey
        self._topic = _follow(parts)
        self._following = asyncio.create_task(self._follow(), name="control")
        self._answering: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """Follow no more; what is being obeyed goes on without an answer."""
        tasks = {self._following, *self._answering}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._topic.close()

    async def _follow(self) -> None:
        while True:
            try:
                for each in await self._topic.next():
                    if isinstance(each, Call):
                        self._begin(each)
            except StoreUnavailable as error:
                log.debug("following the control topic: %s", error)
                await asyncio.sleep(AGAIN_S)
            except Exception:
                log.exception("following the control topic failed; trying again")
                await asyncio.sleep(AGAIN_S)

    def _begin(self, call: Call) -> None:
        task = asyncio.create_task(self._answer(call), name=f"obey {call.service}.{call.processor}")
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, call: Call) -> None:
        try:
            answer = Answer(call.id, self._instance, await self._obey(call))
        except Exception as error:  # noqa: BLE001  # whatever stands in the way is the answer
            answer = Answer(call.id, self._instance, error=f"{type(error).__name__}: {error}")
        try:
            await _put(self._parts, call.id, answer)
        except StoreUnavailable as error:
            log.warning("a call to %s.%s was obeyed, the answer cannot be written: %s", call.service, call.processor, error)


async def call(parts: LogParts, members: Members, order: Call, *, timeout: float) -> InstanceAnswers:  # as `Application.wait_for`
    """Call every running instance and wait for its answer, for at most `timeout` seconds.

    Raises:
        StoreUnavailable: the log cannot be used; what is wanted was stored before and will be found.
    """
    topic, until, answers = _follow(parts), time.monotonic() + timeout, dict[str, Answer]()
    try:
        if silent := await members():
            await _put(parts, order.id, order)
        while silent and time.monotonic() < until:
            for each in await topic.next(min(LOOK_S, timeout)):
                if isinstance(each, Answer) and each.id == order.id:
                    answers[each.instance] = each
            silent = await members() - answers.keys()
    finally:
        topic.close()
    failed = {name: answer.error for name, answer in answers.items() if answer.error}
    return InstanceAnswers(tuple(sorted(answers.keys() - failed.keys())), tuple(sorted(silent)), failed)


def _follow(parts: LogParts) -> Follower[Call | Answer]:
    return Follower(parts, CONTROL.name, read=_read)


async def _put(parts: LogParts, key: str, record: Call | Answer) -> None:
    await parts.administration.put(CONTROL.name, [(key, msgspec.json.encode(record))])


def _read(value: bytes) -> Call | Answer | None:
    """Return what a record says; what nobody here understands is not for this release."""
    try:
        return msgspec.json.decode(value, type=Call | Answer)
    except msgspec.MsgspecError:
        return None


__all__ = ["CONTROL", "Call", "Control", "InstanceAnswers", "Members", "call"]
