"""Bytes: whatever comes in, decoding either gives a message or says why not, and nothing else escapes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace import Command, ConfigurationError, Event
from millrace.errors import DecodeError
from millrace.serialization import RECORD_BYTES_MAX, Catalogue, Envelope, encode_json, open_envelope, pack_sequence, seal


class Added(Event, topic="tally.private", key="name"):
    """A name was counted up."""

    name: str
    n: int = 1
    tags: dict[str, list[int]] = msgspec.field(default_factory=dict)


class Charge(Command, topic="internal.payments", key="name"):
    """An internal command."""

    name: str


class Later(Command, key="name"):
    """A command without a topic."""

    name: str


CATALOGUE = Catalogue("shop")
CATALOGUE.add([Added, Charge, Later], service="counter")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def opened(value: bytes) -> tuple[str | None, Envelope | None]:
    """Why it does not open, or the envelope."""
    try:
        return None, open_envelope(value)
    except DecodeError as error:
        return error.reason, None


def test_names_on_the_wire_know_no_python() -> None:
    """Application, context, name and version; the context is the topic's first part, or the service without one."""
    assert CATALOGUE.type_of(Added) == "shop.tally.added.v1"
    assert CATALOGUE.type_of(Charge) == "shop.payments.charge.v1"
    assert CATALOGUE.type_of(Later) == "shop.counter.later.v1"
    assert CATALOGUE.class_of("shop.tally.added.v1") is Added
    assert CATALOGUE.class_of("shop.tally.added.v2") is None


def test_one_name_means_one_class() -> None:
    """Two classes of one type on the wire are refused, the same class twice is not, an unknown one is named."""

    class Other(Event, name="added", topic="tally", key="name"):
        name: str

    CATALOGUE.add([Added], service="another")
    with pytest.raises(ConfigurationError, match=r"shop\.tally\.added\.v1"):
        CATALOGUE.add([Other], service="counter")
    with pytest.raises(ConfigurationError, match="Other"):
        Catalogue("shop").type_of(Other)


@given(st.text(), st.integers(), st.dictionaries(st.text(), st.lists(st.integers())))
def test_messages_come_back(name: str, n: int, tags: dict[str, list[int]]) -> None:
    """What was sealed opens to the same envelope and message, for every text."""
    message = Added(name=name, n=n, tags=tags)
    sealed = seal(Envelope("1", "/shop/counter", "shop.tally.added.v1", subject=name, data=msgspec.Raw(encode_json(message))))
    envelope = open_envelope(sealed)
    assert envelope.subject == name
    assert CATALOGUE.decode(envelope.type, envelope.data) == message
    assert envelope.specversion == "1.0"


@given(st.binary(max_size=300))
def test_any_bytes_open_or_say_why_not(value: bytes) -> None:
    """Arbitrary bytes raise nothing but `DecodeError`."""
    reason, _ = opened(value)
    assert reason in {None, "undecodable"}


@given(JSON, st.sampled_from(["shop.tally.added.v1", "unknown.v1"]))
def test_any_json_decodes_or_says_why_not(data: object, wire: str) -> None:
    """A sound envelope around whatever data raises nothing but `DecodeError`."""
    try:
        found = CATALOGUE.decode(wire, encode_json(data))
    except DecodeError:
        return
    assert found is None or isinstance(found, Added)


@given(st.dictionaries(st.sampled_from(["id", "source", "type", "specversion", "data", "subject", "time", "sequence"]), JSON))
def test_any_envelope_opens_or_says_why_not(attributes: dict[str, object]) -> None:
    """Attributes of any kind, missing or too many, raise nothing but `DecodeError`."""
    reason, envelope = opened(encode_json(attributes))
    assert reason == "undecodable" or (envelope is not None and envelope.id and envelope.source and envelope.type)


@pytest.mark.parametrize("opening, closing", [(b"[", b"]"), (b'{"a":', b"}")])
def test_deep_nesting_is_undecodable(opening: bytes, closing: bytes) -> None:
    """A nesting that exhausts the decoder's stack is the record's fault, in the envelope as in the data."""
    deep = opening * 50_000 + b"1" + closing * 50_000
    with pytest.raises(DecodeError, match="undecodable"):
        open_envelope(b'{"specversion":"1.0","id":"1","source":"/x","type":"t","extra":' + deep + b"}")
    with pytest.raises(DecodeError, match="invalid"):
        CATALOGUE.decode("shop.tally.added.v1", b'{"name":"a","unknown":' + deep + b"}")


def test_oversized_records_are_not_read() -> None:
    """The limit is named with the size that was found."""
    open_envelope(b'{"specversion":"1.0","id":"1","source":"/x","type":"t"}'.ljust(RECORD_BYTES_MAX))
    with pytest.raises(DecodeError, match=f"{RECORD_BYTES_MAX + 1} bytes") as error:
        open_envelope(b" " * (RECORD_BYTES_MAX + 1))
    assert error.value.reason == "oversized"


@pytest.mark.parametrize("lacking", ["id", "source", "type"])
def test_required_attributes(lacking: str) -> None:
    """CloudEvents 1.0 requires these, and not to be empty."""
    sound = {"specversion": "1.0", "id": "1", "source": "/x", "type": "t"}
    for broken in (
        {**sound, lacking: ""},
        {name: value for name, value in sound.items() if name != lacking},
        {**sound, "specversion": "0.3"},
    ):
        with pytest.raises(DecodeError, match="undecodable"):
            open_envelope(encode_json(broken))


@given(st.integers(0, 10**19 - 1), st.integers(0, 10**19 - 1))
def test_sequences_sort_as_numbers(a: int, b: int) -> None:
    """Text order of sequences is number order."""
    assert (pack_sequence(a) < pack_sequence(b)) == (a < b)
    assert len(pack_sequence(a)) == 19
