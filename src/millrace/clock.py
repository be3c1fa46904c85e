"""Time handed in: decisions read `Context.now`, never the wall clock.

Three clocks: the machine's, one that stands still until a test moves it, and one that runs on with the machine's but can be moved forward.
The last one is for demonstrations and tests of a whole installation: every process of it follows the same moves (`timekeeping`).

What is business time and what is not. Business time is what a clock says: `Context.now`, the time of facts, when timers and schedules are
due, when a message that failed is tried again. Everything that concerns machines stays on real time, however far a clock was moved: the
times at which a log appends, leases, retention, time-outs, how long answers and foreign ids are remembered, and how long a message may
wait for another one (`NotYet`), which would else be given up though the other is on its way.

Neighbours: the runtime asks a `Clock` once per work item; tests hand in a `ManualClock`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where the runtime gets business time from."""

    def now(self) -> datetime:
        """Return the current time as an aware datetime in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the machine's time in UTC."""
        return datetime.now(UTC)


class ManualClock:
    """A clock that moves only when told to; for tests.

    Args:
        start: the first time it shows, aware.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        """Return the time it was set to."""
        return self._now

    def advance(self, step: timedelta) -> None:
        """Move forward by `step`."""
        self._now += step


class VirtualClock:
    """A clock that runs with another one, ahead of it by an offset that only grows.

    Handed to an `Application`, it is moved by `Application.move_clock` and shows the same time in all its processes; without one, `advance`
    moves it.

    Args:
        base: the clock it runs with; default: the machine's.
    """

    def __init__(self, base: Clock | None = None) -> None:
        self.base: Clock = base or SystemClock()
        self._offset = 0

    @property
    def offset(self) -> timedelta:
        """Return how far ahead it is."""
        return timedelta(microseconds=self._offset)

    @property
    def offset_micros(self) -> int:
        """Return how far ahead it is, in microseconds."""
        return self._offset

    def now(self) -> datetime:
        """Return the time of its base, moved."""
        return self.base.now() + timedelta(microseconds=self._offset)

    def advance(self, step: timedelta) -> None:
        """Move forward by `step`, in this process alone.

        Raises:
            ValueError: the step is negative, or leads beyond the year 9000.
        """
        if step < timedelta():
            raise ValueError(f"a clock never goes back; the step is {step}")
        self.follow(self._offset + step // timedelta(microseconds=1))

    def follow(self, offset_micros: int) -> bool:
        """Be at least so far ahead; return whether that moved it.

        Raises:
            ValueError: it leads beyond the year 9000.
        """
        if offset_micros <= self._offset:
            return False
        if to_micros(self.base.now()) + offset_micros > to_micros(LAST_MOMENT):
            raise ValueError(f"a clock cannot be moved beyond {LAST_MOMENT:%Y}")
        self._offset = offset_micros
        return True


def moved_micros(clock: Clock) -> int:
    """Return how far a clock was moved away from real time, in microseconds."""
    return clock.offset_micros if isinstance(clock, VirtualClock) else 0


def to_micros(moment: datetime) -> int:
    """Return whole microseconds since 1970 (UTC); exact for every datetime."""
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_micros(micros: int) -> datetime:
    """Return the aware UTC datetime for microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=micros)


def to_text(moment: datetime) -> str:
    """Return RFC 3339 in UTC with six digits of microseconds, as the envelope carries it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MOMENT = datetime(9000, 1, 1, tzinfo=UTC)
"""How far a clock can be moved: some room is left for what is due later."""
