"""What piles up is an alarm beyond its bounds: in health, metrics and doctor, and only there."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from millrace import Application, ConfigurationError, LetterBounds, ManualClock, RetryPolicy, Service
from millrace.doctor import WRONG, examine
from millrace.engines.sqlite import SqliteEngine
from millrace.inspection import Inspection
from millrace.letter_watch import Pile
from millrace.testing.conformance.lab import foreign, put
from millrace.testing.conformance.sample import Added
from millrace.testing.settling import settled

DAY = 86_400_000_000


@pytest.mark.parametrize(
    "bounds, said",
    [
        (LetterBounds(), None),
        (LetterBounds(more=2), "more than 2"),
        (LetterBounds(larger=299), "300 bytes, more than 299"),
        (LetterBounds(older=timedelta(hours=1)), "the oldest is held for more than 1:00:00"),
        (LetterBounds(older=None, more=None, larger=None), None),
    ],
)
def test_each_bound_is_told(bounds: LetterBounds, said: str | None) -> None:
    """Three letters of a hundred bytes each, the oldest of two hours."""
    found = Pile(3, 300, DAY).beyond(bounds, now_micros=DAY + DAY // 12)
    assert (found is None) if said is None else (found == f"3 dead letters: {said}")


def test_nothing_is_older_than_nothing() -> None:
    """Without letters nothing is beyond the narrowest bounds."""
    narrow = LetterBounds(older=timedelta(0), more=0, larger=0)
    assert Pile().beyond(narrow, now_micros=DAY) is None
    with pytest.raises(ConfigurationError, match="more is -1"):
        LetterBounds(more=-1)


async def test_a_pile_is_an_alarm_and_the_process_is_well(tmp_path: Path) -> None:
    """Health has an entry and stays ok, metrics have the figures, doctor finds it wrong; none of it while the bounds are kept."""
    clock = ManualClock()
    service = Service("frail", letters=LetterBounds(older=timedelta(hours=1), more=1))

    @service.handler
    def fail(event: Added) -> None:
        """Fail."""
        raise ValueError(event.name)

    app = Application("sample", [service], engine=SqliteEngine(tmp_path), clock=clock, policy=RetryPolicy(attempts=1))
    async with app:
        await put(app, "tally", ("a", foreign(app, Added(name="a"))))
        await settled(app)
        await app.hosts["frail"].clean(now=0, answers_before=0)
        assert [entry for entry in app.health().entries if entry.kind == "dead letters"] == []
        assert 'millrace_dead_letters{service="frail"} 1' in app.metrics()
        clock.advance(timedelta(hours=2))
        (entry,) = [entry for entry in app.health().entries if entry.kind == "dead letters"]
        assert (entry.state, entry.held, app.health().status) == ("alarm", 1, "ok")
        assert "held for more than 1:00:00" in (entry.last_error or "")
    async with Inspection(app) as inspection:
        wrong = [finding.found for finding in await examine(inspection) if finding.what == "dead letters" and finding.state == WRONG]
    assert wrong == ["1 dead letters: the oldest is held for more than 1:00:00"]
