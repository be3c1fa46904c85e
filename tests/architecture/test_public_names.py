"""What `from millrace import ...` offers: few names, listed, sorted and documented."""

import inspect
import types

import pytest

import millrace
import millrace.operators

PLACES = (millrace, millrace.operators)
"""Where users import from: what declares an application, and what looks after one."""
NAMES_MAX = 48


def by_kind(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, as the linter sorts `__all__`."""
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name


@pytest.mark.parametrize("place", PLACES)
def test_public_names_are_few_and_sorted(place: types.ModuleType) -> None:
    """A newcomer can read the list of names in one sitting, and find one in it."""
    assert len(place.__all__) <= NAMES_MAX
    assert sorted(set(place.__all__), key=by_kind) == list(place.__all__)


@pytest.mark.parametrize("place", PLACES)
def test_public_names_are_listed(place: types.ModuleType) -> None:
    """Nothing is public by accident: what can be imported from such a place is in its list."""
    found = {
        name
        for name, value in vars(place).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name != "annotations"
    }

    assert found == {name for name in place.__all__ if not name.startswith("_")}


def undocumented(name: str, value: object) -> list[str]:
    """The name itself and the public methods of a class, where they have no docstring of their own."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return []
    missing = [] if (vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__) else [name]
    members = vars(value).items() if inspect.isclass(value) else ()
    return missing + [
        f"{name}.{member}"
        for member, kind in members
        if not member.startswith("_") and isinstance(kind, types.FunctionType | property | classmethod | staticmethod) and not kind.__doc__
    ]


@pytest.mark.parametrize("place", PLACES)
def test_public_names_are_documented(place: types.ModuleType) -> None:
    """Every public name and every public method behind it says what it guarantees."""
    assert [each for name in place.__all__ for each in undocumented(name, getattr(place, name))] == []
