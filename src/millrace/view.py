"""Views: read models folded from facts, queried by key and look-up, rebuilt while the old one serves.

A view's function is pure: (document or None, event) -> document. Each build of a view has its own documents and positions; the one that
is `serving` answers queries. See `rebuild` for how builds come and go.

Neighbours: `service.view` declares one; `hosting` makes a `ViewPattern` per build.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from millrace.delivery import Context, Delivery
from millrace.errors import ConfigurationError
from millrace.message import declaration
from millrace.processor import Mode, annotated_messages, parameter_of_type
from millrace.retry import RetryPolicy
from millrace.serialization import encode_json
from millrace.state import Delete, Kind, View, kind_of
from millrace.unit_of_work import UnitOfWork


class ViewDefinition(msgspec.Struct, frozen=True):
    """A view as a service declared it."""

    view: type[View]
    kind: Kind
    function: Callable[..., Any]
    keys: Callable[[Any], str | Iterable[str]]
    retry: RetryPolicy | None = None

    @property
    def name(self) -> str:
        """Return its name, as operators see it."""
        return self.kind.name


def define_view(view: type[View], function: Callable[..., Any], key: Callable[[Any], str | Iterable[str]] | None) -> ViewDefinition:
    """Return a checked definition."""
    kind = kind_of(view)
    if key is None:
        for cls in annotated_messages(function, position=1):
            if not hasattr(cls, kind.key):
                raise ConfigurationError(f"{function.__name__}: {cls.__name__} has no field {kind.key!r}; give key=lambda event: ...")
    name = kind.key
    return ViewDefinition(view, kind, function, key or (lambda event: str(getattr(event, name))))


def topics_of(definition: ViewDefinition) -> tuple[str, ...]:
    """Return the topics that a view is built from."""
    topics = {declaration(cls).topic for cls in annotated_messages(definition.function, position=1)}
    return tuple(sorted(topic for topic in topics if topic))


class ViewPattern:
    """One build of a view as a processor's function."""

    mode = Mode.PURE
    replayable = False
    missing = None

    def __init__(self, definition: ViewDefinition, *, build: int) -> None:
        self.name = definition.name
        self.quiet = self.messages = annotated_messages(definition.function, position=1)
        self._definition = definition
        self._build = build
        self._context = parameter_of_type(definition.function, Context)

    def _keys(self, delivery: Delivery) -> Sequence[str]:
        keys = self._definition.keys(delivery.message)
        return (keys,) if isinstance(keys, str) else tuple(keys)

    def wants(self, delivery: Delivery, work: UnitOfWork) -> None:
        """Name the documents."""
        work.documents(self._definition.view, self._build).want(self._keys(delivery))

    def react(self, delivery: Delivery, work: UnitOfWork) -> None:
        """Fold the event into each document it concerns."""
        documents = work.documents(self._definition.view, self._build)
        function, key = self._definition.function, delivery.key
        changes: dict[str, tuple[Any, bytes]] = {}
        try:
            for name in self._keys(delivery):
                document = changes[name][0] if name in changes else documents.get(name)
                delivery.key = name
                extra = {self._context: delivery} if self._context is not None else {}
                result = function(document, delivery.message, **extra)
                if result is not None:
                    after = self._checked(result)
                    changes[name] = (after, encode_json(after) if after is not None else b"")
        finally:
            delivery.key = key
        for name, (document, value) in changes.items():
            documents.put(name, document, value)

    def _checked(self, result: Any) -> Any:
        if isinstance(result, Delete):
            return None
        if not isinstance(result, self._definition.view):
            raise ConfigurationError(f"view {self.name!r} returned {type(result).__name__}, not {self._definition.view.__name__}")
        return result

    async def call(self, delivery: Delivery, work: UnitOfWork | None) -> Any:
        """Not for views."""
        raise NotImplementedError(self.name)
