"""A program of known steps on servers, for the tests of the harness: rows go to a store and to two partitions of a topic at the same time.

    main(["20", brokers, address, namespace])      on SIGUSR1 20 rows into the store, and 20 appends of four records each

Beside what is a step it undoes a transaction, commits an empty one, and reads. Each record is told apart by its step's name.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import psycopg

from millrace.engines.kafka import KafkaSettings
from millrace.engines.kafka.client import Client
from millrace.engines.kafka.driver import NewTopic, OffsetSpec, TopicPartition
from millrace.engines.kafka.producer import Outgoing, RowProducer
from millrace.engines.kafka.scanning import scan
from millrace.engines.postgres import PostgresEngine
from millrace.ports import Store

SERVICE = "teller"
TOPIC = "counted"
PARTITIONS = 2
OF_EACH = 2


def main(arguments: Sequence[str]) -> int:
    """Write, and return the number of rows as the exit status."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    rows, *places = arguments
    asyncio.run(_run(int(rows), *places))
    return int(rows)


async def _run(rows: int, brokers: str, address: str, namespace: str) -> None:
    engine = PostgresEngine(address, namespace=namespace)
    settings = KafkaSettings(brokers, namespace=f"{namespace}.")
    client = Client(settings)
    topic = settings.topic(TOPIC)
    await client.answers(client.admin.create_topics([NewTopic(topic, PARTITIONS, 1)]), what="making topic")
    store, producer = engine.store(SERVICE), RowProducer(client)
    await store.open()
    producer.start()
    await _once(store, "create table fact (number bigint)")
    print("ready", flush=True)
    await asyncio.to_thread(signal.sigwait, {signal.SIGUSR1})
    await asyncio.gather(_write(store, rows), _append(producer, topic, rows))
    producer.stop()
    await store.close()
    await engine.stop()


async def _write(store: Store, rows: int) -> None:
    for number in range(1, rows + 1):
        await _once(store, "insert into fact values (%s)", number)
        undone = await store.begin()
        await undone.execute("insert into fact values (0)")
        await undone.rollback()
        await _once(store, "select * from fact")


async def _once(store: Store, sql: str, *values: Any) -> None:
    transaction = await store.begin()
    await transaction.execute(sql, *values)
    await transaction.commit()


async def _append(producer: RowProducer, topic: str, rows: int) -> None:
    for number in range(1, rows + 1):
        names = [f"{number}-{partition}-{each}" for partition in range(PARTITIONS) for each in range(OF_EACH)]
        await producer.send([Outgoing(topic, int(name.split("-")[1]), None, json.dumps({"kind": name}).encode(), None) for name in names])


def rows_in(address: str, namespace: str) -> int:
    """Return how many rows are durable in the store; they are in order."""
    with closing(psycopg.connect(address)) as connection:
        found = [number for (number,) in connection.execute(f'select number from "{namespace}_{SERVICE}".fact order by 1').fetchall()]
    assert found == list(range(1, len(found) + 1)), found
    return len(found)


async def records_in(brokers: str, namespace: str) -> set[str]:
    """Return the names of the records that the brokers have."""
    settings = KafkaSettings(brokers, namespace=f"{namespace}.")
    client = Client(settings)
    places = [TopicPartition(settings.topic(TOPIC), partition) for partition in range(PARTITIONS)]
    ends = await client.offsets(dict.fromkeys(places, OffsetSpec.latest()))
    found: list[str] = []
    await scan(
        client,
        {(place.topic, place.partition): (0, end) for place, end in ends.items()},
        lambda _, record: found.append(json.loads(record.value)["kind"]),
    )
    client.close()
    assert len(found) == len(set(found)), found
    return set(found)
