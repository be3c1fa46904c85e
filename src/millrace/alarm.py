"""Alarms: what is wrong and stays wrong until somebody does something, told once when it begins and once when it is over.

An alarm is a row in its service's store, so every process of the service knows it, over restarts too. The transaction that writes the
row says `AlarmRaised`, the one that deletes it `AlarmCleared`; who finds the row there already says nothing. So however many processes
see the same thing, an application hears of it once:

    @operations.handler(processor="alarms")
    def page(event: AlarmRaised | AlarmCleared) -> ...

Both lie on the topic `internal.alarms` under their service as key, so an end follows its beginning. They carry figures and places, never
the content of a message.

    about       what           where             on                                         over
    ledger      an equation    its place         two looks have seen the same difference    two looks see none
    breaker     open           the dependency    it is stored as open                       a probe is answered, or an operator closes it
    consumer    stopped        the processor     the turn in which it stops itself          an operator starts it, or a view's build is gone

Neighbours: `ledger_watch`, `circuits` and `outcomes` raise them; whoever finds something else that lasts does it the same way, under
another `about`.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from millrace.clock import from_micros
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
BREAKER, CONSUMER = "breaker", "consumer"
OPEN, STOPPED = "open", "stopped"


class AlarmRaised(Event, topic=ALARMS.name, key="service"):
    """Something is wrong since this moment.

    `about` says what it concerns ("ledger", "breaker", "consumer"), `what` and `where` are its name, `text` is for people.
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
    since: datetime
    """When it began, in business time."""


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


async def raise_alarm(unit: UnitOfWork, alarm: Alarm) -> Alarm:
    """Turn an alarm on in a transaction that has not been flushed; where it is on, its figures follow and nothing is said.

    Returns it with the moment at which it began.
    """
    known = await unit.transaction.states.load(KIND, [alarm.name])
    before = known.get(alarm.name)
    since = msgspec.json.decode(before, type=Alarm).since if before is not None else unit.now_micros
    alarm = msgspec.structs.replace(alarm, since=since)
    await unit.transaction.states.save([(KIND, alarm.name, encode_json(alarm))])
    if before is None:
        said = AlarmRaised(
            service=unit.service,
            about=alarm.about,
            what=alarm.what,
            where=alarm.where,
            text=alarm.text,
            expected=alarm.expected,
            found=alarm.found,
        )
        unit.drafts.append(unit.draft(said, _nobody()))
    return alarm


async def clear_alarm(unit: UnitOfWork, alarm: Alarm) -> None:
    """Turn an alarm off, whatever its text, in a transaction that has not been flushed; where it is off, nothing is said."""
    known = await unit.transaction.states.load(KIND, [alarm.name])
    if alarm.name not in known:
        return
    since = msgspec.json.decode(known[alarm.name], type=Alarm).since
    await unit.transaction.states.delete([(KIND, alarm.name)])
    said = AlarmCleared(service=unit.service, about=alarm.about, what=alarm.what, where=alarm.where, since=from_micros(since))
    unit.drafts.append(unit.draft(said, _nobody()))


class Raise(Waiting):
    """Turns an alarm on; see `raise_alarm`."""

    def __init__(self, alarm: Alarm) -> None:
        super().__init__()
        self.alarm = alarm

    async def run(self, unit: UnitOfWork) -> None:
        """Look, store and say."""
        self.alarm = await raise_alarm(unit, self.alarm)


class Clear(Waiting):
    """Turns an alarm off; see `clear_alarm`."""

    def __init__(self, alarm: Alarm) -> None:
        super().__init__()
        self._alarm = alarm

    async def run(self, unit: UnitOfWork) -> None:
        """Look, delete and say."""
        await clear_alarm(unit, self._alarm)


def breaker_alarm(name: str, reason: str = "") -> Alarm:
    """Return the alarm of a dependency whose breaker is open; of the reason what may be told, without the text of an error."""
    return Alarm(
        BREAKER, OPEN, name, f"breaker {name} is open: {reason.partition(':')[0]}; calls are held back, it is tried again by itself"
    )


def consumer_alarm(processor: str, *, group: str = "", reason: str = "") -> Alarm:
    """Return the alarm of a processor that has stopped itself; only who raises it has to say why."""
    return Alarm(CONSUMER, STOPPED, processor, f"{group} has stopped itself: {reason}; mend the cause, then `consumers start {group}`")


def _nobody() -> Delivery:
    """Return a cause that is no message: an alarm begins a conversation of its own, named by its key."""
    delivery = Delivery()
    delivery.envelope = Envelope("", "", "")
    return delivery


__all__ = [
    "ALARMS",
    "BREAKER",
    "CONSUMER",
    "Alarm",
    "AlarmCleared",
    "AlarmRaised",
    "Clear",
    "Raise",
    "breaker_alarm",
    "clear_alarm",
    "consumer_alarm",
    "load_alarms",
    "raise_alarm",
]
