"""When something recurs: every so often, or as a cron expression says. Pure arithmetic on UTC.

A cron expression has five fields: minute, hour, day of month, month, day of week (0 and 7 are Sunday); each is `*`, a value, a range `a-b`,
a step `*/n` or `a-b/n`, or a comma list of these; months and days of the week may be named by their first three letters. Where both days
are restricted, either may match, as cron has it. `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly` stand for the usual ones.

Written here because it is a page of arithmetic, and a library for it would be one more package that everybody installs. Time zones are left
out on purpose: times are UTC, and a daily moment that exists twice or not at all in the nights when clocks change is nobody's friend.

Neighbours: `schedule` asks for the next moment and the last one.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from millrace.clock import from_micros, to_micros
from millrace.errors import ConfigurationError

_YEARS = 12
"""The longest pause of a possible expression: 29 February on a given day of the week comes after at most so many years, or never."""
_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
SHORTEST = timedelta(seconds=1)


class _Field(NamedTuple):
    what: str
    least: int
    most: int
    names: tuple[str, ...] = ()
    """Of the values, from the least on."""


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _DAYS),
)


class Every:
    """Every so often: at the multiples of a step since 1970, so that all processes, and all restarts, mean the same moments.

    Args:
        step: a second or more, in whole microseconds.

    Raises:
        ConfigurationError: it is shorter.
    """

    def __init__(self, step: timedelta) -> None:
        if step < SHORTEST:
            raise ConfigurationError(f"every {step} is too often; {SHORTEST} is the shortest")
        self._step = step // timedelta(microseconds=1)
        self.text = f"every {step}"

    def after(self, moment: datetime) -> datetime:
        """Return the first moment later than one."""
        return from_micros((to_micros(moment) // self._step + 1) * self._step)

    def latest(self, moment: datetime) -> datetime:
        """Return the last moment that is not later than one."""
        return from_micros(to_micros(moment) // self._step * self._step)


class Cron:
    """The moments of a cron expression, in UTC.

    Args:
        text: five fields, or one of the names that stand for some.

    Raises:
        ConfigurationError: it cannot be read, or no moment ever matches.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        fields = _ALIASES.get(text.strip().lower(), text).split()
        if len(fields) != len(_FIELDS):
            raise ConfigurationError(f"cron {text!r} has {len(fields)} fields; write minute, hour, day of month, month, day of week")
        found = [_values(text, given, field) for given, field in zip(fields, _FIELDS, strict=True)]
        self._minutes, self._hours, self._days, self._months = found[:4]
        self._weekdays = {day % 7 for day in found[4]}
        self._either = fields[2][0] != "*" and fields[4][0] != "*"
        try:
            self.after(datetime(2000, 1, 1, tzinfo=UTC))
        except OverflowError:
            raise ConfigurationError(f"cron {text!r} names a day that no year has") from None

    def after(self, moment: datetime) -> datetime:
        """Return the first moment later than one."""
        return self._search(_minute(moment) + timedelta(minutes=1), forward=True)

    def latest(self, moment: datetime) -> datetime:
        """Return the last moment that is not later than one."""
        return self._search(_minute(moment), forward=False)

    def _search(self, start: datetime, *, forward: bool) -> datetime:
        """Return the nearest moment from `start` on, in one direction: whole months, days and hours are passed at a time."""
        at = start
        while abs(at.year - start.year) <= _YEARS:
            if at.month not in self._months:
                first = at.replace(day=1, hour=0, minute=0)
                at = first + timedelta(days=monthrange(at.year, at.month)[1]) if forward else first - timedelta(minutes=1)
            elif not self._has_day(at):
                midnight = at.replace(hour=0, minute=0)
                at = midnight + timedelta(days=1) if forward else midnight - timedelta(minutes=1)
            elif at.hour not in self._hours:
                hour = at.replace(minute=0)
                at = hour + timedelta(hours=1) if forward else hour - timedelta(minutes=1)
            elif at.minute not in self._minutes:
                at += timedelta(minutes=1 if forward else -1)
            else:
                return at
        raise OverflowError(self.text)

    def _has_day(self, at: datetime) -> bool:
        of_month, of_week = at.day in self._days, at.isoweekday() % 7 in self._weekdays
        return (of_month or of_week) if self._either else (of_month and of_week)


def _minute(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


def _values(text: str, given: str, field: _Field) -> set[int]:
    """Return the values that a field of an expression stands for."""
    what, least, most = field.what, field.least, field.most
    found: set[int] = set()
    for part in given.lower().split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        try:
            low = least if span == "*" else _number(first, field)
            high = most if span == "*" or (step and not dash) else _number(last, field) if dash else low
            stride = int(_digits(step)) if "/" in part else 1
        except ValueError:
            low, high, stride = 1, 0, 0
        if not (least <= low <= high <= most and stride >= 1):
            raise ConfigurationError(f"cron {text!r}: {part!r} is no {what}; write {least} to {most}, a range, a step or *")
        found.update(range(low, high + 1, stride))
    return found


def _number(text: str, field: _Field) -> int:
    return field.least + field.names.index(text) if text in field.names else int(_digits(text))


def _digits(text: str) -> str:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return text


__all__ = ["Cron", "Every"]
