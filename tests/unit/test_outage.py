"""When the silence of a log that was away means something again."""

from __future__ import annotations

from millrace.engines.kafka.outage import AWAY_S, GRACE_S, Outage


class Looks:
    """Looks at a log, each answered at once, by a clock that is moved."""

    def __init__(self) -> None:
        self.now = 100.0
        self.outage = Outage(lambda: self.now)

    def look(self, *, after: float) -> bool:
        """Look after so many seconds without an answer; return whether there is no outage."""
        self.now += after
        self.outage.seen(self.now)
        return self.outage.over


def test_a_log_that_answers_is_no_outage() -> None:
    """Nor is one that is slow for less than the time that counts."""
    looks = Looks()
    assert all(looks.look(after=AWAY_S) for _ in range(10))


def test_nothing_is_known_while_nobody_answers() -> None:
    """From the moment on at which an answer is overdue."""
    looks = Looks()
    looks.now += AWAY_S + 0.1
    assert not looks.outage.over


def test_what_was_away_has_as_long_again() -> None:
    """Others publish meanwhile what they have to say."""
    looks = Looks()
    assert not looks.look(after=10.0)
    assert [looks.look(after=2.0) for _ in range(6)] == [False] * 4 + [True] * 2


def test_a_long_outage_has_a_bound() -> None:
    """Half a minute, however long it was; one that follows at once counts for itself."""
    looks = Looks()
    assert not looks.look(after=3600.0)
    assert [looks.look(after=2.5) for _ in range(12)] == [False] * 11 + [True]
    assert GRACE_S == 30.0
    assert not looks.look(after=AWAY_S + 1)
    assert looks.look(after=5.0) is False
    assert looks.look(after=1.5)
