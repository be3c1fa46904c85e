"""Messages: frozen typed values that services say to each other.

An `Event` is in the past tense and has many readers, a `Command` is imperative and has one owner. A message knows its name
on the wire, its topic and its key; it carries no transport state. Ids, correlation and causation are set by the runtime.

Neighbours: `serialization` turns messages into bytes; nothing here knows engines, services or the runtime.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Annotated, Any, ClassVar, cast, dataclass_transform, get_args, get_origin, get_type_hints

import msgspec

from millrace.errors import ConfigurationError
from millrace.plain_json import PlainJson

Personal = msgspec.Meta(extra={"personal": True})
"""Marks a field as personal data: `Annotated[str, Personal]`. Pages, logs and exports show it masked."""

MASK = "***"
INTERNAL_TOPICS = "internal."


class Declaration(msgspec.Struct, frozen=True):
    """What a message class declared: its place on the wire."""

    name: str
    version: int
    topic: str | None
    key: str
    internal: bool
    plain: PlainJson | None = None


def kebab(name: str) -> str:
    """Return `OrderPlaced` as `order-placed`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


@dataclass_transform(kw_only_default=True, frozen_default=True)
class MessageMeta(type(msgspec.Struct)):  # type: ignore[misc]  # the struct metaclass is untyped
    """Makes message classes frozen and keyword-only, and keeps what their class statement declares."""

    def __new__(  # noqa: PLR0913  # these are the keywords of a class statement
        mcls,
        class_name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        /,
        *,
        name: str | None = None,
        topic: str | None = None,
        key: str | None = None,
        version: int = 1,
        internal: bool | None = None,
        plain: PlainJson | None = None,
        **options: Any,
    ) -> Any:
        """Create the class; `options` go to msgspec (`tag` and the like)."""
        options.setdefault("frozen", True)
        options.setdefault("kw_only", True)
        options.setdefault("gc", False)  # frozen values of plain data make no cycles; a batch of them costs the collector nothing
        cls: Any = super().__new__(mcls, class_name, bases, namespace, **options)
        inherited: Declaration | None = getattr(cls, "__declaration__", None)
        if key is None and inherited is not None:
            key = inherited.key
        if topic is None and inherited is not None:
            topic = inherited.topic
        if key is not None:
            cls.__declaration__ = _declare(cls, name or kebab(class_name), version, topic, key, internal, plain)
        return cls


def _declare(  # noqa: PLR0917  # as in the class statement
    cls: Any,
    name: str,
    version: int,
    topic: str | None,
    key: str,
    internal: bool | None,  # noqa: FBT001  # the same
    plain: PlainJson | None,
) -> Declaration:
    if not hasattr(cls, key):
        raise ConfigurationError(f"{cls.__qualname__}: key={key!r} is not one of its fields")
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ConfigurationError(f"{cls.__qualname__}: name on the wire {name!r} must be kebab-case")
    if topic is not None and not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", topic):
        raise ConfigurationError(f"{cls.__qualname__}: topic {topic!r}: use lower-case letters, digits, '.', '_' and '-'")
    if plain is not None and topic is None:
        raise ConfigurationError(f"{cls.__qualname__}: plain= says how records of its topic are read, and it has no topic=")
    hidden = internal if internal is not None else bool(topic and topic.startswith(INTERNAL_TOPICS))
    return Declaration(name=name, version=version, topic=topic, key=key, internal=hidden, plain=plain)


class Message(msgspec.Struct, metaclass=MessageMeta):
    """A frozen value with a name on the wire.

    Class keywords: `name` (kebab-case, on the wire, default from the class name),
    `topic` (none: for timers and local commands only),
    `key` (name of the field that orders and partitions), `version` (major, default 1), `internal` (causation passes through),
    `plain` (a `PlainJson`: how plain JSON records of foreign producers become this message; not inherited).
    """

    __declaration__: ClassVar[Declaration]


class Event(Message):
    """Something that happened; published for everybody who cares."""


class Command(Message):
    """A request to the one owner of its topic."""


def declaration(cls: type[Message]) -> Declaration:
    """Return what `cls` declared.

    Raises:
        ConfigurationError: the class statement has no `key=`.
    """
    found: Declaration | None = getattr(cls, "__declaration__", None)
    if found is None:
        raise ConfigurationError(f"{cls.__qualname__} declares no key; write class {cls.__name__}(Event, topic=..., key=...)")
    return found


def name_of(cls: type[Message]) -> str:
    """Return the short name of a message class on the wire, for instance `order-placed`."""
    return declaration(cls).name


def key_of(message: Message) -> str:
    """Return the message's key as text."""
    return str(getattr(message, declaration(type(message)).key))


def masked(message: msgspec.Struct) -> dict[str, Any]:
    """Return the message as plain data with every personal field replaced by a mask."""
    hidden = personal_fields(type(message))
    values = {name: getattr(message, name) for name in message.__struct_fields__}
    return {name: MASK if name in hidden and value is not None else _masked_value(value) for name, value in values.items()}


def _masked_value(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return masked(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked_value(item) for item in cast("Iterable[Any]", value)]
    if isinstance(value, dict):
        return {key: _masked_value(item) for key, item in cast("dict[str, Any]", value).items()}
    return msgspec.to_builtins(value)


@cache
def personal_fields(cls: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the names of the fields that are marked `Personal`."""
    hints = get_type_hints(cls, include_extras=True)
    return tuple(name for name, hint in hints.items() if _is_personal(hint))


def _is_personal(hint: Any) -> bool:
    return get_origin(hint) is Annotated and any(meta is Personal or meta == Personal for meta in get_args(hint)[1:])
