"""Who owns a source, folded from the marks of its relays; needs no server."""

from __future__ import annotations

import pytest

pytest.importorskip("confluent_kafka")

from millrace.engines.kafka.relaying import AT, CLAIM, YIELD, Mark, Standing  # where the extra is installed


def mark(kind: str, writer: str, position: int = 0, *, to: str = "") -> Mark:
    """A mark with as many rows as its position says."""
    return Mark(kind, writer, position, position, {"t/0": position}, to=to)


def folded(*marks: Mark) -> tuple[str, str, int]:
    """Owner, candidate and position after marks."""
    standing = Standing()
    for each in marks:
        standing.fold(each)
    return standing.owner, standing.candidate, standing.position


OWNED = (mark(CLAIM, "a"), mark(AT, "a", 5))


def test_the_first_to_claim_owns() -> None:
    """Where there is no owner, a claim makes one."""
    assert folded(*OWNED) == ("a", "", 5)


def test_who_claims_later_waits() -> None:
    """An owner stays one while somebody waits, and what it publishes counts; of two who wait the later is the candidate."""
    assert folded(*OWNED, mark(CLAIM, "b", 5), mark(AT, "a", 7)) == ("a", "b", 7)
    assert folded(*OWNED, mark(CLAIM, "b", 5), mark(CLAIM, "c", 5)) == ("a", "c", 5)


def test_an_owner_yields_to_a_candidate_or_to_nobody() -> None:
    """A yield names the next owner; without one the source is free, or the candidate's."""
    assert folded(*OWNED, mark(CLAIM, "b", 5), mark(YIELD, "a", 8, to="b")) == ("b", "", 8)
    assert folded(*OWNED, mark(YIELD, "a", 8)) == ("", "", 8)
    assert folded(*OWNED, mark(CLAIM, "b", 5), mark(YIELD, "a", 8)) == ("b", "", 8)


def test_a_candidate_that_publishes_has_taken_over() -> None:
    """After a silence the candidate goes on; what the old owner says afterwards is old."""
    taken = (*OWNED, mark(CLAIM, "b", 5), mark(AT, "b", 9))
    assert folded(*taken) == ("b", "", 9)
    assert folded(*taken, mark(AT, "a", 6)) == ("b", "", 9)
    assert folded(*taken, mark(YIELD, "a", 6, to="c")) == ("b", "", 9)


def test_compaction_loses_no_position() -> None:
    """Each mark says everything: the last one alone gives position and places."""
    standing = Standing()
    standing.fold(mark(CLAIM, "b", 7))
    assert (standing.owner, standing.position, standing.places) == ("b", 7, {"t/0": 7})
