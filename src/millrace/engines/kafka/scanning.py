"""Reading partitions from end to end once, beside the streams that processors share: for take-overs and for the ledger.

Neighbours: `log` scans for `relaying` and counts for the ledger.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from millrace.engines.kafka.client import ANSWER_S, RECORD_MAX, Client
from millrace.engines.kafka.driver import Codes, Consumer, Message, TopicPartition
from millrace.engines.kafka.fetcher import Place, record_of
from millrace.ports import Record

Take = Callable[[Place, Record], None]


async def scan(client: Client, ranges: Mapping[Place, tuple[int, int]], take: Take) -> None:
    """Read partitions (by their names on the brokers) over ranges of offsets, in a thread.

    Raises:
        StoreUnavailable: the brokers do not answer.
    """
    wanted = {place: (first, end) for place, (first, end) in ranges.items() if end > first}
    if wanted:
        await asyncio.to_thread(_scan, client, wanted, take)


def _scan(client: Client, ranges: dict[Place, tuple[int, int]], take: Take) -> None:
    consumer = client.made(
        Consumer,
        group_id=f"{client.settings.namespace}__millrace.readers",
        client_id="millrace-scan",
        enable_auto_commit=False,
        enable_partition_eof=True,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        message_max_bytes=RECORD_MAX,
    )
    try:
        consumer.assign([TopicPartition(topic, partition, first) for (topic, partition), (first, _) in ranges.items()])
        _drain(client, consumer, {place: end for place, (_, end) in ranges.items()}, take)
    finally:
        consumer.close()


def _drain(client: Client, consumer: Any, ends: dict[Place, int], take: Take) -> None:
    patience = time.monotonic() + ANSWER_S
    while ends:
        message: Message | None = consumer.poll(0.1)
        if message is None:
            client.check(since=patience - ANSWER_S)
            if time.monotonic() > patience:
                raise client.silent("reading a topic from end to end")
            continue
        patience = time.monotonic() + ANSWER_S
        batch: list[Message] = [message, *consumer.consume(5000, 0)]
        for each in batch:
            place = (each.topic(), each.partition())
            error, offset = each.error(), each.offset()
            if error is not None and error.code() != Codes.END:
                raise client.unavailable(error, what=f"reading {place[0]}/{place[1]}", right=f"READ on topic {place[0]}")
            if error is None and offset < ends.get(place, 0):
                take(place, record_of(each))
            if offset + (error is None) >= ends.get(place, 1 << 62):
                del ends[place]


__all__ = ["scan"]
