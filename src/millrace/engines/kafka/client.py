"""How this process talks to the brokers: librdkafka's configuration, answers awaited on the event loop, errors in our words.

librdkafka reports wrong credentials and certificates by no exception, only to `error_cb`; without it a wrong password looks like a
silent network. `Client` keeps the last report, and every wait ends with it.

Neighbours: all of this engine; only here and in the threads of `fetcher`, `producer` and `leases` a client of confluent-kafka is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from millrace.engines.kafka.asking import Asker, Ended
from millrace.engines.kafka.driver import READ_COMMITTED, AdminClient, Codes, Failure, KafkaException, failure_of
from millrace.engines.kafka.settings import KafkaSettings
from millrace.errors import ConfigurationError, StoreUnavailable

ANSWER_S = 10.0
LONGEST_S = 3600.0
"""The most time that the library can be told to give an answer."""
LEADER_S = 5.0
"""How long a partition may be without a leader before whoever asks is told."""
REFUSED_S = 0.5
"""How long a refusal of credentials is given to be taken back: one broker may know a new password later than another."""
TOPICS_S = 1.0
UNKNOWN_S = 1.0
"""How long a broker may not know a topic that another one has just made."""
DOWN_S = 3.0
"""How long all brokers may be away before whoever waits is told."""
DESCRIBE = "DESCRIBE on topic {}, which READ and WRITE bring with them"
RECORD_MAX = 4 << 20
"""What a client sends and takes at most; records above the toolkit's limit come from foreign producers."""

_FINAL = {Codes.AUTHENTICATION, Codes.SSL}
_REFUSALS = {Codes.TOPIC_REFUSED, Codes.GROUP_REFUSED, Codes.CLUSTER_REFUSED, Codes.TRANSACTION_REFUSED}
_UNAUTHORIZED = _FINAL | _REFUSALS | {Codes.SASL_FAILED}
_OVERSIZED = {Codes.TOO_LARGE, Codes.BATCH_TOO_LARGE}
_ABSENT = {Codes.UNKNOWN_TOPIC, Codes.UNKNOWN_TOPIC_HERE, Codes.UNKNOWN_PARTITION}
_LEADERLESS = {
    Codes.NO_LEADER,
    Codes.NOT_LEADER,
    Codes.NO_ENTRY,
    Codes.STORAGE,
    Codes.NEW_EPOCH,
    Codes.OLD_EPOCH,
    Codes.NO_REPLICA,
}
_TOO_FEW = {Codes.TOO_FEW, Codes.TOO_FEW_AFTER}
_SILENT = {Codes.TIMED_OUT, Codes.TRANSPORT, Codes.ALL_BROKERS_DOWN}


