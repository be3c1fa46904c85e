"""What the log says of single messages: that one is tried again, lies in the dead letters, or was refused.

Each line names the message by fields (`extra=` of the standard library): processor, topic, partition, offset, message_id, correlation_id,
and trace_id where it is traced. `log_lines` prints them. Keys, contents and the text of errors are left out: they may be personal; the
dead letter has them for who may see them.

A turn may be undone and taken again, so what there is to say is kept until its commit is durable.

Neighbours: `turn` keeps the notes; `log_lines` formats.
"""

from __future__ import annotations

import logging
from typing import Any

from millrace.delivery import Delivery
from millrace.held import HeldRow
from millrace.retry import DEAD, RETRY

log = logging.getLogger("millrace.messages")
REFUSED = "refused"


class Notes:
    """What one turn has to say.

    Args:
        group: the consumer group, as `consumers list` shows it.
    """

    def __init__(self, group: str) -> None:
        self._group = group
        self._kept: list[tuple[str, str, int, Delivery]] = []

    def held(self, delivery: Delivery, row: HeldRow) -> None:
        """A message failed, or cannot be read."""
        if row.state in {DEAD, RETRY}:
            self._kept.append((row.state, row.reason, row.attempts, delivery))

    def refused(self, delivery: Delivery, reason: str) -> None:
        """A command was refused."""
        self._kept.append((REFUSED, reason, delivery.attempt, delivery))

    def count(self, state: str) -> int:
        """Return how often something became of a message."""
        return sum(each[0] == state for each in self._kept)

    def __len__(self) -> int:
        """Return how much there is to say."""
        return len(self._kept)

    def say(self) -> None:
        """Write them down."""
        for state, reason, attempts, delivery in self._kept:
            extra = fields_of(delivery, self._group) | {"reason": reason, "attempts": attempts}
            if state == DEAD:
                log.warning("%s: a message lies in the dead letters after attempt %d: %s", self._group, attempts, reason, extra=extra)
            elif state == RETRY:
                log.info("%s: attempt %d of a message failed, it is tried again: %s", self._group, attempts, reason, extra=extra)
            else:
                log.info("%s: a command was refused: %s", self._group, reason, extra=extra)


def fields_of(delivery: Delivery, group: str) -> dict[str, Any]:
    """Return what names a message in the log."""
    envelope = delivery.envelope
    found: dict[str, Any] = {
        "processor": group,
        "topic": delivery.topic,
        "partition": delivery.partition,
        "offset": delivery.offset,
        "message_id": envelope.id,
        "correlation_id": envelope.correlationid,
    }
    if isinstance(envelope.traceparent, str):
        found["trace_id"] = envelope.traceparent[3:35]
    return found


__all__ = ["REFUSED", "Notes", "fields_of"]
