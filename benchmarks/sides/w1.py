"""W1 with Millrace: count and sum of each customer in keyed state, one event out per event in, relayed to the log.

On one folder, or with ``--on servers`` on Kafka and PostgreSQL: another engine, nothing else.

The input is the twin's, byte for byte, put into the log by way of the engine's own append under the topic owner's
source. The clock runs from the start of the application until the last output is in the log. Memory is looked at when
half of the outputs are there and at the end: it has to be flat. Verified: one output per input, counts 1, 2, 3 ...
without gap or repeat per customer, last counts and sums and the stored state equal to an independent count. Prints
one JSON object.

    python -m benchmarks.sides.w1 --dir DIR [--on servers] [--n 200000] [--keys 10000] [--batch 1000]
        [--timers 1000000]
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from benchmarks.measure import check, peak_rss_mib
from benchmarks.peers.twin_sqlite import Expected, envelopes
from benchmarks.process import usage
from millrace import Application, Event, Service, State
from millrace.engines.sqlite import SqliteEngine
from millrace.partitioning import partition_of
from millrace.ports import JournalRow, Log, TimerRow, TopicSpec

INPUT, OUTPUT, PARTITIONS = "orders.in", "totals", 3
FILL = 5000
WARM = 0.3
"""The share of the outputs after which `warm_rate` begins to count."""


class OrderPlaced(Event, topic=INPUT, key="customer_id"):
    """One input."""

    order_id: str
    customer_id: str
    sku: str
    quantity: int
    unit_price: int


class TotalChanged(Event, topic=OUTPUT, key="customer_id"):
    """One output."""

    customer_id: str
    order_id: str
    count: int
    total: int


class CustomerTotal(State, key="customer_id"):
    """What is kept per customer."""

    customer_id: str
    count: int = 0
    total: int = 0


feed = Service("in", says=[OrderPlaced])
totals = Service("totals")


@totals.handler(known=CustomerTotal.by("customer_id"))
def add(event: OrderPlaced, known: CustomerTotal | None) -> tuple[CustomerTotal, TotalChanged]:
    """Add the order to its customer's total."""
    count = (known.count if known else 0) + 1
    total = (known.total if known else 0) + event.quantity * event.unit_price
    return (
        CustomerTotal(customer_id=event.customer_id, count=count, total=total),
        TotalChanged(customer_id=event.customer_id, order_id=event.order_id, count=count, total=total),
    )


class OutputEnvelope(msgspec.Struct):
    """What the check reads of an output."""

    type: str
    data: TotalChanged


Engines = Callable[[], Any]


@contextmanager
def engines(on: str, directory: str) -> Iterator[Engines]:
    """What makes engines on the same place, one for each process that a real installation would have."""
    if on == "folder":
        yield lambda: SqliteEngine(directory)
        return
    from benchmarks.servers import servers

    with servers() as found:
        yield lambda: engine_on(found, log=directory if on == "postgres" else None, instance="w1")


def engine_on(found: Any, *, log: str | None = None, instance: str = "") -> Any:
    """The engine of one process on servers of the run's own names; with a folder for the log only its stores are there."""
    from millrace import SplitEngine
    from millrace.engines.kafka import KafkaEngine, KafkaSettings
    from millrace.engines.postgres import PostgresEngine

    stores = PostgresEngine(found.postgres, namespace=found.namespace)
    if log is not None:
        return SplitEngine(log=SqliteEngine(log), stores=stores)
    return SplitEngine(log=KafkaEngine(KafkaSettings(found.kafka, namespace=f"{found.namespace}.", instance=instance)), stores=stores)


def application(engine: Any, *, batch: int = 1000) -> Application:
    """The application, of which one process runs the service that counts."""
    return Application("twin", [feed, totals], engine=engine, hosted=["totals"], batch_max=batch)


async def fill(engine: Any, n: int, keys: int, *, partitions: int = PARTITIONS) -> Expected:
    """Put the inputs into the log as the relay of their owner would; answer what the state must be in the end."""
    expect = Expected()
    log = engine.log().log
    await log.open()
    await log.ensure([TopicSpec(INPUT, partitions), TopicSpec(OUTPUT, partitions)])
    rows: list[JournalRow] = []
    sent = 0
    for position, (key, value) in enumerate(envelopes(n, keys, expect), start=1):
        rows.append(JournalRow(position, INPUT, partition_of(key, partitions), key, value))
        if len(rows) == FILL or position == n:
            sent = await log.append("/twin/in", 1, rows, after=sent)
            rows = []
    check(sent == n, f"{sent} of {n} inputs are in the log")
    await log.close()
    await engine.stop()
    return expect


