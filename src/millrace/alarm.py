"""Alarms: what is wrong and stays wrong until somebody does something, told once when it begins and once when it is over.

An alarm is a row in its service's store, so every process of the service knows it, over restarts too. The transaction that writes the
row says `AlarmRaised`, the one that deletes it `AlarmCleared`; who finds the row there already says nothing. So however many processes
see the same thing, an application hears of it once:

    @operations.handler(processor="alarms")
    def page(event: AlarmRaised | AlarmCleared) -> ...

Both lie on the topic `internal.alarms` under their service as key, so an end follows its beginning. They carry figures and places, never
the content of a message.

Neighbours: `ledger_watch` raises them; whoever finds something else that lasts does it the same way, under another `about`.
"""

from __future__ import annotations

import msgspec

from millrace.delivery import Delivery
from millrace.message import Event
from millrace.ports import StoreReader, TopicSpec
from millrace.serialization import Envelope, encode_json
from millrace.unit_of_work import UnitOfWork
from millrace.writer import Waiting

ALARMS = TopicSpec("internal.alarms", partitions=1, retention_s=30 * 86_400)
KIND = "@alarm"
"""The kind of the rows, which no class of an application has."""
MANY = 10_000


class AlarmRaised(Event, topic=ALARMS.name, key="service"):
    """Something is wrong since this moment.

    `about` says which watch found it ("ledger"), `what` and `where` are its name, `text` is for people.
    """

    service: str
    about: str
    what: str
    where: str
    text: str
    expected: int = 0
    found: int = 0


class AlarmCleared(Event, topic=ALARMS.name, key="service"):
    """It is over: `about`, `what` and `where` are those of the beginning."""

    service: str
    about: str
    what: str
    where: str
    since: int
    """When it began, in microseconds of business time."""


class Alarm(msgspec.Struct, frozen=True):
    """What is stored of an alarm; `since` in microseconds of business time."""

    about: str
    what: str
    where: str
    text: str
    expected: int = 0
    found: int = 0
    since: int = 0

    @property
    def name(self) -> str:
        """Return what it is known by in its service."""
        return f"{self.about} {self.what} {self.where}"


async def load_alarms(tables: StoreReader) -> list[Alarm]:
    """Return the alarms that are on in a service."""
    return [msgspec.json.decode(row, type=Alarm) for _, row in await tables.states.page(KIND, after="", limit=MANY)]


class Raise(Waiting):
    """Turns an alarm on; where it is on, its figures follow and nothing is said."""

    def __init__(self, service: str, alarm: Alarm) -> None:
        super().__init__()
        self._service = service
        self.alarm = alarm

    async def run(self, unit: UnitOfWork) -> None:
        """Look, store and say."""
        known = await unit.transaction.states.load(KIND, [self.alarm.name])
        before = known.get(self.alarm.name)
        since = msgspec.json.decode(before, type=Alarm).since if before is not None else unit.now_micros
        self.alarm = alarm = msgspec.structs.replace(self.alarm, since=since)
        await unit.transaction.states.save([(KIND, alarm.name, encode_json(alarm))])
        if before is None:
            said = AlarmRaised(
                service=self._service,
                about=alarm.about,
                what=alarm.what,
                where=alarm.where,
                text=alarm.text,
                expected=alarm.expected,
                found=alarm.found,
            )
            unit.drafts.append(unit.draft(said, _nobody()))


class Clear(Waiting):
    """Turns an alarm off; where it is off, nothing is said."""

    def __init__(self, service: str, alarm: Alarm) -> None:
        super().__init__()
        self._service = service
        self._alarm = alarm

    async def run(self, unit: UnitOfWork) -> None:
        """Look, delete and say."""
        alarm = self._alarm
        known = await unit.transaction.states.load(KIND, [alarm.name])
        if alarm.name not in known:
            return
        since = msgspec.json.decode(known[alarm.name], type=Alarm).since
        await unit.transaction.states.delete([(KIND, alarm.name)])
        said = AlarmCleared(service=self._service, about=alarm.about, what=alarm.what, where=alarm.where, since=since)
        unit.drafts.append(unit.draft(said, _nobody()))


def _nobody() -> Delivery:
    """Return a cause that is no message: an alarm begins a conversation of its own, named by its key."""
    delivery = Delivery()
    delivery.envelope = Envelope("", "", "")
    return delivery


__all__ = ["ALARMS", "Alarm", "AlarmCleared", "AlarmRaised", "Clear", "Raise", "load_alarms"]
