"""Which partition a key belongs to: murmur2 as Kafka's Java clients compute it.

Source: org.apache.kafka.common.utils.Utils.murmur2 and BuiltInPartitioner; a key that Java sends to partition 2
lands in partition 2 here, so foreign producers and this toolkit agree. Neighbours: used when a row is journalled.
"""

from __future__ import annotations

import struct
from functools import lru_cache

_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_SEED = 0x9747B28C


def murmur2(data: bytes) -> int:
    """Return the 32-bit murmur2 hash of `data` as an unsigned integer."""
    length = len(data)
    h = _SEED ^ length
    words = length >> 2
    for word in struct.unpack_from(f"<{words}I", data):
        k = (word * _M) & _MASK
        k ^= k >> 24
        k = (k * _M) & _MASK
        h = ((h * _M) & _MASK) ^ k
    rest = data[4 * words :]
    if rest:
        h ^= int.from_bytes(rest, "little")
        h = (h * _M) & _MASK
    h ^= h >> 13
    h = (h * _M) & _MASK
    return h ^ (h >> 15)


@lru_cache(maxsize=1 << 16)
def partition_of(key: str, partitions: int) -> int:
    """Return the partition of `key` in a topic with `partitions` partitions."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
