"""Recurring moments: what an expression stands for, and what cannot be one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace import ConfigurationError
from millrace.cron import Cron, Every

START = datetime(2026, 1, 31, 22, 17, 30, tzinfo=UTC)  # a Saturday


@pytest.mark.parametrize(
    "text, moments",
    {
        "* * * * *": ["2026-01-31 22:18", "2026-01-31 22:19"],
        "*/20 * * * *": ["2026-01-31 22:20", "2026-01-31 22:40", "2026-01-31 23:00"],
        "5/20 22 * * *": ["2026-01-31 22:25", "2026-01-31 22:45", "2026-02-01 22:05"],
        "0 3 * * mon-fri": ["2026-02-02 03:00", "2026-02-03 03:00"],
        "30 8,20 1 * *": ["2026-02-01 08:30", "2026-02-01 20:30", "2026-03-01 08:30"],
        "0 0 29 2 *": ["2028-02-29 00:00", "2032-02-29 00:00"],
        "0 0 13 * 5": ["2026-02-06 00:00", "2026-02-13 00:00", "2026-02-20 00:00"],
        "0 0 13 * *": ["2026-02-13 00:00", "2026-03-13 00:00"],
        "0 0 * DEC sun": ["2026-12-06 00:00", "2026-12-13 00:00"],
        "0 0 * * 7": ["2026-02-01 00:00", "2026-02-08 00:00"],
        "10-20/5 0 1 jan *": ["2027-01-01 00:10", "2027-01-01 00:15", "2027-01-01 00:20", "2028-01-01 00:10"],
        "@hourly": ["2026-01-31 23:00", "2026-02-01 00:00"],
        "@weekly": ["2026-02-01 00:00", "2026-02-08 00:00"],
        "@yearly": ["2027-01-01 00:00", "2028-01-01 00:00"],
    }.items(),
)
def test_an_expression_names_its_moments(text: str, moments: list[str]) -> None:
    """One after the other, strictly later, in UTC."""
    cron, at, found = Cron(text), START, list[str]()
    for _ in moments:
        at = cron.after(at)
        found.append(f"{at:%Y-%m-%d %H:%M}")
    assert found == moments


@pytest.mark.parametrize(
    "text",
    [
        *("", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "5-1 * * * *", "*/0 * * * *"),
        *("a * * * *", "1,,2 * * * *", "1- * * * *", "-1 * * * *", "* * * * mo", "0 0 30 2 *", "@sometimes", "*/ * * * *"),
        *("\u0663 * * * *", "1//2 * * * *"),
    ],
)
def test_what_is_no_expression_is_named(text: str) -> None:
    """The error shows it, and never comes later than the declaration."""
    with pytest.raises(ConfigurationError, match="cron"):
        Cron(text)


MOMENTS = st.integers(0, 3_155_760_000_000_000).map(lambda micros: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros))


@given(MOMENTS, st.sampled_from([Cron("*/7 1-5 * * 1,3"), Cron("0 0 29 2 *"), Cron("59 23 31 * *"), Every(timedelta(seconds=90))]))
def test_both_directions_agree(moment: datetime, when: Cron | Every) -> None:
    """The last moment up to the next one is the next one, and between the last and the next there is none."""
    following = when.after(moment)
    assert following > moment
    assert when.latest(following) == following
    assert when.latest(moment) <= moment
    assert when.after(when.latest(moment)) == following


def test_a_step_below_a_second_is_refused() -> None:
    """It would keep the store busy with itself."""
    with pytest.raises(ConfigurationError, match="too often"):
        Every(timedelta(milliseconds=999))
    assert Every(timedelta(hours=2)).after(START) == datetime(2026, 2, 1, tzinfo=UTC)
