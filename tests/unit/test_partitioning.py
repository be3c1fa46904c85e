"""Partitions: a key lands where Kafka's Java clients put it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.partitioning import murmur2, partition_of

JAVA = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}
"""Kafka's own test of its hash: org.apache.kafka.common.utils.UtilsTest.testMurmur2, as signed 32-bit integers."""


@pytest.mark.parametrize("text, expected", JAVA.items())
def test_the_hash_is_kafkas(text: str, expected: int) -> None:
    """The published vectors."""
    found = murmur2(text.encode())
    assert (found - (1 << 32) if found >> 31 else found) == expected


@pytest.mark.parametrize("text", JAVA)
def test_the_partition_is_kafkas(text: str) -> None:
    """The sign bit is dropped, not the sign taken away."""
    assert partition_of(text, 7) == (JAVA[text] & 0x7FFFFFFF) % 7


@given(st.text(), st.integers(1, 1000))
def test_every_key_has_a_partition(key: str, partitions: int) -> None:
    """Within range, and always the same."""
    assert 0 <= partition_of(key, partitions) < partitions
    assert partition_of(key, partitions) == partition_of(key, partitions)
