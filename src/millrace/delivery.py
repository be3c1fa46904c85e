"""A message in hand: what a function may know about it (`Context`), and the runtime's richer view of the same object (`Delivery`).

Neighbours: `intake` makes deliveries, patterns read them, `unit_of_work` takes cause and conversation from them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from millrace.message import Message
from millrace.serialization import Envelope


class Context:
    """What is known about the message in hand.

    Attributes:
        key: the key it is handled under.
        now: the injected clock's time, aware UTC; the same for all messages of a work item.
        attempt: 1 for the first try.
    """

    # Made once per message: plain attributes with class-level defaults cost less than a constructor with keywords.
    envelope: Envelope
    key: str = ""
    now: datetime
    attempt: int = 1

    @property
    def id(self) -> str:
        """The message's id; stable over repeats, so it serves as idempotency key towards the outside world."""
        return self.envelope.id

    @property
    def source(self) -> str:
        """Who said it."""
        return self.envelope.source

    @property
    def time(self) -> datetime:
        """When the message happened (business time), aware UTC."""
        text = self.envelope.time
        if not text:
            return self.now
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)

    @property
    def correlation_id(self) -> str:
        """The conversation it belongs to."""
        return self.envelope.correlationid

    @property
    def causation_id(self) -> str:
        """The id of its direct cause."""
        return self.envelope.causationid

    @classmethod
    def example(cls, *, now: datetime, key: str = "", attempt: int = 1, **attributes: str) -> Context:
        """Return a context for tests and tools.

        Args:
            now: the clock's time, aware.
            key: the key it is handled under.
            attempt: which try it is.
            attributes: CloudEvents attributes of the message (`id`, `source`, `time`, `correlationid`, `causationid` ...).
        """
        context = cls()
        context.envelope = Envelope("", "", "")
        for name, value in attributes.items():
            setattr(context.envelope, name, value)
        context.key, context.now, context.attempt = key, now, attempt
        return context


class Delivery(Context):
    """A message on its way through a processor, with where it came from.

    Attributes:
        message: the decoded message; absent when it could not be read.
        topic, partition, offset, value: the record.
        internal: what messages made from this one name as their cause is not this message, but its own cause.
        pattern: who handles it; None for a record that cannot be read (then `result` is (reason, detail)).
        result: what an async function returned or raised.
        keys: what a pure handler's selectors named for it.
        origin: "source@epoch" of a publication by a relay, empty for foreign producers.
        sequence: journal position at the origin.
        claim: what a record that no relay of ours appended says of itself: ("source@epoch", sequence).
        repeated: a foreign record that was handled before, or one to be delivered again that is held.
        replayed: it was delivered before, and is so again because an operator moved the position back.
        timer: name of the timer that fired it.
    """

    message: Message
    topic: str = ""
    partition: int
    offset: int = 0
    value: bytes = b""
    internal: bool = False
    pattern: Any = None
    result: Any = None
    keys: Any = ()
    origin: str = ""
    sequence: int = 0
    claim: tuple[str, str] | None = None
    repeated: bool = False
    replayed: bool = False
    timer: str = ""

    @property
    def cause(self) -> str:
        """Return what messages made from this one name as their cause."""
        return self.envelope.causationid if self.internal else self.envelope.id
