"""Small values of the runtime: look-ups that sort, clocks, selectors, timers, wake-up calls."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace import Command, ConfigurationError, Context, Delete, ManualClock, State, SystemClock, Timer, View
from millrace.broadcast import Broadcast
from millrace.clock import from_micros, to_micros, to_text
from millrace.keyed import lookup_text
from millrace.processor import items_of
from millrace.state import kind_of, row_key

INTEGERS = st.integers(-(2**63), 2**63 - 1)
MOMENTS = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9990, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
ZONES = st.integers(-12, 12).map(lambda hours: timezone(timedelta(hours=hours)))


class Ping(Command, key="name"):
    """A timer's message."""

    name: str


class Stock(State, key="sku"):
    """A row."""

    sku: int


@given(INTEGERS, INTEGERS)
def test_numbers_sort_as_numbers(a: int, b: int) -> None:
    """The text of an integer in a look-up sorts like it, negative ones included."""
    assert (lookup_text(a) < lookup_text(b)) == (a < b)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_fractions_sort_as_fractions(a: float, b: float) -> None:
    """The text of a float in a look-up sorts like it."""
    if a != b:
        assert (lookup_text(a) < lookup_text(b)) == (a < b)


@given(MOMENTS, MOMENTS, ZONES)
def test_moments_sort_as_moments(a: datetime, b: datetime, zone: timezone) -> None:
    """The text of a time in a look-up sorts like it, in whichever zone it is written."""
    assert (lookup_text(a.astimezone(zone)) < lookup_text(b)) == (a < b)


@given(MOMENTS)
def test_micros_are_exact(moment: datetime) -> None:
    """Times come back from whole microseconds, and from their text."""
    assert from_micros(to_micros(moment)) == moment
    assert datetime.fromisoformat(to_text(moment)) == moment


def test_clocks() -> None:
    """A manual clock moves when told to; the system's is aware."""
    clock = ManualClock()
    before = clock.now()
    clock.advance(timedelta(seconds=1))
    assert clock.now() - before == timedelta(seconds=1)
    assert SystemClock().now().tzinfo is UTC


@pytest.mark.parametrize(
    "text, expected",
    [
        ("2026-01-01T12:00:00Z", datetime(2026, 1, 1, 12, tzinfo=UTC)),
        ("2026-01-01T12:00:00+02:00", datetime(2026, 1, 1, 10, tzinfo=UTC)),
        ("2026-01-01T12:00:00", datetime(2026, 1, 1, 12, tzinfo=UTC)),
        ("", datetime(2030, 1, 1, tzinfo=UTC)),
    ],
)
def test_business_time_is_utc(text: str, expected: datetime) -> None:
    """However a foreign producer writes its time, a handler sees it in UTC; without one, the clock's."""
    context = Context.example(now=datetime(2030, 1, 1, tzinfo=UTC), time=text)
    assert context.time == expected
    assert context.time.tzinfo is UTC


def test_timers_say_when_once() -> None:
    """Either after or at."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert Timer("t", Ping(name="a"), after=timedelta(seconds=3)).due(now) == now + timedelta(seconds=3)
    assert Timer("t", Ping(name="a"), at=now).due(now + timedelta(days=1)) == now
    for arguments in ({}, {"after": timedelta(), "at": now}):
        with pytest.raises(ValueError, match="either"):
            Timer("t", Ping(name="a"), **arguments)


def test_states_declare_their_key() -> None:
    """Kinds have names, keys are text, mistakes are named."""
    assert (kind_of(Stock).name, row_key(Stock(sku=7))) == ("stock", "7")
    with pytest.raises(ConfigurationError, match="nothing"):

        class Wrong(View, key="id", lookups=("nothing",)):
            id: str

    class Keyless(State):
        id: str

    with pytest.raises(ConfigurationError, match="declares no key"):
        kind_of(Keyless)


def test_results_are_sequences() -> None:
    """Nothing, one item, several, or a generator of them."""
    row = Stock(sku=1)
    assert items_of(None) == ()
    assert items_of(row) == (row,)
    assert items_of([row, Delete(row)]) == [row, Delete(row)]
    assert items_of(each for each in (row, row)) == (row, row)


async def test_no_call_is_missed() -> None:
    """A call between looking and waiting wakes the waiter; one that never comes lets it go in time."""
    broadcast = Broadcast()
    seen = broadcast.calls
    broadcast.call()
    assert await broadcast.wait(seen, 0)
    assert not await broadcast.wait(broadcast.calls, 0)
    waiters = [asyncio.ensure_future(broadcast.wait(broadcast.calls, 5)) for _ in range(3)]
    await asyncio.wait(waiters, timeout=0)
    broadcast.call()
    assert await asyncio.gather(*waiters) == [True, True, True]
