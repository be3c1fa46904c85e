"""Messages: what a class statement declares, and what is refused."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest

from millrace import Command, ConfigurationError, Event, Personal, masked
from millrace.message import declaration, kebab, key_of, personal_fields


class Address(msgspec.Struct, frozen=True):
    """Where somebody lives."""

    street: str


class OrderPlaced(Event, topic="orders", key="order_id", version=2):
    """An order was placed."""

    order_id: int
    ship_to: Annotated[Address, Personal]
    email: Annotated[str | None, Personal] = None
    note: str = ""


@pytest.mark.parametrize("name, expected", [("OrderPlaced", "order-placed"), ("HTTPSeen", "http-seen"), ("A", "a"), ("Is2Old", "is2-old")])
def test_names_on_the_wire(name: str, expected: str) -> None:
    """The default name is the class name in kebab-case."""
    assert kebab(name) == expected


def test_declaration() -> None:
    """What is declared can be read; keys are text."""
    found = declaration(OrderPlaced)
    assert (found.name, found.version, found.topic, found.key, found.internal) == ("order-placed", 2, "orders", "order_id", False)
    assert key_of(OrderPlaced(order_id=7, ship_to=Address("x"))) == "7"


def test_messages_are_frozen_and_named() -> None:
    """A message cannot be changed, and its fields are given by name."""
    message = OrderPlaced(order_id=7, ship_to=Address("x"))
    with pytest.raises(AttributeError):
        message.order_id = 8  # type: ignore[misc]
    with pytest.raises(TypeError):
        OrderPlaced(7, Address("x"))  # type: ignore[misc]


def test_internal_topics_hide_their_messages() -> None:
    """A topic below `internal.` is an implementation detail unless the class says otherwise."""

    class Charge(Command, topic="internal.payments", key="order_id"):
        order_id: str

    class Open(Command, topic="internal.payments", key="order_id", internal=False):
        order_id: str

    assert declaration(Charge).internal
    assert not declaration(Open).internal


def test_subclasses_inherit_topic_and_key() -> None:
    """A family of messages declares its topic and key once."""

    class OrderEvent(Event, topic="orders", key="order_id"):
        order_id: str

    class Cancelled(OrderEvent):
        reason: str

    assert (declaration(Cancelled).topic, declaration(Cancelled).key, declaration(Cancelled).name) == ("orders", "order_id", "cancelled")


def test_personal_data_is_masked() -> None:
    """Personal fields are replaced where they hold something, the others are shown as they are."""
    assert personal_fields(OrderPlaced) == ("ship_to", "email")
    shown = masked(OrderPlaced(order_id=7, ship_to=Address("Main Street"), note="n"))
    assert shown == {"order_id": 7, "ship_to": "***", "email": None, "note": "n"}


def test_mistakes_are_named() -> None:
    """A key that is no field, a name that is not kebab-case, a class without a key."""
    with pytest.raises(ConfigurationError, match="no_field"):

        class Wrong(Event, topic="t", key="no_field"):
            id: str

    with pytest.raises(ConfigurationError, match="kebab"):

        class AlsoWrong(Event, topic="t", key="id", name="Not Kebab"):
            id: str

    class Keyless(Event):
        id: str

    with pytest.raises(ConfigurationError, match="declares no key"):
        declaration(Keyless)


@pytest.mark.parametrize("topic", ["with space", "a/b", "Größe", "a=1", "", "a;b", "a,b"])
def test_topics_that_no_position_could_name_are_refused(topic: str) -> None:
    """A topic's name travels in positions and cursors, so it has their alphabet."""
    with pytest.raises(ConfigurationError, match="topic"):

        class Somewhere(Event, topic=topic, key="id"):
            id: str