async def outputs(log: Log) -> int:
    """How many outputs the log has."""
    return sum(end - first for info in await log.topics() if info.name == OUTPUT for first, end in info.ranges)


def relayed(app: Application) -> int:
    """How many outputs the log has acknowledged: each is one row of the journal."""
    return app.hosts["totals"].relay.published


async def process(app: Application, n: int) -> dict[str, float]:
    """Run the application until every output is in the log."""
    begin, cpu = time.perf_counter(), time.process_time()
    await app.start()
    half, done, warm = 0.0, 0, None
    while done < n:
        await asyncio.sleep(0.02)
        done = relayed(app)
        if warm is None and done >= WARM * n:
            warm = (done, time.perf_counter())
        if not half and done >= n // 2:
            half = usage(os.getpid()).rss_mib
        check(time.perf_counter() - begin < 300, f"{done} of {n} outputs after 300 s; {app.health()}")
    check(await outputs(app.parts.log) == n, "not every output is in the log")
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    end = usage(os.getpid()).rss_mib
    assert warm is not None
    return {
        "rate": n / seconds,
        "warm_rate": (n - warm[0]) / (begin + seconds - warm[1]),
        "cpu_us": cpu / n * 1e6,
        "rss_growth_percent": (end / half - 1) * 100,
        "rss_peak_mib": peak_rss_mib(),
    }


async def verify(app: Application, n: int, expect: Expected, *, partitions: int = PARTITIONS) -> None:
    """Compare state and every output with the independent count."""
    state: Expected = {}
    cursor = None
    more = True
    while more:
        page = await app.states(CustomerTotal).list(limit=1000, cursor=cursor)
        state.update({row.customer_id: (row.count, row.total) for row in page.items})
        cursor, more = page.next, page.next is not None
    check(state == expect, "the state differs from the independent count")
    decode = msgspec.json.Decoder(OutputEnvelope).decode
    seen: Expected = {}
    for partition in range(partitions):
        offset = 0
        while records := await app.parts.log.read(OUTPUT, partition, offset=offset, limit=5000):
            for record in records:
                out = decode(record.value).data
                count, _ = seen.get(out.customer_id, (0, 0))
                check(out.count == count + 1, f"{out.customer_id}: count {out.count} after {count}")
                seen[out.customer_id] = (out.count, out.total)
            offset = records[-1].offset + 1
    check(seen == expect, "the outputs differ from the independent count")
    check(await outputs(app.parts.log) == n, "more outputs than inputs")


async def set_timers(engine: Any, count: int) -> None:
    """Let so many timers wait for the processor that is measured; the first is due in a year."""
    store = engine.store("totals")
    await store.open()
    due = time.time_ns() // 1000 + 365 * 86_400_000_000
    for first in range(0, count, FILL):
        transaction = await store.begin()
        rows = [(f"customer-{number}", number % PARTITIONS) for number in range(first, min(first + FILL, count))]
        await transaction.timers.set(
            [TimerRow("handlers", key, "late", part, due, False, "twin.in.late.v1", b'{"customer_id":"x"}', key, key) for key, part in rows]
        )
        await transaction.commit()
    check(await store.reader.timers.count() == count, "not every timer waits")
    await store.close()
    await engine.stop()


async def run(make: Engines, *, n: int, keys: int, batch: int, timers: int) -> dict[str, object]:
    """Fill, process, verify."""
    expect = await fill(make(), n, keys)
    if timers:
        await set_timers(make(), timers)
    app = application(make(), batch=batch)
    try:
        figures = await process(app, n)
        await verify(app, n, expect)
        check(await app.hosts["totals"].store.reader.timers.count() == timers, "a timer fired, or was lost")
    finally:
        await app.stop()
    return {**figures, "batch": batch, "messages": n, "timers": timers, "verified": True}


def main() -> None:
    """Run once and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--on", choices=("folder", "servers"), default="folder")
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--timers", type=int, default=0, help="so many wait in the same store")
    args = parser.parse_args()
    with engines(args.on, args.dir) as make:
        print(json.dumps(asyncio.run(run(make, n=args.n, keys=args.keys, batch=args.batch, timers=args.timers))))


if __name__ == "__main__":
    main()