class Client:
    """The brokers, as seen from this process.

    Args:
        settings: where they are.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        self.name = f"kafka {settings.brokers}"
        self._asker: Asker | None = None
        self._asker_of_groups: Asker | None = None
        self._lock = threading.Lock()
        self._refused: Failure | None = None
        self._trouble = ""
        self._down_since = 0.0

    def configuration(self, **changes: Any) -> dict[str, Any]:
        """Return the configuration of a client of librdkafka; names with `_` for `.`."""
        ours = {
            "bootstrap.servers": self.settings.brokers,
            "error_cb": _weak(self._note),
            "log_level": 0,  # it would print a line for every attempt; what matters comes to error_cb
            "socket.keepalive.enable": True,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 2000,
        }
        return ours | {name.replace("_", "."): value for name, value in changes.items()} | dict(self.settings.properties)

    def made(self, kind: Any, **changes: Any) -> Any:
        """Return a client of librdkafka of a kind.

        Raises:
            ConfigurationError: a property is wrong; the message names it, never a value.
        """
        try:
            return kind(self.configuration(**changes))
        except KafkaException as error:
            found = failure_of(error)
            raise ConfigurationError(f"{self.name}: {self._said(found) if found else 'a client property is wrong'}") from None

    @property
    def admin(self) -> Any:
        """Return the client for questions, made at the first. It lasts as long as this object, or to its `close`."""
        return self._asking().client

    def _asking(self) -> Asker:
        with self._lock:
            if self._asker is None:
                self._asker = self._new_asker()
            return self._asker

    def _new_asker(self) -> Asker:
        return Asker(self.made(AdminClient, client_id="millrace"), owner=self)

    def close(self) -> None:
        """End the clients for questions; a later question makes a new one."""
        with self._lock:
            askers = [asker for asker in (self._asker, self._asker_of_groups) if asker is not None]
            self._asker = self._asker_of_groups = None
        for asker in askers:
            asker.retire()

    def _said(self, failure: Failure) -> str:
        return self.settings.without_secrets(failure.str())

    def _note(self, error: Failure) -> None:
        """Remember what librdkafka reports, from whichever of its threads."""
        self._trouble = self._said(error)
        if error.code() in _FINAL:
            self._refused = error
        elif error.code() == Codes.ALL_BROKERS_DOWN:
            self._down_since = self._down_since or time.monotonic()

    def well(self) -> None:
        """Note that a broker has answered."""
        self._refused, self._trouble, self._down_since = None, "", 0.0

    def check(self, *, since: float = 0.0) -> None:
        """Say why nothing can come, where that is known.

        Args:
            since: when waiting began; brokers that went away before may have returned.

        Raises:
            StoreUnavailable: credentials or certificates were refused, or all brokers have been away for a while.
        """
        if self._refused is not None and time.monotonic() - since > REFUSED_S:
            raise self.unavailable(self._refused)
        if self._down_since and time.monotonic() - max(since, self._down_since) > DOWN_S:
            raise self.silent("all brokers are away")

    def silent(self, what: str) -> StoreUnavailable:
        """Return the error for an answer that did not come."""
        return StoreUnavailable(self.name, reason="unreachable", detail=f"{what}: {self._trouble or 'no answer'}; trying again")

    def unavailable(self, error: Failure | Exception, *, what: str = "", right: str = "") -> StoreUnavailable:
        """Return an error of librdkafka in our words.

        Args:
            error: what it reported.
            what: was attempted.
            right: which it takes, on what: named where it is what is missing.
        """
        found = failure_of(error) if isinstance(error, Exception) else error
        if found is None:
            return StoreUnavailable(self.name, reason="unreachable", detail=f"{what}: {type(error).__name__}")
        detail = f"{what}: {self._said(found)}" if what else self._said(found)
        if right and found.code() in _REFUSALS:
            detail += f"; {self.settings.principal} needs the right {right}"
        return StoreUnavailable(self.name, reason=reason_of(found.code()), detail=detail)

    async def answers(
        self, futures: Mapping[Any, Future[Any]], *, what: str, allowed: Iterable[int] = (), right: str = ""
    ) -> dict[Any, Any]:
        """Wait for answers.

        Args:
            futures: by what is asked for.
            what: is attempted, for errors.
            allowed: codes of failures that are no error; such answers are left out.
            right: which it takes, `{}` for what is asked for.

        Raises:
            StoreUnavailable: one failed otherwise, or none came.
        """
        waiting = {key: asyncio.ensure_future(asyncio.wrap_future(future)) for key, future in futures.items()}
        try:
            await self._await(list(waiting.values()), what)
            found: dict[Any, Any] = {}
            for key, task in waiting.items():
                error = task.exception()
                if error is None:
                    found[key] = task.result()
                elif (failure := failure_of(error)) is None or failure.code() not in set(allowed):
                    raise self._failed(error, f"{what} {key}".strip() if isinstance(key, str) else what, right.format(_name_of(key)))
        finally:
            for task in waiting.values():
                task.cancel()
            await asyncio.gather(*waiting.values(), return_exceptions=True)
        if found or not waiting:  # failures that are allowed may be the library's own words for a silent network
            self.well()
        return found

    async def ask_groups(
        self, ask: Callable[[Any], Mapping[Any, Future[Any]]], *, what: str, allowed: Iterable[int] = (), right: str = ""
    ) -> dict[Any, Any]:
        """Ask something that the coordinators of groups answer; see `answers`.

        librdkafka 2.16 ends the process by an assertion (`eonce->refcnt > 0`) when a request that it has given up finds its coordinator at
        last, and one whose coordinator went away may wait for ever though the broker is back. So it is never let give up, `ask` has to
        name `LONGEST_S`; and the client that did not answer in our time goes, with everything it waits for.

        Args:
            ask: takes the client to ask with, and returns the answers to come.
            what: as in `answers`.
            allowed: as in `answers`.
            right: as in `answers`.
        """
        asker = self._asker_of_groups = self._asker_of_groups or self._new_asker()
        with asker.asking() as asked:
            try:
                return await self.answers(ask(asked), what=what, allowed=allowed, right=right)
            except BaseException:
                if self._asker_of_groups is asker:
                    self._asker_of_groups = None
                asker.retire()
                raise

    async def call(self, ask: Callable[[Any], Any], *, what: str) -> Any:
        """Ask something that blocks, in a thread.

        Args:
            ask: takes the client to ask with.
            what: is attempted, for errors.

        Raises:
            StoreUnavailable: it failed, or nobody answers.
        """
        task = asyncio.ensure_future(asyncio.to_thread(_asked, self._asking(), ask))
        try:
            await self._await([task], what)
            found = task.result()
        except KafkaException as error:
            self.check()
            raise self.unavailable(error, what=what) from error
        except Ended:
            raise self.silent(what) from None
        finally:
            task.add_done_callback(_hear)
        self.well()
        return found

    async def cluster(self, *, what: str = "asking who the brokers are") -> Any:
        """Return what is known of the cluster: its id, its brokers by number, its topics by name.

        Not by the library's `describe_cluster`: that ends the process by an assertion where a broker knows of none that is alive, which
        one says of itself that was slow for longer than its session.

        Raises:
            StoreUnavailable: nobody answers.
        """
        return await self.call(lambda admin: admin.list_topics(timeout=ANSWER_S), what=what)

    async def offsets(self, asked: Mapping[Any, Any], *, refused: set[str] | None = None) -> dict[Any, int]:
        """Return an offset of each partition; those of topics that do not exist are left out. A leader that is just chosen is waited for.

        Args:
            asked: which offset of which partition.
            refused: takes the topics that we may not ask about, where the others are wanted all the same.

        Raises:
            StoreUnavailable: there is none for a while, or nobody answers, or we may not ask.
        """
        found: dict[Any, int] = {}
        left_out = _ABSENT if refused is None else _ABSENT | {Codes.TOPIC_REFUSED}
        began = time.monotonic()
        until = began + LEADER_S
        while missing := {place: which for place, which in asked.items() if place not in found}:
            late = time.monotonic() > until
            allowed = left_out | ({Codes.NO_ENTRY} if late else _LEADERLESS)
            futures = self.admin.list_offsets(missing, isolation_level=READ_COMMITTED)
            answers = await self.answers(futures, what="asking for offsets", allowed=allowed, right=DESCRIBE)
            found |= {place: answer.offset for place, answer in answers.items()}
            if refused is not None:
                refused.update(place.topic for place, future in futures.items() if _code_of(future) == Codes.TOPIC_REFUSED)
            absent = all(place in found or _code_of(future) in left_out for place, future in futures.items())
            if late or (absent and time.monotonic() > until - LEADER_S + UNKNOWN_S):
                break
            await asyncio.sleep(0.02)
            with contextlib.suppress(KafkaException, Ended):  # what it remembers of the topics may be older than the topic
                await asyncio.to_thread(_asked, self._asking(), lambda admin: admin.list_topics(timeout=TOPICS_S))
            self.check(since=began)
        return found

    async def _await(self, tasks: list[asyncio.Future[Any]], what: str) -> None:
        began = time.monotonic()
        while tasks:
            _, pending = await asyncio.wait(tasks, timeout=0.1)
            tasks = list(pending)
            if not tasks:
                return
            for asker in (self._asker, self._asker_of_groups):
                if asker is not None:
                    asker.client.poll(0)
            self.check(since=began)
            if time.monotonic() > began + ANSWER_S:
                raise self.silent(what)

    def _failed(self, error: BaseException, what: str, right: str) -> BaseException:
        found = failure_of(error)
        if found is None:
            return error
        if found.code() in _SILENT:
            try:
                self.check()
            except StoreUnavailable as known:
                return known
        return self.unavailable(found, what=what, right=right)


def _name_of(asked: Any) -> str:
    """Return the name of a topic or group, or that of the topic of a partition."""
    return asked if isinstance(asked, str) else str(getattr(asked, "topic", ""))


def _asked(asker: Asker, ask: Callable[[Any], Any]) -> Any:
    """Ask something that blocks."""
    with asker.asking() as client:
        return ask(client)


def _weak(method: Callable[[Failure], None]) -> Callable[[Failure], None]:
    """Return a function that calls a method as long as its object is there: clients of the library would keep it for ever."""
    reference = weakref.WeakMethod(method)

    def call(error: Failure) -> None:
        if (found := reference()) is not None:
            found(error)

    return call


def _hear(task: asyncio.Future[Any]) -> None:
    """Take the end of what nobody waits for any more."""
    if not task.cancelled():
        task.exception()


def _code_of(future: Future[Any]) -> int:
    failure = failure_of(future.exception())
    return failure.code() if failure is not None else 0


def reason_of(code: int) -> str:
    """Return the reason word of `StoreUnavailable` for a code of librdkafka."""
    for reason, codes in (("unauthorized", _UNAUTHORIZED), ("oversized", _OVERSIZED), ("absent", _ABSENT), ("too_few_replicas", _TOO_FEW)):
        if code in codes:
            return reason
    return "unreachable"


__all__ = ["ANSWER_S", "DESCRIBE", "LONGEST_S", "RECORD_MAX", "Client", "reason_of"]
