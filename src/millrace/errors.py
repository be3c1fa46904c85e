"""The one tree of errors, grouped by what the caller does next.

    MillraceError
      ConfigurationError        fix the configuration or the code, then start again
        UnknownMessage            a type that nobody here handles, or a name that nobody declared
        InvalidEdit               the data of an edited message do not fit its class; `field` names where
        OtherClock                the installation has another kind of clock than this process
      Fatal                     nothing can be handled like this: the processor stops and keeps the message; fix code or configuration
      Rejected                  a business answer: tell the asker, do not retry
      Transient                 try the message again later: what it needs is not there just now
      Poison                    inspect the message: it can never be handled, so it lies in the dead letters
      ConsumerRefused           what an operator wants does not fit the consumer's state: do what the message says first
      LetterRefused             what an operator wants does not fit the dead letter: look at it again
      ClockRefused              the clock cannot be moved like that: ask for something else
      VersionConflict           somebody else was faster: load again, decide again
      IdempotencyConflict       the same key with another request: fix the request
      PositionUnknown           a position of another installation or epoch: ask again without it
      DecodeError               inspect the bytes: they are in the dead letters
      Overloaded                retry later: the queue in front of the writer is full
      StoreUnavailable          retry when the file, disk or server is well again
        Conflict                  another transaction was faster: do the same work again, at once
      Recovery                  stop: one side was restored or replaced, an operator decides

`NotYet` is no error but a control signal: the message waits for another message of its key.
Neighbours: everything may raise these; this module imports nothing of the toolkit.
"""

from __future__ import annotations

from datetime import timedelta


class MillraceError(Exception):
    """Everything the toolkit raises on purpose."""


class ConfigurationError(MillraceError):
    """A setting, declaration or combination that cannot work; the message names it and what is allowed."""


class UnknownMessage(ConfigurationError):
    """No service of this application declares or handles the named message."""


class InvalidEdit(ConfigurationError):
    """The data of an edited message do not fit its class; nothing has changed."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class OtherClock(ConfigurationError):
    """The installation has another kind of clock than this process, which would date facts otherwise."""


class Rejected(MillraceError):
    """A business refusal with a stable reason; an answer, never a dead letter.

    Args:
        reason: snake_case word that clients may match on.
        detail: values that explain it, encodable as JSON.
    """

    def __init__(self, reason: str, /, **detail: object) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class Transient(MillraceError):
    """Raised by a handler: what it needs is not there just now, so the message is to be tried again later."""


class Poison(MillraceError):
    """Raised by a handler: this message can never be handled; it becomes a dead letter at this try."""


class Fatal(MillraceError):
    """Raised by a handler: no message can be handled before code or configuration are mended.

    The processor stops with this message as the reason and keeps the message in hand, which is tried first after `consumers start`.
    """


class ConsumerRefused(MillraceError):
    """What is wanted of a consumer does not fit what it is: resumed though stopped, say; nothing has changed."""


class LetterRefused(MillraceError):
    """What is wanted of a dead letter does not fit what it is: it was handled meanwhile, say; nothing has changed."""


class ClockRefused(MillraceError):
    """A clock cannot be moved as was wanted; nothing has happened.

    `reason` is one of: not_virtual, backwards, too_far, unclear.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class VersionConflict(MillraceError):
    """The stream is not at the version that the caller expected."""

    def __init__(self, stream: str, *, expected: int, found: int) -> None:
        super().__init__(f"stream {stream!r} is at version {found}, expected {expected}; load it again and decide again")
        self.stream = stream
        self.expected = expected
        self.found = found


class IdempotencyConflict(MillraceError):
    """An idempotency key was used before with another request."""

    def __init__(self, scope: str, key: str) -> None:
        super().__init__(f"idempotency key {key!r} of {scope!r} was used before with another request; use a new key")
        self.scope = scope
        self.key = key


class PositionUnknown(MillraceError):
    """A position names a source, epoch or topic that this installation does not have."""


class DecodeError(MillraceError):
    """Bytes that are no record of this application; `reason` is one of the words in `serialization`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Overloaded(MillraceError):
    """The bounded queue in front of a service's writer is full; nothing was done.

    `retry_after` is in seconds.
    """

    def __init__(self, service: str, *, waiting: int, retry_after: float = 1.0) -> None:
        super().__init__(f"service {service!r} has {waiting} commands waiting; try again in {retry_after:g} s")
        self.service = service
        self.retry_after = retry_after


class StoreUnavailable(MillraceError):
    """A store or log cannot be used now.

    `reason` is one of: locked, read_only, full, corrupt, newer_version, network_file_system, unreachable, not_ours, rebuilding, conflict,
    unfinished;
    and for who only looks: absent, lost, older_version.
    """

    def __init__(self, name: str, *, reason: str, detail: str) -> None:
        super().__init__(f"{name}: {reason.replace('_', ' ')}: {detail}")
        self.name = name
        self.reason = reason
        self.detail = detail


class Conflict(StoreUnavailable):
    """Another transaction has changed what this one had read; nothing of it has happened, and the same work may be done again.

    The writer of a service does that by itself, so callers see this only where others are faster every time.
    """

    def __init__(self, name: str, *, detail: str) -> None:
        super().__init__(name, reason="conflict", detail=detail)


class Recovery(MillraceError):
    """Store and log do not belong together any more (one was restored or replaced)."""


class NotYet(BaseException):
    """Raised by a handler or view: what this message needs has not arrived.

    The message waits, later messages of its (topic, key) wait behind it, and it is tried again when another
    message of its key arrives. Derives from BaseException so that no `except Exception` in a handler swallows it.

    Args:
        reason: what is being waited for; shown to operators.
        deadline: how long it may wait before it becomes a dead letter.
    """

    def __init__(self, reason: str, *, deadline: timedelta = timedelta(minutes=5)) -> None:
        super().__init__(reason)
        self.reason = reason
        self.deadline = deadline
