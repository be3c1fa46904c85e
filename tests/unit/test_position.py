"""Positions and cursors: tokens that come back as they were, and that nobody can break anything with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace import Application, ConfigurationError, Position, Service
from millrace.engines.sqlite import SqliteEngine
from millrace.reading import _open_cursor, _seal_cursor
from millrace.tail import parse_cursor

NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True)
PLACES = st.builds("{}/{}".format, NAMES, st.integers(0, 999_999))


@given(NAMES, NAMES, st.integers(1, 10**9 - 1), st.dictionaries(PLACES, st.integers(0, 10**19 - 1)))
def test_positions_come_back(application: str, service: str, epoch: int, places: dict[str, int]) -> None:
    """Every position is its token, with spaces around it as in a header."""
    position = Position(source=f"/{application}/{service}", epoch=epoch, places=places)
    assert Position.parse(f"  {position} ") == position


@given(st.text())
def test_other_texts_are_no_positions(text: str) -> None:
    """Whatever a header holds: a position or a ValueError."""
    try:
        position = Position.parse(text)
    except ValueError:
        return
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize(
    "text",
    ["", "x", "/a@;t/0=1", "/a@1", "a/b@1;t/0=1", "/a@1;t/0", "/a@1;t/0=-1", "/a@1;t=1", "/a@1;t/0=1;", "/a@1;/0=1", "/a@1;t/0=1 2"],
)
def test_malformed_positions_are_named(text: str) -> None:
    """The message quotes what was found and the form that was expected."""
    with pytest.raises(ValueError, match="not a position"):
        Position.parse(text)


@given(st.dictionaries(st.tuples(NAMES, st.integers(0, 999_999)), st.integers(0, 10**19 - 1), min_size=1))
def test_tail_cursors_come_back(offsets: dict[tuple[str, int], int]) -> None:
    """A cursor of an event stream names each partition's offset."""
    text = ",".join(f"{topic}/{partition}={offset}" for (topic, partition), offset in offsets.items())
    assert parse_cursor(text) == offsets


@given(st.text())
def test_other_texts_are_no_tail_cursors(text: str) -> None:
    """Whatever a client sends as its last event: offsets or a ValueError."""
    try:
        parse_cursor(text)
    except ValueError as error:
        assert "not a cursor" in str(error)  # noqa: PT017  # either end is right


@given(st.tuples(st.text(), st.text()))
def test_page_cursors_come_back(place: tuple[str, str]) -> None:
    """A page's cursor is its last place, whatever the key."""
    assert _open_cursor(_seal_cursor(place)) == place


@given(st.text(min_size=1))
def test_other_texts_are_no_page_cursors(text: str) -> None:
    """Whatever a client sends as a cursor: a place or a ValueError that says so."""
    try:
        _open_cursor(text)
    except ValueError as error:
        assert "cursor" in str(error)  # noqa: PT017  # either end is right


@pytest.mark.parametrize("name", ["my shop", "a/b", "", "a@b", "a;b", "Größe"])
def test_applications_that_no_position_could_name_are_refused(name: str, tmp_path: object) -> None:
    """An application's name is part of its positions, so it has their alphabet."""
    with pytest.raises(ConfigurationError, match="name"):
        Application(name, [Service("orders")], engine=SqliteEngine(str(tmp_path)))
