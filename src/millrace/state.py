"""Keyed state and read models: the values a service keeps, and how a handler asks for them.

`State` rows are loaded for a whole batch at once and saved with it. A `View` is a State that is queried from outside: it has
look-ups, an order, and can be rebuilt from the log. Both are frozen: a handler returns a changed copy.

Neighbours: `handler` and `view` read the declarations; the store keeps (kind, key) -> bytes and knows no class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, dataclass_transform

import msgspec

from millrace.errors import ConfigurationError
from millrace.message import kebab


class Kind(msgspec.Struct, frozen=True):
    """What a State or View class declared. `version`, `lookups` and `sort` matter for views only."""

    name: str
    key: str
    version: int = 1
    lookups: tuple[str, ...] = ()
    sort: str | None = None


class Selector(msgspec.Struct, frozen=True):
    """Which rows of a kind a handler wants for a message.

    `keys` is asked of the message or, where `source` names another parameter of the handler, of what that one is given. `field` is the
    attribute of theirs that holds the key, when it is one.
    """

    state: type[State]
    keys: Callable[[Any], Iterable[str] | str | None]
    field: str = ""
    source: str = ""

    def named_by(self, row: Any) -> str | tuple[str, ...] | None:
        """Return the keys that a row names: one or None by an attribute, several by a function; nothing where there is no row.

        Raises:
            ConfigurationError: the function returned a text, which is no list of keys.
        """
        keys = self.keys(row) if row is not None else None
        if isinstance(keys, str):
            if not self.field:
                raise ConfigurationError(
                    f"{self.state.__name__}.of({self.source!r}, ...): the function returned a text; return a list, or name the attribute"
                )
            return keys
        return None if self.field else tuple(keys or ())


@dataclass_transform(kw_only_default=True, frozen_default=True)
class StateMeta(type(msgspec.Struct)):  # type: ignore[misc]  # the struct metaclass is untyped
    """Makes state classes frozen and keyword-only, and keeps what their class statement declares."""

    def __new__(  # noqa: PLR0913  # these are the keywords of a class statement
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        key: str | None = None,
        kind: str | None = None,
        version: int = 1,
        lookups: Iterable[str] = (),
        sort: str | None = None,
        **options: Any,
    ) -> Any:
        """Create the class; `options` go to msgspec."""
        options.setdefault("frozen", True)
        options.setdefault("kw_only", True)
        options.setdefault("gc", False)
        cls: Any = super().__new__(mcls, name, bases, namespace, **options)
        if key is not None:
            for field in (key, *lookups, *([sort] if sort else [])):
                if not hasattr(cls, field):
                    raise ConfigurationError(f"{name}: {field!r} is not one of its fields")
            cls.__kind__ = Kind(name=kind or kebab(name), key=key, version=version, lookups=tuple(lookups), sort=sort)
        return cls


class State(msgspec.Struct, metaclass=StateMeta):
    """A row that a service keeps, identified by (kind, key).

    Class keywords: `key` (name of the field that identifies it), `kind` (stored name, default from the class name).
    """

    __kind__: ClassVar[Kind]

    @classmethod
    def by(cls, select: str | Callable[[Any], Iterable[str] | str]) -> Selector:
        """Say which rows a handler wants.

        Args:
            select: an attribute of the message (the handler gets one row or None), or a function of the message. A function
                that returns a text gives one row or None; one that returns several keys gives a dict of key -> row or None.
        """
        if isinstance(select, str):
            name = select
            return Selector(state=cls, keys=lambda message: str(getattr(message, name)), field=name)
        return Selector(state=cls, keys=select)

    @classmethod
    def of(cls, parameter: str, select: str | Callable[[Any], Iterable[str]]) -> Selector:
        """Say which rows a handler wants when the message does not name them, but a row does that the handler asks for as well.

            @inventory.handler(reservation=Reservation.by("order_id"), stock=Stock.of("reservation", skus_of))

        The row is taken as it stands when the message is handled, with what earlier messages of the same transaction made of it. The
        rows of a whole batch are still loaded together, after those that name them. Only what names other rows by then is loaded late:
        that is rare, and on an engine that locks rows as they are loaded it may end in a deadlock, because those locks come out of key
        order. The engine ends it by undoing one transaction: the writer repeats its work items one by one, and a processor takes its
        turn again; a command that fails even alone is its caller's to repeat.

        Args:
            parameter: the handler's parameter that names the rows; its own rows are named by the message (`by`).
            select: an attribute of the row (the handler gets one row or None), or a function of what the parameter is given that
                returns several keys (a dict of key -> row or None). Where the row is absent the function is not called, and the
                handler gets None or an empty dict.
        """
        if isinstance(select, str):
            name = select
            return Selector(state=cls, keys=lambda row: _key_in(row, name), field=name, source=parameter)
        return Selector(state=cls, keys=select, source=parameter)


class View(State):
    """A read model's document, found by key or look-up, rebuilt from the log.

    Class keywords beside those of `State`: `version` (raise it when the function or the fields change: the view is rebuilt),
    `lookups` (fields that can be filtered by), `sort` (field that lists are ordered by, newest first).
    """


def kind_of(cls: type[State]) -> Kind:
    """Return what `cls` declared.

    Raises:
        ConfigurationError: the class statement has no `key=`.
    """
    found: Kind | None = getattr(cls, "__kind__", None)
    if found is None:
        raise ConfigurationError(f"{cls.__qualname__} declares no key; write class {cls.__name__}(State, key=...)")
    return found


class Delete(msgspec.Struct, frozen=True):
    """Returned by a handler: remove this row."""

    state: State


def _key_in(row: Any, name: str) -> str | None:
    key = getattr(row, name)
    return None if key is None else str(key)


def row_key(row: State) -> str:
    """Return the key of a row as text."""
    return str(getattr(row, row.__kind__.key))


__all__ = ["Delete", "Kind", "Selector", "State", "View", "kind_of", "row_key"]
